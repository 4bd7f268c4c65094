"""What is wrong between the parts of a file: needs, cycles, names, files, limits and expressions."""

from __future__ import annotations

import pytest

from bad_files import bad, check_refused, problems_of, task


def cycle(count: int) -> object:
    """A file whose tasks need each other in a ring, and nothing else."""
    names = "abcde"[:count]
    tasks = "".join(
        f"  {name}: {{run: x, needs: {'‹' if number == 0 else ''}[{names[number - 1]}]}}\n"
        for number, name in enumerate(names)
    )
    path = " → ".join((*names, names[0]))
    said = ("cycle", "tasks.a.needs", f"a cycle: {path}", "remove one of these needs")
    return bad(f"a cycle of {count}", f"name: p\ntasks:\n{tasks}", said)


NEEDS = [
    *(cycle(count) for count in range(1, 6)),
    bad("a cycle through a file",
        "name: p\ntasks:\n  a: {run: x, needs: ‹[b], outputs: [o.txt]}\n  b: {run: x, inputs: [./o.txt]}\n",
        ("cycle", "tasks.a.needs", "a cycle: a → b → a", "b reads `./o.txt`, which a writes")),
    bad("two cycles",
        "name: p\ntasks:\n  a: {run: x, needs: ‹a}\n  b: {run: x, needs: ‹[c]}\n  c: {run: x, needs: [b]}\n",
        ("cycle", "tasks.a.needs", "a cycle: a → a", ""), ("cycle", "tasks.b.needs", "a cycle: b → c → b", "")),
    bad("a need that is misspelt", "name: p\ntasks: {clean: {run: x}, fit: {run: x, needs: [‹claen]}}\n",
        ("unknown_need", "tasks.fit.needs[0]", "there is no task `claen`", "did you mean `clean`?")),
    bad("a need in the wrong case", "name: p\ntasks: {clean: {run: x}, fit: {run: x, needs: ‹Clean}}\n",
        ("unknown_need", "tasks.fit.needs", "there is no task `Clean`", "did you mean `clean`?")),
    bad("a need like no task", "name: p\ntasks: {clean: {run: x}, fit: {run: x, needs: [‹zzz]}}\n",
        ("unknown_need", "tasks.fit.needs[0]", "there is no task `zzz`", "the tasks are `clean`, `fit`")),
]  # fmt: skip

NAMES = [
    bad("names that differ only in case", "name: p\ntasks: {clean: {run: x}, ‹Clean: {run: x}}\n",
        ("name_case", "tasks.Clean", "`Clean` and `clean` differ only in case", "rename one")),
    bad("parameters that differ only in case", task("run: x", "params: {n: 1, ‹N: 2}\n"),
        ("name_case", "params.N", "`N` and `n` differ only in case", "rename one")),
    *(
        bad(f"the name {name}", f"name: p\ntasks: {{‹'{name}': {{run: x}}}}\n",
            ("bad_name", f"tasks.{name}", f"`{name}` is no name", "use letters, digits"))
        for name in ("../../etc/passwd", "-rf", "--force", "<b>x</b>", "{{params.x}}", "1st", "a/b", "é", ".hidden")
    ),
    bad("a name with a blank", "name: ‹my pipeline\ntasks: {a: {run: x}}\n",
        ("bad_name", "name", "`my pipeline` is no name", "use letters")),
    bad("a name of nothing", 'name: p\ntasks: {‹"": {run: x}}\n', ("bad_name", "tasks.", "`` is no name", "use letters")),
    bad("a name of 101 letters", f"name: ‹{'n' * 101}\ntasks: {{a: {{run: x}}}}\n",
        ("bad_name", "name", "is no name", "at most 100")),
    bad("a name with a line's end", 'name: ‹"p\\nq"\ntasks: {a: {run: x}}\n',
        ("bad_name", "name", "`p\\x0aq` is no name", "use letters")),
]  # fmt: skip

