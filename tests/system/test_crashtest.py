"""`flowd crashtest`: copies of a pipeline are really killed, and a pipeline that is not crash-safe is found out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from flowd import BadRequest
from flowd.__main__ import main
from flowd.testing.fixtures import crashtest  # noqa: F401  # a fixture

SOUND = """
name: sound
tasks:
  make: {run: "echo 1 > {{ outputs[0] }}", outputs: [made.txt]}
  flaky:
    run: test $FLOWD_ATTEMPT -gt 1 && echo 2 > {{ outputs[0] }}
    needs: [make]
    outputs: [flaky.txt]
    retry: {attempts: 2, delay: 10ms}
  charge: {run: "echo paid >> {{ outputs[0] }}", outputs: [paid.txt], needs: [flaky], idempotent: false}
"""

# It appends to what an attempt that was killed has left, and says that this does no harm.
UNSOUND = """
name: unsound
tasks:
  append: {run: "echo line >> {{ outputs[0] }}", outputs: [lines.txt]}
"""


def test_a_sound_pipeline_ends_the_same_wherever_it_is_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Every task and boundary is tried; what is not idempotent asks a person, and nothing done runs again."""
    (tmp_path / "p.yaml").write_text(SOUND.replace("echo paid >>", "echo paid >"))
    assert main(["crashtest", str(tmp_path / "p.yaml"), "flaky", "charge", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    cases = {(case["task"], case["point"]): (case["body_runs"], case["verdict"]) for case in found["cases"]}
    # What has a death after a start says nothing of how far the body came, nor whether the next one had begun.
    assert {point: verdict for (task, point), (_, verdict) in cases.items() if task == "charge"} == {
        "before_start": "same",
        "after_start": "asked",
        "before_end": "asked",
        "after_end": "same",
    }
    assert [cases["charge", point][0] for point in ("before_start", "after_start", "before_end", "after_end")] == [
        1,
        2,
        2,
        1,
    ]
    flaky = {point: ran for (task, point), (ran, _) in cases.items() if task == "flaky"}
    assert set(flaky) == {"before_start", "after_start", "before_end", "after_end", "in_retry_wait", "in_cancel"}
    assert flaky["before_start"] == flaky["after_end"] == 2
    assert all(ran >= 2 for ran in flaky.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.yaml"]  # the folder itself is left alone


def test_a_pipeline_that_is_not_crash_safe_is_found_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Where the end differs the exit code is 1, and the table names task, kill and file."""
    (tmp_path / "p.yaml").write_text(UNSOUND)
    assert main(["crashtest", str(tmp_path / "p.yaml")]) == 1
    told = capsys.readouterr().out
    assert "after its work, before its end is on record   2   different: append: lines.txt" in told
    assert "of them changed the end" in told


# No task declares the file; the other two change by themselves, and one of them seldom.
UNDECLARED = """
name: undeclared
tasks:
  a: {run: "date +%s%N > stamp.txt; date +%s > second.txt"}
  pay: {run: "echo paid >> {{ params.books }}/ledger.txt", needs: [a]}
params: {books: books}
"""


def test_a_file_that_no_task_declares_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What is done twice is found wherever it stands in the folder; what varies by itself is said and not compared."""
    (tmp_path / "p.yaml").write_text(UNDECLARED)
    (tmp_path / "books").mkdir()
    (tmp_path / "books/ledger.txt").write_text("paid last week\n")
    assert main(["crashtest", str(tmp_path / "p.yaml"), "pay"]) == 1
    told = capsys.readouterr().out
    assert re.search(r"after its work, before its end is on record +\d   different: books/ledger.txt\n", told), told
    assert "not compared, since two runs without any kill differ in: second.txt, stamp.txt" in told
    assert "books/ledger.txt is declared by no task" in told
    assert "reconcile" in told
    assert (tmp_path / "books/ledger.txt").read_text() == "paid last week\n"

    assert main(["crashtest", str(tmp_path / "p.yaml"), "pay", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    [bad] = [case for case in found["cases"] if case["point"] == "before_end"]
    assert bad["undeclared"] == ["books/ledger.txt"]
    assert found["varies"] == ["second.txt", "stamp.txt"]


def test_the_lines_of_the_log_are_not_compared(tmp_path: Path, crashtest):  # noqa: F811
    """The pipeline's log file is flowd's own, and tells of the kills; what tasks write beside it counts."""
    log = '{file: "./logs/{{ task }}.log"}'
    (tmp_path / "p.yaml").write_text(f"name: p\nlog: {log}\ntasks: {{t: {{run: echo 1 > made.txt}}}}\n")
    assert crashtest(tmp_path / "p.yaml").ok


def test_what_interpreters_cache_is_not_compared(tmp_path: Path, crashtest):  # noqa: F811
    """A module that a first attempt has compiled is no difference, nor is a file written anew."""
    folder = tmp_path / "users"
    folder.mkdir()
    run = "mkdir -p __pycache__; echo $$ > __pycache__/x; echo $$ > x.pyc; echo 1 > made.txt"
    (folder / "p.yaml").write_text(f"name: p\ntasks: {{t: {{run: '{run}'}}}}\n")
    found = crashtest(folder / "p.yaml")
    assert found.ok
    assert found.varies == ()


def test_the_fixture_does_the_same(tmp_path_factory: pytest.TempPathFactory, crashtest):  # noqa: F811
    """In a user's own test, on one task."""
    folder = tmp_path_factory.mktemp("users")
    (folder / "p.yaml").write_text(UNSOUND)
    found = crashtest(folder / "p.yaml", tasks=["append"])
    assert not found.ok
    bad = {case.point for case in found.cases if not case.ok}
    assert {"before_end"} <= bad <= {"after_start", "before_end", "in_cancel"}


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ("{a: {run: 'exit 3'}}", "without any crash the pipeline ends failed: a: exit code 3"),
        ("{a: {run: 'true', outputs: [/tmp/x]}}", "which lies outside the folder"),
    ],
)
def test_what_cannot_be_tried_is_refused(tmp_path: Path, crashtest, tasks: str, said: str):  # noqa: F811
    """A pipeline that fails by itself, or writes where no copy is."""
    folder = tmp_path / "users"
    folder.mkdir()
    (folder / "p.yaml").write_text(f"name: p\ntasks: {tasks}\n")
    with pytest.raises(BadRequest, match=said):
        crashtest(folder / "p.yaml")
