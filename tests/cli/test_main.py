"""The outermost frame: help, mistakes, defects, and closed pipes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import click
import pytest

from flowd.__main__ import main
from flowd.cli.commands import TABLE
from flowd.core.errors import OF_STORAGE, StateLocked
from flowd.guardian import spawning


def test_the_version_needs_no_click():
    """`--version` is answered before anything is imported."""
    code = "import sys; from flowd.__main__ import main; main(['--version']); sys.exit('click' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("flowd ")


def test_help_names_every_command_and_imports_none():
    """The list of commands comes from the table alone."""
    code = (
        "import sys; from flowd.__main__ import main; main(['--help'])\n"
        "rooms = ('run', 'check', 'again', 'change', 'reads', 'graph', 'foreground')\n"
        "sys.exit(any(f'flowd.cli.{room}' in sys.modules for room in rooms) or 'flowd.engine.engine' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(f"  {name} " in done.stdout for name in TABLE)


@pytest.mark.parametrize("name", sorted(TABLE))
def test_every_command_has_help(name, capsys):
    """Each entry of the table leads to a command, and `--help` ends with 0."""
    assert main([name, "--help"]) == 0
    assert "Usage: flowd" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], "no command rnu; did you mean run?"),
        (["run", "--forse"], "--forse"),
        (["run", "--max-concurrency", "0", "x.yaml"], "0 is not in the range"),
    ],
)
def test_a_mistake_in_usage_is_exit_2(arguments, said, capsys):
    """A person gets one message and what to write instead."""
    assert main(arguments) == 2
    assert said.lower() in capsys.readouterr().err.lower()


def fake_command(monkeypatch, error):
    """Make `flowd runs` raise `error`."""

    @click.command()
    def fake() -> None:
        raise error

    monkeypatch.setattr("flowd.cli.reads.runs", fake)


def test_a_refusal_is_its_message_and_its_exit_code(monkeypatch, capsys):
    """No traceback for what flowd says on purpose, inside a group of one either."""
    fake_command(monkeypatch, ExceptionGroup("tasks", [StateLocked("held by pid 7")]))
    assert main(["runs"]) == 6
    assert capsys.readouterr().err == "held by pid 7\n"


def test_a_defect_is_one_line_and_a_file(monkeypatch, capsys, tmp_path):
    """The traceback goes where the line says, and to stderr with FLOWD_DEBUG."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("FLOWD_DEBUG", raising=False)
    fake_command(monkeypatch, ZeroDivisionError("no"))
    assert main(["runs"]) == 70
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("flowd met an error of its own: ZeroDivisionError: no")
    (file,) = tmp_path.glob("flowd-*.txt")
    assert str(file) in said
    assert "Traceback" in file.read_text()
    monkeypatch.setenv("FLOWD_DEBUG", "1")
    main(["runs"])
    assert "Traceback" in capsys.readouterr().err


def test_a_closed_pipe_ends_quietly():
    """`flowd --help | head -0`: no traceback, no complaint at the interpreter's end."""
    line = f"{sys.executable} -m flowd --help | head -c 0"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""


def test_an_end_of_file_that_nobody_foresaw_is_a_defect(monkeypatch, capsys):
    """A library's EOFError, as of bytecode that is cut off, is no Ctrl-C and no Ctrl-D."""
    monkeypatch.setenv("FLOWD_DEBUG", "1")
    fake_command(monkeypatch, EOFError("marshal data too short"))
    assert main(["runs"]) == 70
    assert "flowd met an error of its own: EOFError: marshal data too short" in capsys.readouterr().err


@pytest.mark.parametrize("number", sorted(OF_STORAGE), ids=errno.errorcode.get)
def test_a_disk_that_fails_where_nobody_expected_it_is_no_defect(monkeypatch, capsys, number):
    """Whatever file it was: one line with its name and the cause, and exit 4; without a name it was stdout."""
    said = os.strerror(number)
    fake_command(monkeypatch, OSError(number, said, "some/file"))
    assert main(["runs"]) == 4
    assert capsys.readouterr().err == f"some/file: {said} ({errno.errorcode[number]})\n"
    monkeypatch.setattr("flowd.__main__._silence", lambda _stream: None)
    fake_command(monkeypatch, OSError(number, said))
    assert main(["runs"]) == 4
    assert capsys.readouterr().err == f"cannot write to stdout: {said}\n"


def test_the_guardian_knows_the_same_failures_of_storage():
    """It imports nothing of ours, and has a copy."""
    assert spawning.OF_STORAGE == OF_STORAGE
    assert {errno.ESTALE, errno.EFBIG} < OF_STORAGE
