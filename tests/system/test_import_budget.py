"""What a start may import: most of its time is imports, and one careless line brings in a whole library."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

TRACED = textwrap.dedent(
    """
    import builtins, json, sys
    before = set(sys.modules)
    by = {}
    plain = builtins.__import__
    def traced(name, globals=None, *rest, **more):
        known = set(sys.modules)
        try:
            return plain(name, globals, *rest, **more)
        finally:
            for new in sys.modules.keys() - known:
                by.setdefault(new, (globals or {}).get("__name__", "?"))
    builtins.__import__ = traced
    try:
        exec(sys.argv.pop(1))
    finally:
        builtins.__import__ = plain
        with open(sys.argv.pop(1), "w") as file:
            json.dump({name: by.get(name, "importlib") for name in set(sys.modules) - before}, file)
    """
)
"""Runs the code in its first argument; writes each module that came, and who imported it, to the file in its second."""

COMMAND = "from flowd.__main__ import main; assert main(sys.argv[2:]) == 0"
LIBRARIES = ("anyio", "asyncio", "click", "msgspec", "rich", "structlog", "tenacity", "yaml")
HEAVY = ("typing", "re", "inspect", "pathlib", "logging", "tempfile", "subprocess", "threading", "importlib.metadata")
NEVER_OF_A_RUN = (
    "rich", "tenacity", "simpleeval", "multiprocessing", "importlib.metadata", "email", "http", "xml", "sqlite3",
    "unittest", "difflib", "flowd.cli.live", "flowd.testing",
)  # fmt: skip
READING = (
    "yaml", "flowd.authoring.build", "flowd.authoring.checks", "flowd.authoring.document", "flowd.authoring.kinds",
    "flowd.authoring.records", "flowd.core.graph", "flowd.core.evaluator",
)  # fmt: skip

BUDGETS = {
    "import flowd": ("import flowd", (), (*LIBRARIES, *HEAVY, "flowd.")),
    "flowd --version": (COMMAND, ("--version",), (*LIBRARIES, *HEAVY, "flowd.cli", "flowd.core")),
    "flowd --help": (
        COMMAND,
        ("--help",),
        (*(name for name in LIBRARIES if name != "click"), "flowd.core", "flowd.authoring", "flowd.engine", "pathlib"),
    ),
    "flowd run, parsed and run": (COMMAND, ("run", "--force"), NEVER_OF_A_RUN),
    "flowd run, not parsed again, nothing to do": (COMMAND, ("run",), (*NEVER_OF_A_RUN, *READING)),
}


@pytest.mark.parametrize("what", BUDGETS)
def test_a_start_imports_no_more_than_it_needs(what, tmp_path):
    """None of the modules that a start has no use for is imported, by whatever way."""
    code, arguments, forbidden = BUDGETS[what]
    (tmp_path / "pipeline.yaml").write_text("name: p\ntasks:\n  a: {run: echo > a, outputs: [a]}\n")
    if "not parsed again" in what:
        imported(tmp_path, code, arguments)
        imported(tmp_path, code, arguments)
    came = imported(tmp_path, code, arguments)
    assert "flowd" in came
    unwanted = [
        name for name in came if any(name == one or name.startswith(f"{one.rstrip('.')}.") for one in forbidden)
    ]
    first = min(unwanted, key=lambda name: len(chain(name, came)), default="")
    assert not unwanted, f"{what} imports {chain_text(first, came)}; {len(unwanted)} in all: import it where it is used"


def test_a_module_too_many_is_told_with_who_imports_it(tmp_path):
    """The failure names the way from the start to the module."""
    (tmp_path / "careless.py").write_text("import rich.text\n")
    came = imported(tmp_path, "import careless", ())
    assert chain_text("rich.text", came) == "rich.text ← careless ← __main__"


def imported(folder, code, arguments):
    """Each module that the code brings in, and who imported it."""
    told = folder / "told.json"
    environment = {**os.environ, "FLOWD_STATE_DIR": str(folder / ".flowd"), "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", TRACED, code, str(told), *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(told.read_text())


def chain(name, came):
    """The module, who imported it, who imported that one, up to the start or to a name that was looked up."""
    found = [name]
    while found[-1] != "importlib" and (importer := came.get(found[-1])) is not None and importer not in found:
        found.append(importer)
    return found


def chain_text(name, came):
    """The same in words."""
    return " ← ".join(chain(name, came))
