"""The rules of the house that neither the linter nor the import contracts can see."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "flowd"
MODULES = sorted(SOURCE.rglob("*.py"))
ROOMS = {
    *("__init__.py", "__main__.py", "py.typed", "README.md"),
    *("core", "ports", "authoring", "engine", "guardian", "adapters", "daemon", "wiring", "cli", "testing"),
}
TOP = {"LICENSE", "README.md", "configs", "pyproject.toml", "scripts", "src", "tests"}
VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
LONGEST_MODULE = 400
LONGEST_FUNCTION = 60

# The one place that holds a scope open for a host which has none keeps its task; so may the test kit.
KEEPERS = ("engine/host.py", "testing/")


def name_of(module: Path) -> str:
    """The module's place in the house, such as `core/spec.py`."""
    return module.relative_to(SOURCE).as_posix()


def tree_of(module: Path) -> ast.Module:
    """The module, parsed."""
    return ast.parse(module.read_text(encoding="utf-8"), str(module))


def calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The last two names of whatever is called, such as `datetime.now`, with the line."""
    for branch in ast.walk(tree):
        if isinstance(branch, ast.Call):
            yield ".".join(ast.unparse(branch.func).split(".")[-2:]), branch.lineno


def test_the_house_is_found() -> None:
    """The rules below look at the code, not at an empty folder."""
    assert SOURCE / "core" / "spec.py" in MODULES


def test_the_top_level_holds_what_belongs_there() -> None:
    """A note, or a folder of its own, has no place beside the project's files."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("this is no checkout")
    top = {line.partition("/")[0] for line in tracked.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} == TOP


def test_rooms_are_those_of_the_plan() -> None:
    """Nothing stands at the top of the package but the rooms that the plan knows."""
    found = {path.name for path in SOURCE.iterdir() if path.name != "__pycache__"}
    assert found <= ROOMS


def test_every_module_says_what_it_is_for() -> None:
    """Every module begins with a docstring."""
    assert not [name_of(module) for module in MODULES if not ast.get_docstring(tree_of(module))]


def test_every_room_is_small() -> None:
    """No module is over 400 lines: what is larger is two things."""
    sizes = {name_of(module): len(module.read_text(encoding="utf-8").splitlines()) for module in MODULES}
    assert not {name: lines for name, lines in sizes.items() if lines > LONGEST_MODULE}


def test_every_function_is_short() -> None:
    """No function is over 60 lines, its decorators and docstring included."""
    lengths = {
        f"{name_of(module)}:{branch.lineno} {branch.name}": (branch.end_lineno or branch.lineno) - branch.lineno + 1
        for module in MODULES
        for branch in ast.walk(tree_of(module))
        if isinstance(branch, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION}


def test_every_name_says_something() -> None:
    """No module or folder has a name under which anything could be put."""
    named = {name_of(module): {*module.relative_to(SOURCE).parts[:-1], module.stem} for module in MODULES}
    assert not [name for name, parts in named.items() if VAGUE & parts]


def test_no_task_floats() -> None:
    """Whatever runs beside something else runs in a task group: nothing calls `create_task` by itself."""
    floating = [
        f"{name_of(module)}:{line} {name}"
        for module in MODULES
        for name, line in calls(tree_of(module))
        if name.split(".")[-1] in {"create_task", "ensure_future"} and not name_of(module).startswith(KEEPERS)
    ]
    assert not floating


def test_no_task_is_let_go() -> None:
    """A task that is made is kept and awaited, in the places that may make one too."""
    dropped = [
        f"{name_of(module)}:{branch.lineno}"
        for module in MODULES
        for branch in ast.walk(tree_of(module))
        if isinstance(branch, ast.Expr)
        and isinstance(branch.value, ast.Call)
        and ast.unparse(branch.value.func).split(".")[-1] in {"create_task", "ensure_future"}
    ]
    assert not dropped


def test_the_core_asks_nobody() -> None:
    """The core takes time, chance and files as arguments: it calls no clock, no uuid and no open."""
    asked = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "open", "io.open", "input", "print"}
    found = [
        f"{name_of(module)}:{line} {name}"
        for module in MODULES
        if name_of(module).startswith("core/")
        for name, line in calls(tree_of(module))
        if name in asked or name.split(".")[-1].startswith("uuid")
    ]
    assert not found


def test_nothing_dies_with_a_thread() -> None:
    """No process is begun so that it dies with its parent: Linux means the parent's thread by that, not its process."""
    assert not [name_of(module) for module in MODULES if "PDEATHSIG" in module.read_text(encoding="utf-8")]


def test_the_lock_is_of_this_project() -> None:
    """The lock was made from the requirements that pyproject.toml has now; else run scripts/lock."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = document["project"]
    wanted = [
        project["requires-python"],
        project["dependencies"],
        project["optional-dependencies"],
        document["build-system"]["requires"],
    ]
    digest = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()
    lock = (ROOT / "scripts" / "requirements.lock").read_text(encoding="utf-8")
    assert f"# requirements: {digest}" in lock


def test_the_lock_pins_every_file() -> None:
    """Every package of the lock has an exact version and hashes, and no address stands in it."""
    lock = (ROOT / "scripts" / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", "\n".join(line for line in lock.splitlines() if not line.startswith("#")))
    assert len(entries) > 20
    assert all(re.match(r"[a-z0-9-]+==\S+ ", entry) and "--hash=sha256:" in entry for entry in entries)
    assert "://" not in lock
    assert "-index" not in lock