FILES = [
    bad("an output above the folder", task("run: x, outputs: [‹../o.txt]"),
        ("outside_folder", "tasks.a.outputs[0]", "outside the pipeline's folder", "give an absolute path")),
    bad("an output above the folder on a way round", task("run: x, outputs: [i.txt, ‹d/../../o.txt]"),
        ("outside_folder", "tasks.a.outputs[1]", "outside the pipeline's folder", "absolute path")),
    bad("the folder as an output", task("run: x, outputs: [‹d/..]"),
        ("bad_path", "tasks.a.outputs[0]", "the pipeline's folder itself", "name a file")),
    bad("everything as an output", task("run: x, outputs: [‹/]"),
        ("bad_path", "tasks.a.outputs[0]", "the whole file system", "name a file")),
    bad("an output given twice", task("run: x, outputs: [o.txt, ‹./o.txt]"),
        ("duplicate_output", "tasks.a.outputs[1]", "`./o.txt` is given twice", "keep one")),
    bad("a glob that finds what another task writes",
        "name: p\ntasks:\n  a: {run: x, outputs: ‹['*.csv']}\n  b: {run: x, outputs: [i.txt, ./o.csv]}\n",
        ("unordered_writers", "tasks.a.outputs", "`b` and `a` both write `o.csv`", "add b to the needs of a")),
    bad("two writers without an order",
        "name: p\ntasks:\n  a: {run: x, outputs: [o.txt]}\n  b: {run: x, outputs: [i.txt, ‹./o.txt]}\n",
        ("unordered_writers", "tasks.b.outputs[1]", "`a` and `b` both write `o.txt`", "add a to the needs of b")),
    bad("a reader of two writers",
        "name: p\ntasks:\n  a: {run: x, outputs: [o.txt]}\n  b: {run: x, needs: a, outputs: [o.txt]}\n"
        "  c: {run: x, inputs: [‹o.txt]}\n",
        ("ambiguous_writer", "tasks.c.inputs[0]", "`a`, `b` all write `o.txt`", "needs of c")),
    bad("a template as a folder", task("run: x, cwd: ‹'{{ params.d }}'", "workdir: ‹'{{ params.d }}'\n"),
        ("bad_placement", "workdir", "cannot stand in `workdir`", "the path itself"),
        ("bad_placement", "tasks.a.cwd", "cannot stand in `cwd`", "the path itself")),
    bad("a template in the defaults", task("run: x", "defaults: {cwd: ‹'{{ params.d }}'}\n"),
        ("bad_placement", "defaults.cwd", "cannot stand in `cwd`", "the path itself")),
]  # fmt: skip

LIMITS = [
    bad("a limit that is not declared", task("run: x, uses: {‹cpu: 2}"),
        ("unknown_limit", "tasks.a.uses.cpu", "there is no limit `cpu`", "declare it: `limits: {cpu: 2}`")),
    bad("a limit that is misspelt", task("run: x, uses: {‹cpus: 1}", "limits: {cpu: 2}\n"),
        ("unknown_limit", "tasks.a.uses.cpus", "there is no limit `cpus`", "did you mean `cpu`?")),
    bad("more than there is", task("run: x, uses: {cpu: ‹3}", "limits: {cpu: 2}\n"),
        ("over_limit", "tasks.a.uses.cpu", "it uses 3 of `cpu`, which has 2", "use less, or raise")),
    bad("more than there is, by default", task("run: x", "limits: {cpu: 2}\ndefaults: {uses: {cpu: ‹3}}\n"),
        ("over_limit", "defaults.uses.cpu", "it uses 3 of `cpu`", "use less, or raise")),
]  # fmt: skip


def command(id: str, text: str, code: str, message: str, hint: str, before: str = "params: {x: 1}\n") -> object:
    """A `run` text that is refused."""
    file = f"name: p\n{before}tasks:\n  up: {{run: x}}\n  a:\n    run: ‹|\n      {text}\n"
    return bad(id, file, (code, "tasks.a.run", message, hint))


