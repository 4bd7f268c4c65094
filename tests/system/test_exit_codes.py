"""Exit codes that need more than a task that fails: waiting, failing storage, damage, another owner; and run ids."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys

import pytest

from flowd_process import FLOWD, Place, end_of, interrupt, states, until

HOLD = "echo began >> effects; while test ! -e go; do sleep 0.02; done; echo ended >> effects"


def held(here: Place, *words: str, **policies: object) -> subprocess.Popen[str]:
    """A run whose task has begun and waits for the file `go`."""
    here.pipeline({"hold": {"run": HOLD, **policies}, "after": {"run": "echo after >> effects", "needs": ["hold"]}})
    process = here.begin("run", "--run-id", "r", *words)
    until(here.has("effects"))
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_ends_130_and_is_resumed(here: Place, number: int) -> None:
    """A signal stops what runs; the run says how to go on, and goes on from there."""
    process = held(here, grace="200ms")
    ended = interrupt(process, number)
    assert ended.code == 130, ended.said
    assert "next: flowd resume r" in ended.out
    document = here.json("show", "r")
    assert (document["state"], document["exit_code"]) == ("interrupted", 130)
    assert here.lines("effects") == ["began"]
    here.write("go", "")
    resumed = here.json("resume", "r")
    assert set(states(resumed).values()) == {"succeeded"}
    assert here.lines("effects") == ["began", "began", "ended", "after"]


def test_an_interruption_uses_up_no_retry(here: Place) -> None:
    """A task that may be tried once is tried again after an interruption."""
    interrupt(held(here, retry={"attempts": 1}, grace="200ms"))
    here.write("go", "")
    assert here.ok("resume").code == 0


def test_an_interrupted_task_that_is_not_idempotent_is_uncertain(here: Place) -> None:
    """Never run again by itself: 130, then 3 until a person says what became of it; then the rest goes on."""
    process = held(here, idempotent=False, grace="200ms")
    ended = interrupt(process, signal.SIGTERM)
    assert ended.code == 130, ended.said
    assert "hold is uncertain" in ended.out
    here.write("go", "")
    again = here.run("resume", "r")
    assert again.code == 3, again.said
    assert "flowd resolve r hold --as" in again.out
    assert states(here.json("show", "r")) == {"hold": "uncertain", "after": "pending"}
    assert here.run("retry", "r").code == 3
    assert here.lines("effects") == ["began"]
    here.ok("resolve", "r", "hold", "--as", "succeeded")
    assert here.lines("effects") == ["began", "after"]
    assert states(here.json("show", "r")) == {"hold": "succeeded", "after": "succeeded"}


def test_another_owner_is_named(here: Place) -> None:
    """Resuming a living run is refused with exit 6, the holder's pid, host and since when; the run goes on."""
    process = held(here)
    refused = here.run("resume", "r")
    assert (refused.code, refused.out) == (6, ""), refused.said
    assert f"{process.pid}" in refused.err
    assert os.uname().nodename in refused.err
    assert re.search(r"since \d{4}-\d\d-\d\d|since \d\d:\d\d", refused.err), refused.err
    assert here.run("run", "--run-id", "r").code == 6
    here.write("go", "")
    assert end_of(process).code == 0
    assert here.lines("effects") == ["began", "ended", "after"]


def test_a_flipped_byte_is_damage(here: Place) -> None:
    """A journal altered in its middle is refused with exit 5, file and offset, by every command, and left alone."""
    here.pipeline({name: {"run": "exit 1" if name == "d" else "true"} for name in "abcd"})
    here.run("run", "--run-id", "r")
    path = here.journal()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x04
    path.write_bytes(data)
    for command in ("resume", "retry", "show", "events"):
        ended = here.run(command, "r")
        assert ended.code == 5, ended.said
        assert str(path) in ended.err
        assert re.search(r"offset \d+", ended.err)
    assert path.read_bytes() == bytes(data)
    assert here.json("runs")["runs"][0]["state"] == "damaged"
    here.run("run", "--run-id", "other")
    assert here.json("show", "other")["state"] == "failed"


