"""What is wrong with the keys of a file and their values, at every level."""

from __future__ import annotations

import pytest

from bad_files import bad, check_refused, task
from flowd.authoring.format import OUTPUT, PIPELINE, TASK

UNKNOWN = [
    bad("unknown in the pipeline", "name: p\n‹taskz: {}\ntasks: {a: {run: x}}\n",
        ("unknown_key", "taskz", "no key of a pipeline", "did you mean `tasks`?")),
    bad("unknown in a task", task("run: x, ‹nedes: [b]"),
        ("unknown_key", "tasks.a.nedes", "no key of a task", "did you mean `needs`?")),
    bad("unknown, and nothing like it", task("run: x, ‹zzz: 1"),
        ("unknown_key", "tasks.a.zzz", "no key of a task", "a task has the keys `call`, `run`")),
    bad("unknown in defaults", task("run: x", "defaults: {‹timeuot: 1s}\n"),
        ("unknown_key", "defaults.timeuot", "no key of `defaults`", "did you mean `timeout`?")),
    bad("a task's key in defaults", task("run: x", "defaults: {‹needs: [a]}\n"),
        ("unknown_key", "defaults.needs", "`needs` belongs to a task", "defaults are `allow_failure`")),
    bad("an item in a question", task("run: x, foreach: [1, 2], approve: {message: ‹'{{ item }}?'}"),
        ("unknown_name", "tasks.a.approve.message", "`item` means nothing here", "in a task of its own")),
    bad("an item in what is shown", task("run: x, foreach: [1, 2], approve: {show: [‹'{{ index }}.txt']}"),
        ("unknown_name", "tasks.a.approve.show[0]", "`index` means nothing here", "in a task of its own")),
    bad("unknown in retry", task("run: x, retry: {attempts: 2, ‹dealy: 1s}"),
        ("unknown_key", "tasks.a.retry.dealy", "no key of `retry`", "did you mean `delay`?")),
    bad("unknown in a parameter", task("run: x", "params: {n: {‹tpye: int}}\n"),
        ("unknown_key", "params.n.tpye", "no key of parameter `n`", "did you mean `type`?")),
    bad("unknown in an output", task("run: x, outputs: [{path: o, ‹chekpoint: true}]"),
        ("unknown_key", "tasks.a.outputs[0].chekpoint", "no key of an output", "did you mean `checkpoint`?")),
    bad("unknown in an input", task("run: x, inputs: [{path: o, ‹paht: i}]"),
        ("unknown_key", "tasks.a.inputs[0].paht", "no key of an input", "did you mean `path`?")),
    bad("unknown in a limit", task("run: x", "limits: {cpu: {capacity: 1, ‹capactiy: 2}}\n"),
        ("unknown_key", "limits.cpu.capactiy", "no key of a limit", "did you mean `capacity`?")),
    bad("unknown in log", task("run: x", "log: {‹levl: info}\n"),
        ("unknown_key", "log.levl", "no key of `log`", "did you mean `level`?")),
    bad("markup as a key", task("run: x, ‹<script>alert(1)</script>: 1"),
        ("unknown_key", "tasks.a.<script>alert(1)</script>", "no key of a task", "")),
    bad("a template as a key", task('run: x, ‹"{{ params.x }}": 1').replace("{{ params.x }}", "{{params.x}}"),
        ("unknown_key", "tasks.a.{{params.x}}", "no key of a task", "")),
    bad("a key of 200 characters", task(f"run: x, ‹{'k' * 100}: 1"),
        ("unknown_key", f"tasks.a.{'k' * 60}…", "k…` is no key", "")),
]  # fmt: skip

