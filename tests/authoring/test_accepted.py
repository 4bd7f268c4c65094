"""Files that look like mistakes and are none."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bad_files import task
from flowd import Pipeline
from flowd.__main__ import main
from flowd.core.spec import Call, Retry, Run

MODULE = "def f(ctx=None, x=None, **more): pass\nasync def g(): pass\nclass C:\n    @staticmethod\n    def h(): pass\n"
UP = "name: p\ntasks:\n  up: {run: x, outputs: [o.txt]}\n  a: {run: x, "

GOOD = {
    "an answer that nobody is asked for, with another in its place": (
        task("run: 'echo {{ default(approval.comment, 1) }} {{ defined(approval) }}', outputs: [o.txt]"), lambda a: a.cache),
    "a number in quotes": (task('run: x, description: "014"'), lambda a: a.description == "014"),
    "a version of three parts": (task("run: x, description: 1.2.3"), lambda a: a.description == "1.2.3"),
    "a date": (task("run: x, env: {DAY: 2026-11-22}"), lambda a: a.env == {"DAY": "2026-11-22"}),
    "a time that is no number of base 60": (task("run: x, env: {T: 99:99}"), lambda a: a.env == {"T": "99:99"}),
    "an address": (task("run: x, env: {U: http://h:80/x}"), lambda a: a.env == {"U": "http://h:80/x"}),
    "a word that begins with no": (task("run: x, description: none at all"), lambda a: a.description == "none at all"),
    "n and y": (task("run: x, env: {A: n, B: y}"), lambda a: a.env == {"A": "n", "B": "y"}),
    "the key on": (task("run: x, retry: {attempts: 2, on: [timeout, 75, OSError]}"),
                   lambda a: a.retry == Retry(attempts=2, on=("timeout", 75, "OSError"))),
    "the command true": (task("run: true"), lambda a: a.action == Run(text="true")),
    "numbers in a vector as written": (task("run: [seq, 1, 2.50, 0x1F]"),
                                       lambda a: a.action == Run(argv=("seq", "1", "2.50", "0x1F"))),
    "environment from numbers and booleans": (task("run: x, env: {A: 1, B: true}"), lambda a: a.env == {"A": "1", "B": "true"}),
    "one need by name": (UP + "needs: up}\n", lambda a: a.needs == ("up",)),
    "a need given twice": (UP + "needs: [up, up]}\n", lambda a: a.needs == ("up",)),
    "no needs": (UP + "needs: []}\n", lambda a: a.needs == ()),
    "an implied need": (UP + "inputs: [./d/../o.txt]}\n", lambda a: a.needs == ("up",)),
    "a need written and implied": (UP + "needs: up, inputs: [o.txt]}\n", lambda a: a.needs == ("up",)),
    "a file updated in place": (UP + "needs: up, inputs: [o.txt], outputs: [o.txt]}\n", lambda a: a.needs == ("up",)),
    "two writers in order": (UP + "needs: up, outputs: [o.txt]}\n", lambda a: a.outputs[0].path == "o.txt"),
    "dots that stay inside": (task("run: x, outputs: [d/../o.txt]"), lambda a: a.outputs[0].path == "d/../o.txt"),
    "a name that begins with dots": (task("run: x, outputs: [..o.txt]"), lambda a: a.outputs[0].path == "..o.txt"),
    "an absolute output": (task("run: x, outputs: [/nowhere/o.txt]"), lambda a: a.outputs[0].path == "/nowhere/o.txt"),
    "an output by a parameter": (task("run: x, outputs: ['{{ params.d }}/o']", "params: {d: x}\n"), lambda a: len(a.outputs) == 1),
    "a whole limit": (task("run: x, uses: {cpu: 2}", "limits: {cpu: 2}\n"), lambda a: a.uses == {"cpu": 2}),
    "a limit for each key": (task("run: x, uses: {db-orders: 1}", 'limits: {"db-*": 1}\n'), lambda a: a.uses == {"db-orders": 1}),
    "a rate alone": (task("run: x, uses: {api: 1}", "limits: {api: {rate: 10/minute}}\n"), lambda a: a.uses == {"api": 1}),
    "a rate of a duration": (task("run: x, uses: {api: 1}", "limits: {api: {capacity: 2, rate: 5/30s}}\n"), lambda a: a.uses == {"api": 1}),
    "half a limit": (task("run: x, uses: {cpu: 0.5}", "limits: {cpu: {capacity: 1}}\n"), lambda a: a.uses == {"cpu": 0.5}),
    "no timeout in spite of the defaults": (task("run: x, timeout: none", "defaults: {timeout: 1s}\n"), lambda a: a.timeout is None),
    "null as none": (task("run: x, retry: null", "defaults: {retry: {attempts: 2}}\n"), lambda a: a.retry is None),
    "no default retry where it would be harm": (task("run: x, idempotent: false", "defaults: {retry: {attempts: 2}}\n"),
                                                lambda a: a.retry is None),
    "its own retry all the same": (task("run: x, idempotent: false, retry: {attempts: 2}"), lambda a: a.retry.attempts == 2),
    "a duration of parts": (task("run: x, timeout: 1h30m"), lambda a: a.timeout == timedelta(hours=1, minutes=30)),
    "a part of a second": (task("run: x, timeout: 1.5s, grace: 0s"), lambda a: a.timeout == timedelta(seconds=1.5)),
    "a glob as an output": (task("run: x, outputs: ['d/*.csv', {path: 'e/**/?.txt', optional: true}]"), lambda a: len(a.outputs) == 2),
    "an implied need by a glob": ("name: p\ntasks:\n  up: {run: x, outputs: ['o/*.txt']}\n  a: {run: x, inputs: [o/1.txt]}\n",
                                  lambda a: a.needs == ("up",)),
    "a glob read as it is written": ("name: p\ntasks:\n  up: {run: x, outputs: ['o/**/*.txt']}\n  a: {run: x, inputs: ['o/**/*.txt']}\n",
                                     lambda a: a.needs == ("up",)),
    "a glob that finds what another writes, in order": ("name: p\ntasks:\n  up: {run: x, outputs: ['*.csv']}\n  a: {run: x, needs: up, outputs: [o.csv]}\n",
                                                        lambda a: a.needs == ("up",)),
    "the pipeline's grace": (task("run: x", "grace: 3s\n"), lambda a: a.grace == timedelta(seconds=3)),
    "a default over the pipeline's grace": (task("run: x", "grace: 3s\ndefaults: {grace: 4s}\n"), lambda a: a.grace == timedelta(seconds=4)),
    "a default that does not fit": (task("call: m:f", "defaults: {executor: shell, cwd: d, shell: bash}\n"),
                                    lambda a: (a.executor, a.cwd) == ("thread", None)),
    "an async def": (task("call: m:g"), lambda a: a.executor == "async"),
    "a function in a class": (task("call: m:C.h"), lambda a: a.action == Call(module="m", function="C.h")),
    "a function of Python's": (task("call: os.path:basename, with: {p: x}"), lambda a: a.with_ == {"p": "x"}),
    "with for **more": (task("call: m:f, with: {y: {z: [1, null, true]}}"), lambda a: a.with_ == {"y": {"z": [1, None, True]}}),
    "a value in a word": (task("run: 'cp --to={{ params.d }} x'", "params: {d: x}\n"), lambda a: True),
    "braces that are a shell's": (task("run: 'echo ${HOME} {a,b} \"}}\"'"), lambda a: True),
    "a comment with an apostrophe": ("name: p\nparams: {d: x}\ntasks:\n  a:\n    run: |\n      # don't\n      echo {{ params.d }}\n",
                                     lambda a: True),
    "a value after a here-document": ("name: p\nparams: {d: x}\ntasks:\n  a:\n    run: |\n      cat <<E\n      it's\n      E\n      echo {{ params.d }}\n",
                                      lambda a: True),
    "a task with a dash": ("name: p\ntasks: {b-1: {run: x}, a: {run: 'echo {{ tasks[\"b-1\"].result }}', needs: b-1}}\n",
                           lambda a: a.needs == ("b-1",)),
    "upstream of upstream": ("name: p\ntasks: {c: {run: x}, b: {run: x, needs: c}, a: {run: 'echo {{ tasks.c.result }}', needs: b}}\n", lambda a: a.needs == ("b",)),
    "a merge": ("name: p\ntasks:\n  b: &b {run: x, timeout: 1s}\n  a: {<<: *b, run: y}\n",
                lambda a: (a.action, a.timeout) == (Run(text="y"), timedelta(seconds=1))),
    "aliases that weigh little": ("name: p\ntasks:\n  a: &a {run: x}\n" + "".join(f"  t{n}: *a\n" for n in range(500)), lambda a: True),
    "!!str": (task("run: x, description: !!str 014"), lambda a: a.description == "014"),
    "a document's marks": ("%YAML 1.2\n---\nname: p\ntasks: {a: {run: x}}\n...\n", lambda a: True),
    "Windows line ends": ("name: p\r\ntasks: {a: {run: x}}\r\n", lambda a: True),
    "all of Unicode": (task('run: x, description: "é 🙂 \\u2028"'), lambda a: a.description == "é 🙂 \u2028"),
    "a name of 100 letters": (f"name: {'n' * 100}\ntasks: {{a: {{run: x}}}}\n", lambda a: True),
    "names that no language has for names": ("name: p\ntasks: {class: {run: x}, _: {run: x}, a: {run: x, needs: [class, _]}}\n",
                                             lambda a: a.needs == ("class", "_")),
    "an expression of much": (task("run: 'echo {{ max(len(inputs), 1) if run.id else default(params.d, 2) }}'", "params: {d: x}\n"),
                              lambda a: True),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_only_looks_like_a_mistake_is_taken(name, tmp_path, capsys):
    """The file is read as it was meant, and the command ends with 0 and one line."""
    text, meant = GOOD[name]
    (tmp_path / "m.py").write_text(MODULE)
    file = tmp_path / "p.yaml"
    file.write_text(text, encoding="utf-8", newline="")
    tasks = {one.name: one for one in Pipeline.load(file).spec.tasks}
    assert meant(tasks["a"])
    assert main(["validate", str(file)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{file}: ok, ")
    assert said.err == ""


def test_long_and_wide_files_are_read(tmp_path):
    """A chain of 2,000 and a file 3,000 wide: nothing recurses."""
    chain = "".join(f"  t{n}: {{run: x, needs: {f't{n - 1}' if n else '[]'}}}\n" for n in range(2_000))
    wide = "  root: {run: x}\n" + "".join(
        f"  t{n}: {{run: 'echo {{{{ tasks.root.result }}}}', needs: root}}\n" for n in range(3_000)
    )
    for text, count in ((chain, 2_000), (wide, 3_001)):
        file = tmp_path / "p.yaml"
        file.write_text(f"name: p\ntasks:\n{text}")
        assert len(Pipeline.load(file).spec.tasks) == count
