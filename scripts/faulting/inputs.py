"""Mistaken pipeline files, made from the table of the format itself, and near misses that are none.

Each is given to `flowd validate` as a process of its own: refused with exit 2, its file, line and key, in
bounded time and memory, or taken with exit 0.
"""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from threading import Lock

from faulting.family import Broken, Order, Report, Violation, lead_each
from flowd.authoring import format as keys
from flowd.authoring.format import Key

P99_S = 0.5
"""Seconds of a processor that 99 of 100 bad files may take."""
MANY = 400
"""Files of which 99 in 100 say something."""
MEMORY = 256 << 20
MISTAKEN = 2
SOUND = "name: p\ntasks: {a: {run: x}}\n"
LINE = re.compile(r"p\.yaml(:\d+)?(:\d+)?  \S")
WRAPS: Mapping[str, tuple[Mapping[str, Key], str, str, str]] = {
    # what a table's keys stand in: before, after, and the path to them
    "pipeline": (keys.PIPELINE, "name: p\ntasks: {a: {run: x}}\n", "\n", ""),
    "task": (keys.TASK, "name: p\ntasks:\n  a:\n    run: x\n    ", "\n", "tasks.a."),
    "retry": (keys.RETRY, "name: p\ntasks:\n  a:\n    run: x\n    retry:\n      attempts: 2\n      ", "\n",
              "tasks.a.retry."),
    "output": (keys.OUTPUT, "name: p\ntasks:\n  a:\n    run: x\n    outputs:\n    - path: o\n      ", "\n",
               "tasks.a.outputs[0]."),
    "param": (keys.PARAM, "name: p\ntasks: {a: {run: x}}\nparams:\n  n:\n    ", "\n", "params.n."),
    "limit": (keys.LIMIT, "name: p\ntasks: {a: {run: x}}\nlimits:\n  c:\n    ", "\n", "limits.c."),
    "log": (keys.LOG, "name: p\ntasks: {a: {run: x}}\nlog:\n  ", "\n", "log."),
}  # fmt: skip
GIVEN = {"pipeline": {"name", "tasks"}, "task": {"run"}, "retry": {"attempts"}, "output": {"path"}}
WRONG = {
    "a tag": "!!python/object/apply:os.system [touch canary]",
    "an alias of nothing": "*nothing",
    "a mapping of nonsense": "{zzz: {zzz: zzz}}",
    "a date": "2026-13-45",
    "a text of markup": "'<script>alert(1)</script>'",
    "a code for terminals": '"\\e[31m\\x07"',
    "an unclosed expression": "'{{ params.'",
    "code": '\'{{ __import__("os").system("touch canary") }}\'',
    "not a number": ".nan",
    "minus one": "-1",
}
"""Values, most of which are wrong under most keys; where one is right, the file is no bad one."""
ALWAYS = ("a tag", "an alias of nothing")


@dataclass(frozen=True)
class Input:
    """A file; `line` and `key` are where the first problem is, where that is known. `good` ones are taken."""

    what: str
    text: str
    line: int | None = None
    key: str = ""
    good: bool = False
    wanted: str = ""