PLACE = "where its value could become syntax"
UNQUOTED = "by itself, unquoted"
EXPRESSIONS = [
    command("an unknown parameter", "echo {{ params.y }}", "unknown_name", "`y` is not known here", "there is x"),
    command("an unknown root", "echo {{ parms.x }}", "unknown_name", "`parms`", "did you mean `params`?"),
    command("an unknown task", "echo {{ tasks.upp.result }}", "unknown_name", "`upp`", "did you mean `up`?"),
    command("a task beside", "echo {{ tasks.up.result }}", "not_upstream", "is not upstream", "add up to its needs"),
    command("itself", "echo {{ tasks.a.result }}", "not_upstream", "`tasks.a` is not upstream", "add a"),
    command("an unknown field of a run", "echo {{ run.nmae }}", "unknown_name", "`nmae`", "did you mean `name`?"),
    command("a way into the interpreter", "echo {{ ''.__class__.__mro__ }} {{ params.x.__class__() }}", "bad_expression",
            "cannot be called", "the functions are"),
    command("a call of what is no function", 'echo {{ open("/etc/passwd") }}', "bad_expression", "`open` cannot be", "abs"),
    command("an import", 'echo {{ __import__("os") }}', "bad_expression", "`__import__` cannot be called", "functions"),
    command("a comprehension", "echo {{ [y for y in params.x] }}", "bad_expression", "holds a ListComp", ""),
    command("a lambda", "echo {{ lambda: 1 }}", "bad_expression", "holds a Lambda", ""),
    command("a statement", "echo {{ x = 1 }}", "bad_expression", "is no expression", ""),
    command("nothing", "echo {{ }}", "bad_expression", "is no expression", ""),
    command("not closed", "echo {{ params.x", "bad_expression", "is not closed", "close it by `}}`"),
    command("a thousand calls", f"echo {{{{ len{'()' * 900} }}}}", "bad_expression", "nested too deeply", ""),
    command("too long", f"echo {{{{ {'1 + ' * 1_500}1 }}}}", "bad_expression", "characters", "at most 4096 fit"),
    command("an item without a foreach", "echo {{ item }}", "unknown_name", "`item` is not known here", "there is"),
    command("in double quotes", 'echo "{{ params.x }}"', "bad_placement", f"double quotes, {PLACE}", UNQUOTED),
    command("in single quotes", "echo '{{ params.x }}'", "bad_placement", f"single quotes, {PLACE}", UNQUOTED),
    command("in backticks", "echo `cat {{ params.x }}`", "bad_placement", f"backticks, {PLACE}", UNQUOTED),
    command("in $( )", "echo $(cat {{ params.x }})", "bad_placement", f"$( ), {PLACE}", UNQUOTED),
    command("in $(( ))", "echo $((1 + {{ params.x }}))", "bad_placement", PLACE, UNQUOTED),
    command("in ${ }", "echo ${A:-{{ params.x }}}", "bad_placement", f"${{ }}, {PLACE}", UNQUOTED),
    command("in a here-document", "cat <<END\n      {{ params.x }}\n      END", "bad_placement", "a here-document", UNQUOTED),
    command("in a comment", "true # {{ params.x }}", "bad_placement", "a comment", UNQUOTED),
    command("after a backslash", "echo \\{{ params.x }}", "bad_placement", "an escape", UNQUOTED),
    command("a secret", "curl {{ secrets.HOOK }}", "secret_in_run", "can be read by others", "pass it by env"),
    bad("with a line's end in it", task('run: "echo {{ x\\n\\e[31m + }}"').replace('run: "', 'run: ‹"'),
        ("bad_expression", "tasks.a.run", "`x\\x0a\\x1b[31m +` is no expression", "")),
    bad("in with", task("call: m:f, with: {x: ‹'{{ params.y }}'}"), ("unknown_name", "tasks.a.with.x", "`y`", ""),
        m="def f(x): pass\n"),
    bad("in env", task("run: x, env: {A: ‹'{{ inputs }} {{ taks.b }}'}"),
        ("unknown_name", "tasks.a.env.A", "`taks`", "did you mean `tasks`?")),
    bad("in the pipeline's env", task("run: x", "env: {A: ‹'{{ inputs[0] }}'}\n"), ("unknown_name", "env.A", "`inputs`", "")),
    bad("in a path", task("run: x, outputs: [‹'{{ env.HOME }}/o']"), ("unknown_name", "tasks.a.outputs[0]", "`env`", "")),
    bad("in a vector", task("run: [echo, ‹'{{ params.y }}']"), ("unknown_name", "tasks.a.run[1]", "`y`", "")),
    bad("in log.file", task("run: x", "log: {file: ‹'{{ tusk }}.log'}\n"), ("bad_placement", "log.file", "`{{ tusk }}`", "`{{ task }}`")),
]  # fmt: skip