def test_storage_that_fails_is_said(here: Place) -> None:
    """A journal that cannot grow ends the run with exit 4 and no traceback; later the run goes on."""
    again = {"attempts": 100, "delay": "1ms"}
    here.pipeline({"t": {"run": "echo x >> tries; test -e go || { echo no >&2; exit 1; }", "retry": again}})
    command = ["bash", "-c", f"ulimit -f 12; exec {shlex.join([*FLOWD, 'run', '--run-id', 'r'])}"]
    environment = here.environment()
    ended = subprocess.run(command, cwd=here.folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 4, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "journal.0001.jsonl" in ended.stderr
    assert 1 < len(here.lines("tries")) < 100
    here.write("go", "")
    here.ok("resume", "r")


def test_a_run_id_is_an_idempotency_key(here: Place) -> None:
    """The same id again gives the first run; with other parameters or another pipeline it is refused."""
    here.pipeline({"t": {"run": "echo {{ params.n }} >> effects"}}, params={"n": 1})
    first = here.json("run", "--run-id", "my.run-1")
    assert first["run"] == "my.run-1"
    assert here.json("run", "--run-id", "my.run-1") == first
    assert here.json("run", "--run-id", "my.run-1", "-p", "n=1") == first
    refused = here.run("run", "--run-id", "my.run-1", "-p", "n=2")
    assert (refused.code, "my.run-1" in refused.err) == (2, True), refused.said
    here.write("other.yaml", "name: other\ntasks: {t: {run: 'true'}}\n")
    assert here.run("run", "other.yaml", "--run-id", "my.run-1").code == 2
    assert here.lines("effects") == ["1"]


def test_a_run_id_resumes_what_is_unfinished(here: Place) -> None:
    """The id of an interrupted run goes on with it."""
    interrupt(held(here, grace="200ms"))
    here.write("go", "")
    document = here.json("run", "--run-id", "r")
    assert (document["state"], document["tasks"]["hold"]["attempts"]) == ("succeeded", 2)


def test_a_defect_is_no_traceback(here: Place) -> None:
    """A state directory that cannot be one is said in a line, with the exit code of failing storage."""
    here.pipeline({"t": {"run": "true"}})
    here.write("file", "")
    ended = here.run("run", "--state-dir", "file/state")
    assert ended.code == 4, ended.said
    assert "Traceback" not in ended.err
    assert "file" in ended.err


def test_the_module_and_the_script_are_one_program(here: Place) -> None:
    """`flowd` beside the interpreter does what `python -m flowd` does."""
    script = os.path.join(os.path.dirname(sys.executable), "flowd")
    version = subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout
    assert here.ok("--version").out == version
    assert re.fullmatch(r"flowd \d+\.\d+\S*\n", version)


def test_one_id_started_by_many_at_once_runs_once(here: Place) -> None:
    """Of several commands with one id one runs it; the others are refused with its pid, or are given its end."""
    here.pipeline({"t": {"run": "echo x >> effects; sleep 0.2"}})
    commands = [here.begin("run", "--run-id", "r") for _ in range(4)]
    ends = [end_of(process) for process in commands]
    assert {ended.code for ended in ends} <= {0, 6}, [ended.said for ended in ends]
    assert any(ended.code == 0 for ended in ends)
    assert here.lines("effects") == ["x"]


@pytest.mark.parametrize(
    "words",
    [
        *(("show", "r"), ("show",), ("events", "r"), ("logs", "r"), ("resume", "r"), ("retry", "r"), ("cancel", "r")),
        *(("resolve", "r", "t", "--as", "rerun"), ("run", "--run-id", "r"), ("resume", "--all")),
    ],
    ids=" ".join,
)
def test_a_run_whose_definition_is_lost_is_damaged(here: Place, words: tuple[str, ...]) -> None:
    """It is listed, and whoever names it ends with 5 and reads which file is missing."""
    here.pipeline({"t": {"run": "false"}})
    assert here.run("run", "--run-id", "r").code == 1
    lost = here.state / "runs/r/spec.json"
    lost.unlink()
    [row] = here.json("runs")["runs"]
    assert (row["run"], row["state"]) == ("r", "damaged")
    ended = here.run(*words)
    assert ended.code == 5, ended.said
    assert f"{lost}: the definition is missing" in ended.err
    assert not lost.exists()


def test_resume_all_goes_on_with_the_others_and_ends_5(here: Place) -> None:
    """A damaged run keeps no other back, and is not passed over in the end."""
    for name in ("a", "b"):
        interrupt(held(here, "--run-id", name, grace="200ms"))
        (here.folder / "effects").unlink()
    here.write("go", "")
    journal = here.journal("a")
    journal.write_bytes(journal.read_bytes().replace(b"task_started", b"task_STARTED"))
    ended = here.run("resume", "--all")
    assert ended.code == 5, ended.said
    assert here.json("show", "b")["state"] == "succeeded"
    again = here.run("resume", "--all")
    assert again.code == 5, again.said
    assert str(journal) in again.err
    assert again.err.splitlines()[-1] == "no other run is waiting to be resumed; 1 cannot be read: flowd doctor"