MISSING = [
    bad("no tasks", "‹name: p\n", ("missing_key", "", "needs the key `tasks`", "write `tasks:`")),
    bad("no name", "‹tasks: {a: {run: x}}\n", ("missing_key", "", "needs the key `name`", "The pipeline's name")),
    bad("empty tasks", "name: p\n‹tasks: {}\n", ("no_tasks", "tasks", "there is no task", "at least one")),
    bad("tasks as a list", "name: p\ntasks: ‹[a, b]\n",
        ("wrong_type", "tasks", "a mapping is expected, and this is a list", "tasks by name")),
    bad("tasks of nothing", "name: p\ntasks:‹\n", ("wrong_type", "tasks", "and nothing is here", "tasks by name")),
    bad("a task of nothing", "name: p\ntasks:\n  a:‹\n",
        ("wrong_type", "tasks.a", "a mapping of the task's keys is expected", "write {run: command}")),
    bad("a task as a text", "name: p\ntasks: {a: ‹echo}\n", ("wrong_type", "tasks.a", "the text `echo`", "write {run:")),
    bad("no action", task("needs: []").replace("{a", "{‹a"), ("no_action", "tasks.a", "task `a` does nothing", "call: m")),
    bad("two actions", task("call: m:f, ‹run: x"), ("two_actions", "tasks.a.run", "one action", "make two tasks"),
        m="def f(): pass\n"),
    bad("with beside run", task("run: x, ‹with: {n: 1}"), ("unfit_key", "tasks.a.with", "beside `run`", "pass it by")),
    bad("shell beside a list", task("run: [x], ‹shell: bash"), ("unfit_key", "tasks.a.shell", "which no shell", "remove")),
    bad("cwd beside call", task("call: m:f, ‹cwd: d"), ("unfit_key", "tasks.a.cwd", "beside `call`", "remove it"),
        m="def f(): pass\n"),
    bad("retry without attempts", task("run: x, ‹retry: {delay: 1s}"),
        ("missing_key", "tasks.a.retry", "needs the key `attempts`", "How many tries")),
    bad("an output without a path", task("run: x, outputs: [‹{optional: true}]"),
        ("missing_key", "tasks.a.outputs[0]", "needs the key `path`", "The path")),
]  # fmt: skip


def wrong(key: str, value: str, message: str, hint: str = "", code: str = "wrong_type", at: str = "") -> object:
    """A task's key with a value of the wrong type."""
    return bad(f"{key}: {value}", task(f"run: x, {key}: ‹{value}"), (code, f"tasks.a.{at or key}", message, hint))