FINALLY = [
    bad("a task that needs what stands under finally", "name: p\ntasks: {a: {run: x, needs: [‹z]}}\nfinally: {z: {run: x}}\n",
        ("needs_finally", "tasks.a.needs[0]", "`z` stands under `finally`", "move one of the two")),
    bad("what stands under finally needs a task", "name: p\ntasks: {a: {run: x}}\nfinally: {z: {run: x, needs: ‹a}}\n",
        ("needs_finally", "finally.z.needs", "`a` has ended in any case", "`when: tasks.a.ok`")),
    bad("one name in both", "name: p\ntasks: {a: {run: x}}\nfinally: {‹a: {run: x}}\n",
        ("duplicate_task", "finally.a", "`a` is a task already", "rename it")),
    bad("nothing under finally", "name: p\ntasks: {a: {run: x}}\n‹finally: {}\n",
        ("no_tasks", "finally", "there is no task", "at least one")),
]  # fmt: skip

TOGETHER = bad(
    "many problems at once",
    """name: ‹p q
‹descripton: x
max_concurrency: ‹0
params:
  n: {type: int, default: ‹many}
tasks:
  a: {run: x, timeout: ‹10}
  b: {run: x, needs: [‹c]}
  ‹B: {run: "true"}
  d:
    call: ‹nowhere:f
  e: {run: ‹"echo '{{ params.n }}'"}
  f: {run: x, needs: ‹[f]}
""",
    ("bad_name", "name", "", ""),
    ("unknown_key", "descripton", "", "did you mean `description`?"),
    ("bad_value", "max_concurrency", "", ""),
    ("bad_default", "params.n.default", "a whole number is expected, and this is `many`", ""),
    ("bad_duration", "tasks.a.timeout", "", "write `10s`"),
    ("unknown_need", "tasks.b.needs[0]", "", ""),
    ("name_case", "tasks.B", "", ""),
    ("missing_module", "tasks.d.call", "", "put nowhere.py beside the file"),
    ("bad_placement", "tasks.e.run", "", ""),
    ("cycle", "tasks.f.needs", "", ""),
)


@pytest.mark.parametrize("case", [*NEEDS, *NAMES, *FILES, *LIMITS, *EXPRESSIONS, *FINALLY, TOGETHER])
def test_a_mistake_between_parts_is_refused_with_its_place(case, tmp_path, capsys, monkeypatch):
    """Each problem has its code, place and remedy, and the command ends with 2 and a line for each."""
    check_refused(case, tmp_path, capsys, monkeypatch)


def test_a_long_cycle_is_said_in_a_short_line(tmp_path):
    """1,500 tasks in a ring: one problem, whose message shows both ends of the path."""
    file = tmp_path / "ring.yaml"
    tasks = "".join(f"  t{n}: {{run: x, needs: [t{(n - 1) % 1_500}]}}\n" for n in range(1_500))
    file.write_text(f"name: ring\ntasks:\n{tasks}")
    (problem,) = problems_of(file)
    assert problem.message == "a cycle: t0 → t1 → t2 → t3 → (1493 more) → t1497 → t1498 → t1499 → t0"
