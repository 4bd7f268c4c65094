"""What is wrong with a file before it is read as YAML: its bytes, its kind, or that it is not there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bad_files import problems_of
from flowd.__main__ import main

GOOD = b"name: p\ntasks: {a: {run: x}}\n"

BYTES = [
    ("latin-1", "name: p\ndescription: é\n".encode("latin-1"), "bad_encoding", (2, 14), "byte 0xe9", "save the file as UTF-8"),
    ("utf-16", "name: p\n".encode("utf-16"), "bad_encoding", None, "byte order mark", "UTF-8 without"),
    ("byte order mark", b"\xef\xbb\xbf" + GOOD, "bad_encoding", None, "byte order mark", "UTF-8 without"),
    ("half a character", GOOD + b"# \xf0\x9f\x98", "bad_encoding", (3, 3), "byte 0xf0", "UTF-8"),
    ("a surrogate", GOOD + b"# \xed\xa0\x80", "bad_encoding", (3, 3), "byte 0xed", "UTF-8"),
    ("NUL", b"name: p\x00\n", "bad_character", (1, 8), "U+0000", "remove it"),
    ("escape", b"name: \x1b[31mp\n", "bad_character", (1, 7), "U+001B", "remove it"),
    ("C1 control", "name: p\ndescription: \x80\n".encode(), "bad_character", (2, 14), "U+0080", "remove it"),
    ("nothing", b"", "empty_file", (1, 1), "the file is empty", "`name` and `tasks`"),
    ("blanks and comments", b"\n  \n# hello\n", "empty_file", (1, 1), "the file is empty", "`name` and `tasks`"),
    ("a document of nothing", b"---\n...\n", "empty_file", None, "the file is empty", "`name` and `tasks`"),
    ("null", b"~\n", "empty_file", (1, 1), "the file is empty", "`name` and `tasks`"),
    ("a binary", bytes(range(256)), "bad_encoding", (2, 118), "byte 0x80", "UTF-8"),
    ("more than 16 MiB", b"#" * (16 * 1024 * 1024 + 1), "too_large", None, "16777217 bytes", ""),
]  # fmt: skip


@pytest.mark.parametrize(("content", "code", "place", "message", "hint"), [row[1:] for row in BYTES],
                         ids=[row[0] for row in BYTES])  # fmt: skip
def test_bytes_that_are_no_pipeline_are_refused(content, code, place, message, hint, tmp_path, monkeypatch, capsys):
    """One problem that says which byte or character, where, and what to do; exit 2."""
    (tmp_path / "p.yaml").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    (problem,) = problems_of("p.yaml")
    assert problem.code == code
    assert message in problem.message
    assert hint in problem.hint
    if place is not None:
        assert (problem.line, problem.column) == place
    assert main(["validate", "p.yaml"]) == 2
    assert capsys.readouterr().err == f"{problem}\n"
    assert os.listdir(tmp_path) == ["p.yaml"]


def make_folder(path):
    path.mkdir()


def make_loop(path):
    path.symlink_to(path.name)


def make_dangling(path):
    path.symlink_to("nowhere.yaml")


KINDS = [
    ("a folder", make_folder, "not_a_file", "this is a folder"),
    ("a fifo", os.mkfifo, "not_a_file", "not a regular file"),
    ("a loop", make_loop, "unreadable", "Too many levels of symbolic links"),
    ("a link to nothing", make_dangling, "no_file", "there is no such file"),
    ("nothing", lambda path: None, "no_file", "there is no such file"),
]


@pytest.mark.parametrize(("make", "code", "message"), [row[1:] for row in KINDS], ids=[row[0] for row in KINDS])
@pytest.mark.parametrize("name", ["p.yaml", "p.py"])
def test_what_is_no_file_is_refused_without_waiting(make, code, message, name, tmp_path, capsys):
    """A FIFO that nobody writes to must not hold `validate` up."""
    make(tmp_path / name)
    (problem,) = problems_of(tmp_path / name)
    if name == "p.yaml":
        assert (problem.code, message in problem.message) == (code, True)
    assert main(["validate", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err == f"{problem}\n"


@pytest.mark.parametrize(
    ("named", "code"),
    [
        ("/dev/zero", "not_a_file"),
        ("/dev/null", "not_a_file"),
        (".", "not_a_file"),
        ("", "not_a_file"),
        ("a\0b.yaml", "unreadable"),
        ("x" * 5_000, "unreadable"),
        ("x" * 5_000 + ":y", "missing_module"),
        ("x" * 5_000 + ".py", "no_file"),
        ("nowhere.yaml:x", "no_file"),
        ("nowhere:x", "missing_module"),
        (":", "no_file"),
        (":x", "no_file"),
        ("json:loads", "no_pipeline"),
    ],
)
def test_an_odd_name_is_refused(named, code, tmp_path, monkeypatch):
    """Whatever is named, there is one problem and never anything else."""
    monkeypatch.chdir(tmp_path)
    (problem,) = problems_of(named)
    assert problem.code == code


def test_a_folder_leaves_no_descriptor_open(tmp_path):
    """A refused folder is closed again."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        problems_of(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            b"name: p\ntasks: {a: {rnu: x}}\n",
            "p.yaml:2:13  tasks.a.rnu  `rnu` is no key of a task; did you mean `run`?",
        ),
        (b"x: " + b"[" * 20_000, "nested too deep"),
        (b"name: p\ntasks: {a: {call: m:f}}\n", "SystemExit(3)"),
        (b"name: p\ntasks: {a: {run: 'echo {{ len" + b"()" * 1_900 + b" }}'}}\n", "nested too deeply"),
    ],
)
def test_the_command_itself_says_a_line_and_ends_with_2(content, line, tmp_path):
    """The same in a process of its own: no traceback, nothing on stdout, nothing written."""
    (tmp_path / "p.yaml").write_bytes(content)
    (tmp_path / "m.py").write_text("import sys\nsys.exit(3)\n")
    done = subprocess.run(
        [sys.executable, "-B", "-m", "flowd", "validate", "p.yaml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert all(one.startswith("p.yaml:") for one in done.stderr.splitlines())
    assert sorted(os.listdir(tmp_path)) == ["m.py", "p.yaml"]


def test_a_file_that_cannot_be_run_is_refused_by_run_in_the_same_way(tmp_path, capsys, monkeypatch):
    """`run` and `plan` say what `validate` says, exit 2, and make no state directory."""
    (tmp_path / "p.yaml").write_text("name: p\ntasks: {a: {rnu: x}}\n")
    monkeypatch.chdir(tmp_path)
    said = set()
    for command in ("validate", "plan", "run"):
        assert main([command, "p.yaml"]) == 2
        said.add(capsys.readouterr().err)
    assert len(said) == 1
    assert os.listdir(tmp_path) == ["p.yaml"]
