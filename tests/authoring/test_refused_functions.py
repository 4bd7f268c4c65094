"""What is wrong with the functions that a file calls, and with the modules they are in."""

from __future__ import annotations

import sys

import pytest

from bad_files import bad, check_refused, task
from flowd import Pipeline

KEY = "tasks.a.call"


def module(id: str, source: str, code: str, message: str, hint: str = "", call: str = "m:f") -> object:
    """A call that fails for what stands in the module `m`."""
    return bad(id, task(f"call: ‹{call}"), (code, KEY, message, hint), m=source)


MODULES = [
    bad("no module", task("call: ‹nowhere:f"), ("missing_module", KEY, "no module `nowhere` beside", "put nowhere.py")),
    bad("a misspelt module", task("call: ‹stesp:f"), ("missing_module", KEY, "`stesp`", "did you mean `steps`?"),
        steps="def f(): pass\n"),
    bad("no package", task("call: ‹no.where:f"), ("missing_module", KEY, "no module `no`, which `no.where` is in", "")),
    module("no function", "def g(): pass\n", "missing_function", "`m` has no function `f`", "it has `g`"),
    module("a misspelt function", "def fit(): pass\n", "missing_function", "no function `fti`", "did you mean `fit`?", "m:fti"),
    module("an empty module", "", "missing_function", "`m` has no function `f`", "define it in `m`"),
    module("not callable", "f = 3\n", "not_callable", "`m:f` cannot be called: it is a int", "name a function"),
    module("an attribute that raises", "def __getattr__(name): raise RuntimeError('no\\nno')\n", "missing_function",
           "looking up `f` in `m` failed: RuntimeError: no\\x0ano"),
    module("a missing import", "import pandsa\n", "import_failed", "No module named 'pandsa' (m.py:1)", "install it"),
    module("a missing name", "from os import pth\n", "import_failed", "ImportError: cannot import name 'pth'", "fix the"),
    module("a syntax error", "def f(:\n", "import_failed", "SyntaxError: invalid syntax (m.py:1)"),
    module("an error", "1 / 0\n", "import_failed", "ZeroDivisionError: division by zero (m.py:1)"),
    module("an error deeper down", "def g():\n    raise KeyError('k')\ng()\n", "import_failed", "KeyError: 'k' (m.py:2)"),
    module("an error without a text", "class E(Exception):\n    def __str__(self): return 1 / 0\nraise E\n",
           "import_failed", "E: … (m.py:3)"),
    module("an exit", "import sys\nsys.exit('bye\\nbye')\n", "import_failed", "SystemExit(bye\\x0abye)", "__main__"),
    module("an exit at once", "raise SystemExit\n", "import_failed", "ended the program", "__main__"),
    module("endless recursion", "def g(): g()\ng()\n", "import_failed", "RecursionError"),
    module("its own import", "import m2\n", "import_failed", "No module named 'm2'"),
]  # fmt: skip

PARAMETERS = [
    module("nothing is passed", "def f(x): pass\n", "bad_signature", "nothing is passed for `x`, which `f` takes", "`with`"),
    bad("two parameters that nothing is passed for", task("call: ‹‹m:f"),
        ("bad_signature", KEY, "nothing is passed for `x`", ""), ("bad_signature", KEY, "nothing is passed for `y`", ""),
        m="def f(x, y, z=1): pass\n"),
    bad("a task that is not needed", "name: p\ntasks: {up: {run: x}, a: {call: ‹m:f}}\n",
        ("bad_signature", KEY, "nothing is passed for `up`", "add up to `needs`"), m="def f(up): pass\n"),
    bad("a task that is needed only indirectly",
        "name: p\ntasks: {up: {run: x}, b: {run: x, needs: up}, a: {call: ‹m:f, needs: [b]}}\n",
        ("bad_signature", KEY, "nothing is passed for `up`", "add up to `needs`"), m="def f(up): pass\n"),
    bad("a misspelt parameter", task("call: ‹m:f, with: {coutn: 1}"),
        ("bad_signature", KEY, "`f` has no parameter `coutn`, which `with` gives", "did you mean `count`?"),
        m="def f(count=1): pass\n"),
    bad("a parameter too many", task("call: ‹m:f, with: {x: 1}"),
        ("bad_signature", KEY, "`f` has no parameter `x`", "it takes nothing"), m="def f(): pass\n"),
    module("by position only", "def f(x, /): pass\n", "bad_signature", "takes `x` by position only", "by name"),
    bad("a signature that cannot be read", task("call: ‹m:f"),
            ("bad_signature", KEY, "cannot be found out", "a function of your own"),
            m="def f(): pass\nf.__signature__ = 3\n"),
]  # fmt: skip

EXECUTORS = [
    bad("an async def on thread", task("call: m:f, executor: ‹thread"),
        ("bad_executor", "tasks.a.executor", "`f` is an async def, which runs on `async`", "leave `executor` out"),
        m="async def f(): pass\n"),
    bad("a def on async", task("call: m:f, executor: ‹async"),
        ("bad_executor", "tasks.a.executor", "`f` is a def, which runs on `thread` or `process`", "leave"),
        m="def f(): pass\n"),
    bad("a function on shell", task("call: m:f, executor: ‹shell"),
        ("bad_executor", "tasks.a.executor", "a function runs on", "leave `executor` out"), m="def f(): pass\n"),
    bad("a command on thread", task("run: x, executor: ‹thread"),
        ("bad_executor", "tasks.a.executor", "a command runs on `shell`, not on `thread`", "leave")),
    bad("a def inside a function", task("call: ‹'m:g.<locals>.f'"),
        ("missing_function", KEY, "`m` has no function", ""), m="def g(): pass\n"),
]  # fmt: skip


@pytest.mark.parametrize("case", [*MODULES, *PARAMETERS, *EXECUTORS])
def test_a_function_that_cannot_be_called_is_refused_with_its_place(case, tmp_path, capsys, monkeypatch):
    """Each problem has its code, place and remedy, and the command ends with 2 and a line for each."""
    check_refused(case, tmp_path, capsys, monkeypatch)


def test_what_a_module_prints_does_not_reach_stdout(tmp_path, capsys):
    """stdout may be carrying JSON, so an import's print goes to stderr; and the path is left as it was."""
    (tmp_path / "m.py").write_text("print('hello')\ndef f(): pass\n")
    file = tmp_path / "p.yaml"
    file.write_text("name: p\ntasks: {a: {call: m:f}}\n")
    before = list(sys.path)
    Pipeline.load(file)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "hello\n")
    assert sys.path == before


def test_a_keyboard_interrupt_in_a_module_is_no_mistake_of_the_file(tmp_path):
    """Ctrl-C while a module is imported goes on to whoever pressed it."""
    (tmp_path / "m.py").write_text("raise KeyboardInterrupt\n")
    file = tmp_path / "p.yaml"
    file.write_text("name: p\ntasks: {a: {call: m:f}}\n")
    with pytest.raises(KeyboardInterrupt):
        Pipeline.load(file)


def test_modules_of_one_name_in_two_folders_are_two(tmp_path):
    """Each folder's pipeline gets the module beside it, whichever came first."""
    found = []
    for name in ("one", "two", "one"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "steps.py").write_text(f"def f(): return {name!r}\n")
        (folder / "p.yaml").write_text("name: p\ntasks: {a: {call: steps:f}}\n")
        found.append(Pipeline.load(folder / "p.yaml").functions["a"]())
    assert found == ["one", "two", "one"]