def run(order: Order, report: Report) -> None:
    """As many of the files as the size says, bad and good by turns; then the times of all."""
    inputs = [one for pair in zip_longest(bad(), good()) for one in pair if one is not None]
    lock, times = Lock(), list[float]()

    def trial(seed: int) -> None:
        given = inputs[(seed - 1) % len(inputs)]
        with report.trial(order, seed) as folder:
            took = _judge(given, folder)
            if not given.good:
                with lock:
                    times.append(took)
            report.did("files taken" if given.good else "files refused")
        report.did("files")

    lead_each(order, report, trial)
    if len(times) >= MANY and (slow := sorted(times)[len(times) * 99 // 100]) > P99_S:
        report.broke(Violation(order.seed, f"one bad file of 100 takes more than {slow:.2f}s", None))


def _judge(given: Input, folder: Path) -> float:
    """Give one file to the command; the seconds of a processor that it took. Broken where that goes wrong."""
    (folder / "p.yaml").write_text(given.text, encoding="utf-8")
    before = sorted(os.listdir(folder))
    with (folder.parent / f"{folder.name}.err").open("w+b") as err:
        process = subprocess.Popen(
            [sys.executable, "-B", "-m", "flowd", "validate", "p.yaml"],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err,
        )  # fmt: skip
        assert process.stdout is not None
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stdout.close()
        took = usage.ru_utime + usage.ru_stime
        err.seek(0)
        said = err.read().decode("utf-8", "replace")
    whole = f"{given.what}: exit {process.returncode}: {said[:600]}\n---\n{given.text[:600]}"
    if "Traceback" in said or "error of its own" in said or sorted(os.listdir(folder)) != before:
        raise Broken(f"a traceback, or something was written: {whole}")
    # a process is charged with the peak of the one that begins it: begun by a large one, it cannot be told apart
    if usage.ru_maxrss << 10 > max(MEMORY, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10):
        raise Broken(f"it takes {usage.ru_maxrss >> 10} MB: {whole}")
    if given.good:
        if process.returncode or said or not out.startswith(b"p.yaml: ok"):
            raise Broken(f"a sound file is refused: {whole}")
        return took
    if process.returncode != MISTAKEN or out:
        raise Broken(f"a bad file is not refused: {whole}")
    _check_lines(given, said, whole)
    return took


def _check_lines(given: Input, said: str, whole: str) -> None:
    lines = said.splitlines()
    if not lines or any(not LINE.match(line) or not line.isprintable() or len(line) > 1_500 for line in lines):
        raise Broken(f"what is said is not FILE:LINE:COLUMN  what: {whole}")
    place = "p.yaml" + (f":{given.line}:" if given.line is not None else "")
    named = [line for line in lines if line.startswith(place)]
    if given.key:
        named = [line for line in named if f"  {given.key}" in line or f"`{given.key.rpartition('.')[2]}`" in line]
    if not named or given.wanted not in said:
        raise Broken(f"no line for {place} {given.key} {given.wanted}: {whole}")


# --- bad files -------------------------------------------------------------------------------------------


def bad() -> Iterator[Input]:
    """Every key misspelt, doubled, and with values of the wrong kind; and what is wrong as a whole."""
    for table, (known, before, after, path) in WRAPS.items():
        line = before.count("\n") + 1
        for name, key in known.items():
            if len(name) > 3 and name not in GIVEN.get(table, ()):
                for wrong in (name[:-2] + name[-1] + name[-2], name + name[-1]):
                    if wrong not in known:
                        yield Input(f"{table}: {name} misspelt", f"{before}{wrong}: x{after}", line, path + wrong)
            if key.later:
                text = f"{before}{name}: x{after}"
                yield Input(f"{table}: {name}, to come", text, line, path + name, wanted="not supported yet")
                continue
            if name in GIVEN.get(table, ()):
                continue
            twice = f"{before}{name}: x\n{' ' * _indent(before)}{name}: x{after}"
            yield Input(f"{table}: {name} twice", twice, line + 1, wanted=f"`{name}` is given twice")
            for what in ALWAYS:
                yield Input(f"{table}: {name} is {what}", f"{before}{name}: {WRONG[what]}{after}", line)
            for what, value in _wrong_for(key).items():
                yield Input(f"{table}: {name} is {what}", f"{before}{name}: {value}{after}", line, path + name)
    yield from _whole()


def _indent(before: str) -> int:
    return len(before) - before.rfind("\n") - 1


def _wrong_for(key: Key) -> Mapping[str, str]:
    """Values that are wrong for a kind of key beyond doubt."""
    everywhere = {"a mapping of nonsense": WRONG["a mapping of nonsense"]}
    if key.kind in {"data", "params", "limits", "amounts", "env", "values"}:
        return {}
    if key.kind in {"count", "span", "duration", "number", "amount"}:
        return everywhere | {"no": "no", "1:30": "1:30", "a list": "[1]", "markup": WRONG["a text of markup"]}
    if key.kind == "bool":
        return everywhere | {"yes": "yes", "a text": "'true'", "a number": "1", "a list": "[true]"}
    if key.kind == "choice":
        return everywhere | {"none of them": "zzz", "a list": "[a]", "on": "on"}
    if key.kind in {"text", "path", "call", "command", "log_file"}:
        return everywhere | {"014": "014", "off": "off", "1:30": "1:30"}
    return everywhere if key.kind in {"log", "defaults", "retry", "tasks"} else {"a number": "3.5"}


def _whole() -> Iterator[Input]:
    tasks = "name: p\ntasks:\n"
    for count in (1, 2, 3, 10, 1_500):
        circle = "".join(f"  t{n}: {{run: x, needs: [t{(n + 1) % count}]}}\n" for n in range(count))
        yield Input(f"a cycle of {count}", tasks + circle, wanted="t0")
    for need in ("b", "A", "aa", "../a", "a b", "''", "3"):
        yield Input(f"needs {need}", f"{tasks}  a: {{run: x}}\n  c: {{run: x, needs: [{need}]}}\n", 4)
    for name in NAMES:
        yield Input(f"the name {name}", f"name: p\ntasks:\n  {name}: {{run: x}}\n", 3)
        yield Input(f"the pipeline's name {name}", f"name: {name}\ntasks: {{a: {{run: x}}}}\n", 1)
    for text in EXPRESSIONS:
        quoted = text.replace("'", "''")
        yield Input(f"the expression {text}", f"{tasks}  a:\n    run: 'echo {{{{ {quoted} }}}}'\n", 4, "tasks.a.run")
        yield Input(
            f"with {text}", f"{tasks}  a:\n    run: x\n    outputs: ['{{{{ {quoted} }}}}']\n", 5, "tasks.a.outputs"
        )
    for what, text in HEAVY.items():
        yield Input(what, text)


NAMES = ("../x", "/x", "a/b", ".", "..", "--force", "-x", "'a b'", "'<b>'", "'$(id)'", "'a;b'", '"a\\nb"', '"\\e[1m"',
         "'{{ x }}'", "''", f"{'n' * 101}", '"\\u202e"', "'%2e'", "'a\\b'")  # fmt: skip
EXPRESSIONS = (
    "__class__", "params.__class__", "open('/etc/passwd')", "__import__('os')", "exec('x')",
    "eval('x')", "(lambda: 0)()", "[x for x in params]", "params.nowhere", "tasks.nowhere.result", "env[", "1 +", "",
    "tasks.a.result", "run.nowhere", "params if", "getattr(params, 'x')", "f'{params}'", "params.x := 1",
    "().__class__.__bases__[0].__subclasses__()", "globals()",
)  # fmt: skip
HEAVY = {
    "a billion laughs": "name: p\nx0: &x0 [a, a, a, a, a, a, a, a, a, a]\n"
    + "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]\n" for n in range(1, 10)),
    "20,000 brackets": "x: " + "[" * 20_000,
    "20,000 braces": "{a: " * 20_000,
    "20,000 dashes": "- " * 20_000,
    "an alias in itself": "name: p\ntasks: &t {a: *t}\n",
    "a line of six megabytes": "name: p\ntasks: {a: {rnu: '" + "x" * 6_000_000 + "'}}\n",
    "100,000 unknown keys": "name: p\n" + "".join(f"zz{n}: 1\n" for n in range(100_000)),
    "a key of a megabyte": "name: p\n? '" + "k" * 1_000_000 + "'\n: 1\n",
    "a million blanks": "name: p\n" + " " * 1_000_000 + "x\n",
    "a huge number": "name: p\nmax_concurrency: " + "9" * 5_000 + "\ntasks: {a: {run: x}}\n",
    "many anchors": "name: p\nz0: &z0 []\n" + "".join(f"z{n}: &z{n} [*z{n - 1}, *z{n - 1}]\n" for n in range(1, 60)),
    "17 megabytes": "#" * (17 << 20),
}  # fmt: skip


# --- near misses -----------------------------------------------------------------------------------------


def good() -> Iterator[Input]:
    """Files that look mistaken and are not."""
    head = "name: p\nparams: {d: x}\nlimits: {cpu: 2}\ntasks:\n  up: {run: x, outputs: [o.txt]}\n"
    for inner in NEAR:
        yield Input(f"near miss {inner}", f"{head}  a: {{run: x, {inner}}}\n", good=True)
    for name in ("a-b", "_", "class", "a" * 100, "A1", "a.b", "x_1-y", "None_", "x.y-z_"):
        yield Input(f"near miss name {name}", f"name: {name}\ntasks: {{{name}: {{run: x}}}}\n", good=True)
    for text in ("params.d", "len(inputs)", "run.id", "default(params.d, 2)", "max(1, 2) if run.id else 3"):
        run = f"name: p\nparams: {{d: x}}\ntasks: {{a: {{run: 'echo {{{{ {text} }}}}'}}}}\n"
        yield Input(f"near miss {text}", run, good=True)
    for what, text in {
        "Windows line ends": SOUND.replace("\n", "\r\n"),
        "a document's marks": f"---\n{SOUND}...\n",
        "comments everywhere": f"# {{x\n{SOUND}# [x\n",
        "2,000 tasks": "name: p\ntasks:\n  t0: {run: x}\n"
        + "".join(f"  t{n}: {{run: x, needs: [t{n - 1}]}}\n" for n in range(1, 2_000)),
        "500 aliases": "name: p\ntasks:\n  a: &a {run: x}\n" + "".join(f"  t{n}: *a\n" for n in range(500)),
    }.items():  # fmt: skip
        yield Input(f"near miss {what}", text, good=True)


NEAR = (
    'description: "014"', "description: 1.2.3", "env: {DAY: 2026-11-22}", "env: {T: 99:99}", "env: {U: http://h:80/x}",
    "description: none at all", "env: {A: n, B: y}", "env: {A: 1, B: true}", "needs: up", "needs: [up, up]",
    "needs: []",
    "inputs: [./d/../o.txt]", "needs: up, inputs: [o.txt]", "outputs: [d/../p.txt]", "outputs: [..p.txt]",
    "outputs: ['{{ params.d }}/p']", "uses: {cpu: 2}", "uses: {cpu: 0.5}", "timeout: none", "retry: null",
    "timeout: 1h30m", "timeout: 1.5s, grace: 0s", "retry: {attempts: 2, on: [timeout, 75, OSError]}", "cache: false",
    "idempotent: false", "description: !!str 014", 'description: "é 🙂"', "priority: -3", "priority: 0.5",
    "fresh_for: 1d",
    "executor: shell", "shell: bash", "cwd: d", "logs: [rows]", "logs: []", "outputs: [{path: p, optional: true}]",
    "outputs: [/nowhere/p.txt]", "code: ['*.py']", "env: {}", "description: ''", "retry: {attempts: 1}",
    "retry: {attempts: 3, backoff: exponential, delay: 1s, max_delay: 10s, jitter: 100ms}",
)  # fmt: skip

COUNT = sum(1 for _ in bad()) + sum(1 for _ in good())
"""All of them."""