WRONG = [
    wrong("description", "[a]", "a text is expected, and this is a list"),
    wrong("description", "3.10", "and this is `3.10`", 'write "3.10" in quotes'),
    wrong("needs", "3", "a list of tasks, or one name is expected, and this is `3`", "write [task, task]"),
    wrong("inputs", "a.txt", "a list is expected, and this is the text `a.txt`", "write [a.txt]"),
    wrong("outputs", "true", "a list is expected, and this is `true`", "write [data/clean.csv]"),
    wrong("idempotent", '"false"', "true or false is expected, and this is the text `false`"),
    wrong("cache", "1", "true or false is expected, and this is `1`"),
    wrong("priority", "high", "a number is expected, and this is the text `high`"),
    wrong("priority", ".nan", "is no number that can be kept", code="bad_value"),
    wrong("timeout", "10", "`10` is no duration", "write `10s` for seconds", "bad_duration"),
    wrong("timeout", "0s", "more than zero", "`none` for no bound", "bad_duration"),
    wrong("timeout", "10 m", "`10 m` is no duration", "200ms, 30s", "bad_duration"),
    wrong("timeout", "-5s", "`-5s` is no duration", "", "bad_duration"),
    wrong("timeout", "1m1h", "`1m1h` is no duration", "", "bad_duration"),
    wrong("timeout", "999999d", "`999999d` is no duration", "", "bad_duration"),
    wrong("grace", "[1s]", "a duration is expected, and this is a list", "200ms"),
    wrong("fresh_for", "soon", "`soon` is no duration", "7d", "bad_duration"),
    wrong("retry", "3", "a mapping is expected", "write {attempts: 3}"),
    wrong("executor", "proces", "`proces` is none of `async`", "did you mean `process`?", "bad_value"),
    wrong("executor", "dask", "`dask` is not supported yet", "use `async`", "not_yet"),
    wrong("executor", "[shell]", "one of `async`, `thread`, `process`, `shell`, `service` is expected"),
    wrong("shell", "powershell", "not supported yet", "use `sh`, `bash`", "not_yet"),
    wrong("shell", "fish", "none of `sh`, `bash`", "did you mean `sh`?", "bad_value"),
    wrong("when", "3", "a text is expected, and this is `3`", 'write "3" in quotes'),
    wrong("when", "a ==", "is no expression", code="bad_expression"),
    wrong("when", "'{{ params.x }}'", "`when` is an expression by itself", "write `params.x`", "bad_expression"),
    wrong("when", "tusks.a", "`tusks` is not known here", "did you mean `tasks`?", "unknown_name"),
    wrong("when", "exit_code == 3", "`exit_code` is not known here", code="unknown_name"),
    bad("a secret in a condition", task("run: x, when: ‹secrets.KEY", "secrets: {KEY: {env: KEY}}\n"),
        ("secret_misplaced", "tasks.a.when", "a secret cannot stand in `when`", "in `env` or `with`")),
    wrong("allow_failure", "3", "true, false, an expression or a list of exit codes is expected", "write [3, 75]"),
    wrong("allow_failure", "exit_code =", "is no expression", code="bad_expression"),
    bad("exit codes that are none", task("run: x, allow_failure: [‹0, ‹256, ‹true]"),
        ("bad_value", "tasks.a.allow_failure[0]", "no exit code of a failure", "1 to 255"),
        ("bad_value", "tasks.a.allow_failure[1]", "no exit code of a failure", "1 to 255"),
        ("wrong_type", "tasks.a.allow_failure[2]", "an exit code is expected", "")),
    wrong("trigger_rule", "all_success", "is none of `all_succeeded`", "did you mean `all_succeeded`?", "bad_value"),
    bad("a rule over no needs", task("run: x, trigger_rule: ‹any_failed"),
        ("unfit_key", "tasks.a.trigger_rule", "for a task that needs none", "name its `needs`")),
    wrong("code", "steps", "a list is expected", "write [steps]"),
    bad("logs: a mapping", task("run: x, ‹logs: {a: b}"), ("wrong_type", "tasks.a.logs", "this is a mapping", "[rows")),
    wrong("uses", "cpu", "a mapping is expected", "write {cpu: 2}"),
    wrong("cwd", '""', "`` is no path", "relative to the file's folder", "bad_path"),
    bad("attempts below one", task("run: x, retry: {attempts: ‹-1}"),
        ("bad_value", "tasks.a.retry.attempts", "at least 1, and is `-1`", "")),
    bad("attempts without end", task("run: x, retry: {attempts: ‹99999999999}"),
        ("bad_value", "tasks.a.retry.attempts", "less than 2147483648", "")),
    bad("attempts in part", task("run: x, retry: {attempts: ‹2.5}"),
        ("wrong_type", "tasks.a.retry.attempts", "a whole number is expected, and this is `2.5`", "")),
    bad("a backoff unknown", task("run: x, retry: {attempts: 2, backoff: ‹liner}"),
        ("bad_value", "tasks.a.retry.backoff", "`liner` is none of", "did you mean `linear`?")),
    bad("an exit code of success", task("run: x, retry: {attempts: 2, on: [‹0, ‹no way]}"),
        ("bad_value", "tasks.a.retry.on[0]", "no exit code of a failure", "1 to 255"),
        ("bad_value", "tasks.a.retry.on[1]", "no exception name", "write a name")),
    bad("an environment variable's name", task('run: x, env: {‹9A: "1", B: ‹[c]}'),
        ("bad_name", "tasks.a.env.9A", "no name of an environment variable", "letters"),
        ("wrong_type", "tasks.a.env.B", "a text is expected, and this is a list", "")),
    bad("a limit of less than nothing", task("run: x", "limits: {cpu: ‹-1}\n"),
            ("bad_value", "limits.cpu", "more than zero, and is `-1`", "")),
    bad("a limit for each key of any name", task("run: x", 'limits: {‹"*": 1}\n'), ("bad_name", "limits.*", "no name", "letters")),
    bad("a limit that says nothing", task("run: x", "limits: {‹cpu: {}}\n"),
        ("missing_key", "limits.cpu", "says nothing", "{rate: 10/minute}")),
    bad("more than there is for a key", task("run: x, uses: {db-orders: ‹3}", 'limits: {"db-*": 2}\n'),
        ("over_limit", "tasks.a.uses.db-orders", "which has 2", "use less")),
    bad("rates that are none",
        task("run: x", "limits: {a: {rate: ‹fast}, b: {rate: ‹10}, c: {rate: ‹0/minute}, d: {rate: ‹1.5/minute}, "
             "e: {rate: ‹10/fortnight}, f: {rate: ‹1000000/day}, g: {rate: ‹1/0s}}\n"),
        ("bad_rate", "limits.a.rate", "`fast` is no rate", "10/minute"),
        ("wrong_type", "limits.b.rate", "a rate is expected", "10/minute"),
        ("bad_rate", "limits.c.rate", "has to be from 1", "at least 1"),
        ("bad_rate", "limits.d.rate", "`1.5/minute` is no rate", "whole number"),
        ("bad_rate", "limits.e.rate", "`10/fortnight` is no rate", "second, minute"),
        ("bad_rate", "limits.f.rate", "to 100000", "shorter time"),
        ("bad_rate", "limits.g.rate", "`1/0s` is no rate", "second, minute")),
    bad("max_concurrency of nothing", task("run: x", "max_concurrency: ‹0\n"),
        ("bad_value", "max_concurrency", "at least 1, and is `0`", "")),
    bad("a deadline as a word", task("run: x", "deadline: ‹tomorrow\n"), ("bad_duration", "deadline", "`tomorrow`", "30s")),
    bad("a console unknown", task("run: x", "log: {console: ‹stdotu, format: ‹xml}\n"),
        ("bad_value", "log.console", "`stdotu`", "did you mean `stdout`?"), ("bad_value", "log.format", "`xml`", "json")),
    bad("an empty command", task('run: ‹""'), ("bad_value", "tasks.a.run", "the command is empty", "what to run")),
    bad("an empty vector", task("run: ‹[]"), ("bad_value", "tasks.a.run", "the command is empty", "[program")),
    bad("a command of maps", task("run: [x, ‹{a: b}]"), ("wrong_type", "tasks.a.run[1]", "a text is expected", "")),
    bad("NUL in a command", task('run: ‹"x\\0y"'), ("bad_text", "tasks.a.run", "a NUL character", "remove it")),
    bad("a call without a function", task("call: ‹steps.py"), ("bad_call", "tasks.a.call", "names no function", "steps:clean")),
    bad("a call with arguments", task('call: ‹"os:system(1)"'), ("bad_call", "tasks.a.call", "names no function", "module:")),
    bad("a call by path", task("call: ‹../steps:f"), ("bad_call", "tasks.a.call", "names no function", "module:")),
]  # fmt: skip


def later(name: str, where: str) -> object:
    """A key that belongs to the format and has no meaning yet."""
    text = {
        "pipeline": f"name: p\n‹{name}: x\ntasks: {{a: {{run: x}}}}\n",
        "task": task(f"run: x, ‹{name}: x"),
        "output": task(f"run: x, outputs: [{{path: o, ‹{name}: x}}]"),
    }[where]
    path = {"pipeline": "", "task": "tasks.a.", "output": "tasks.a.outputs[0]."}[where]
    said = ("not_yet", path + name, f"`{name}` is not supported yet", "leave it out")
    return bad(f"not yet: {name} of {where}", text, said)


LATER = [
    *(later(name, "pipeline") for name, key in PIPELINE.items() if key.later),
    *(later(name, "task") for name, key in TASK.items() if key.later),
    *(later(name, "output") for name, key in OUTPUT.items() if key.later),
]


@pytest.mark.parametrize("case", [*UNKNOWN, *MISSING, *WRONG, *LATER])
def test_a_mistaken_key_or_value_is_refused_with_its_place(case, tmp_path, capsys, monkeypatch):
    """Each problem has its code, place and remedy, and the command ends with 2 and a line for each."""
    check_refused(case, tmp_path, capsys, monkeypatch)
