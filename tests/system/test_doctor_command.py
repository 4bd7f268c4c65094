"""`flowd doctor` beside real processes: what a killed owner left, who is stopped, who shares a limit, how it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flowd_process import Ended, Place, alive, children, end_of, until

QUIET = {
    *("disk_low", "inodes_low", "memory_file_system", "network_file_system", "volatile_file_system"),
    *("no_subreaper", "no_pidfd", "zone_data_missing"),
}
"""What may be found wherever the tests happen to run."""


def findings(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What was found of the state, by code."""
    return {entry["code"]: entry for entry in document["findings"] if entry["code"] not in QUIET}


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def begun(here: Place, run: str, file: str = "pipeline.yaml") -> Any:
    """A command whose task `t` runs by now."""
    process = here.begin("run", file, "--run-id", run)
    journal = here.state / "runs" / run / "journal.0001.jsonl"
    until(lambda: journal.exists() and b"task_started" in journal.read_bytes() and children(process.pid))
    return process


@pytest.mark.parametrize("told", [True, False], ids=["with owner.json", "without it"])
def test_orphans_are_found_and_ended(here: Place, told: bool) -> None:
    """Owner and guardian are killed at once: their task's process is named, ended by --repair, and nothing is left."""
    token = f"31{os.getpid()}.5"
    here.pipeline({"t": {"run": f"exec sleep {token}"}})
    process = begun(here, "r")
    [task] = until(lambda: alive(f"sleep\0{token}"))
    [guardian] = children(process.pid)
    process.send_signal(signal.SIGSTOP)  # lest it sees its guardian die
    until(lambda: is_stopped(process.pid))
    os.kill(guardian, signal.SIGKILL)
    process.kill()
    end_of(process)
    if not told:  # the journal has recorded who it was
        (here.state / "runs/r/owner.json").unlink()

    found = findings(here.json("doctor"))
    assert set(found) >= {"orphans", "run_unfinished"}
    assert f"process {task} of its tasks still run" in found["orphans"]["sentence"]
    assert found["orphans"]["fix"] == "flowd doctor --repair"
    assert alive(f"sleep\0{token}") == [task]

    assert findings(here.json("doctor", "--repair"))["orphans"]["repaired"]
    assert not alive(f"sleep\0{token}")
    [left] = findings(here.json("doctor")).values()
    assert (left["code"], left["fix"]) == ("run_unfinished", "flowd resume r, or: flowd cancel r")


ENGINE = """
import anyio
from flowd import Engine, Pipeline

async def main():
    async with Engine() as engine:
        assert (await engine.run(Pipeline.load("pipeline.yaml"), "quick", run_id="r1")).ok
        await engine.start(Pipeline.load("pipeline.yaml"), "slow", run_id="r2")
        await anyio.sleep_forever()

anyio.run(main)
"""


@pytest.mark.parametrize("namespaced", [True, False], ids=["that says so", "of an older flowd"])
def test_an_engine_in_another_container_is_left_alone(here: Place, namespaced: bool) -> None:
    """From outside, nothing of a living engine is ended for the sake of a run that it has finished; nor is itself."""
    unshare = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no PID namespace can be made here")
    token = f"33{os.getpid()}.5"
    here.pipeline({"quick": {"run": "true"}, "slow": {"run": f"exec sleep {token}"}})
    unsaid = "" if namespaced else "from flowd.guardian import processes; processes.namespace = lambda: ''"
    here.write("engine.py", unsaid + ENGINE)
    env = here.environment({})
    with subprocess.Popen([*unshare, sys.executable, "engine.py"], cwd=here.folder, env=env) as process:
        try:
            [task] = until(lambda: alive(f"sleep\0{token}"))
            found = findings(here.json("doctor", "--repair"))
            assert set(found) == {"run_held" if namespaced else "owner_unclear"}
            assert "another container" in "".join(entry["sentence"] for entry in found.values())
            assert alive(f"sleep\0{token}") == [task]
            here.ok("retry", "r1", "quick")
            assert alive(f"sleep\0{token}") == [task]
            assert process.poll() is None
        finally:
            process.kill()
    until(lambda: not alive(f"sleep\0{token}"))


def test_what_is_left_in_another_container_is_said_and_not_ended(here: Place) -> None:
    """Engine and guardian are killed in a container that lives on: from outside its task is named, no more."""
    unshare = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no PID namespace can be made here")
    token = f"34{os.getpid()}.5"
    here.pipeline({"slow": {"run": f"exec sleep {token}"}})
    script = f"{sys.executable} -m flowd run --run-id r >/dev/null 2>&1 & wait; sleep 600"
    with subprocess.Popen([*unshare, "sh", "-c", script], cwd=here.folder, env=here.environment({})) as process:
        try:
            [task] = until(lambda: alive(f"sleep\0{token}"))
            [shell] = children(process.pid)
            [engine] = children(shell)
            [guardian] = children(engine)
            os.kill(engine, signal.SIGSTOP)
            until(lambda: is_stopped(engine))
            os.kill(guardian, signal.SIGKILL)
            os.kill(engine, signal.SIGKILL)
            found = until(lambda: "run_held" not in (now := findings(here.json("doctor", "--repair"))) and now)
            assert set(found) == {"orphans_elsewhere", "run_unfinished"}
            assert f"another container, and process {task} of" in found["orphans_elsewhere"]["sentence"]
            assert not found["orphans_elsewhere"]["repairable"]
            assert alive(f"sleep\0{token}") == [task]
        finally:
            process.kill()
    until(lambda: not alive(f"sleep\0{token}"))


def test_who_is_of_what_was_left_does_not_end_itself(here: Place) -> None:
    """A repair from within what a dead owner has left ends the others, and not itself."""
    token = f"35{os.getpid()}.5"
    doctor = f"{sys.executable} -m flowd doctor --repair --json > said; sleep {token} & wait"
    until_killed = "while [ ! -e go ]; do sleep 0.02; done"
    here.pipeline({"t": {"run": f"sleep {token} & {until_killed}; exec {doctor}"}})
    process = begun(here, "r")
    until(lambda: alive(f"sleep\0{token}"))
    [guardian] = children(process.pid)
    process.send_signal(signal.SIGSTOP)
    until(lambda: is_stopped(process.pid))
    os.kill(guardian, signal.SIGKILL)
    process.kill()
    end_of(process)
    here.write("go", "")
    until(here.has("said"))
    assert findings(json.loads(here.lines("said")[0]))["orphans"]["repaired"]
    until(lambda: not alive(f"sleep\0{token}"))


def test_an_owner_that_is_stopped_is_named(here: Place) -> None:
    """A living owner is a note, one that is stopped a warning that says how it goes on; its run is left alone."""
    here.pipeline({"t": {"run": "sleep 30"}})
    process = begun(here, "r")
    assert set(findings(here.json("doctor"))) == {"run_held"}
    process.send_signal(signal.SIGSTOP)
    until(lambda: is_stopped(process.pid))
    old = here.state / "runs/r/inbox/1.answer"
    old.touch()
    os.utime(old, (1e9, 1e9))
    found = findings(here.json("doctor", "--repair"))
    process.send_signal(signal.SIGCONT)
    assert found["owner_stopped"]["severity"] == "warning"
    assert found["owner_stopped"]["fix"] == f"kill -CONT {process.pid}"
    assert not old.exists()
    assert "orphans" not in found
    process.send_signal(signal.SIGINT)
    end_of(process)


def test_two_commands_that_hold_more_than_a_limit_bears(here: Place) -> None:
    """The audit adds up the holders of all living owners, and names each."""
    here.pipeline({"t": {"run": "sleep 30", "uses": {"gpu": 1}}}, limits={"gpu": 1})
    first = begun(here, "r1")
    shutil.rmtree(here.state / "limits")  # what it holds is seen by nobody any more
    second = begun(here, "r2")
    found = findings(here.json("doctor"))
    assert "2 of 1 of limit gpu are in use" in found["limit_exceeded"]["sentence"]
    assert all(
        f"1 by t of {run} (pid {process.pid}" in found["limit_exceeded"]["sentence"]
        for run, process in (("r1", first), ("r2", second))
    )
    first.send_signal(signal.SIGINT)
    end_of(first)
    assert "limit_exceeded" not in findings(here.json("doctor"))
    second.send_signal(signal.SIGINT)
    end_of(second)


def checked(ended: Ended, name: str) -> str:
    """The line of a check."""
    [line] = [line for line in ended.out.splitlines() if line[4:].startswith(f"{name} ")]
    return line


def test_what_people_read(here: Place) -> None:
    """A line for each check, each finding with its fix, what to type next; ASCII where the locale is not UTF-8."""
    here.pipeline({"t": {"run": "true"}})
    here.ok("run", "--run-id", "r")
    with open(here.journal("r"), "ab") as file:
        file.write(b"{")
    ended = here.ok("doctor")
    assert checked(ended, "journals").startswith("  ! journals ")
    assert checked(ended, "index").startswith("  ✓ index ")
    assert "[journal_torn]" in ended.out
    assert "      fix: flowd doctor --repair\n" in ended.out
    assert ended.out.endswith("flowd doctor --repair repairs 1 of them\n")
    plain = here.ok("doctor", env={"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"})
    assert plain.out.isascii()
    assert checked(plain, "index").startswith("  + index ")
    repaired = here.ok("doctor", "--repair")
    assert checked(repaired, "journals").startswith("  ✓ journals ")
    assert "1 repaired" in repaired.out


def test_the_fix_can_be_typed_from_elsewhere(here: Place) -> None:
    """Where the state directory is not the one that is found, commands say which it is."""
    here.pipeline({"t": {"run": "true"}})
    here.ok("run", "--run-id", "r", "--state-dir", "kept")
    with open(here.folder / "kept/runs/r/journal.0001.jsonl", "ab") as file:
        file.write(b"{")
    document = here.json("doctor", "--state-dir", "kept")
    assert document["state_dir"] == str(here.folder / "kept")
    assert findings(document)["journal_torn"]["fix"] == "flowd doctor --repair --state-dir kept"


def test_damage_ends_with_5_and_failing_storage_with_4(here: Place) -> None:
    """Damage is graver than storage that fails; neither is repaired."""
    here.pipeline({"t": {"run": "true"}})
    here.ok("run", "--run-id", "r")
    journal = here.journal("r")
    whole = journal.read_bytes()
    journal.write_bytes(whole.replace(b"task_succeeded", b"task_SUCCEEDED"))
    assert here.run("doctor", "--repair").code == 5
    ended = here.run("doctor")
    assert ended.code == 5
    assert checked(ended, "journals").startswith("  ✗ journals ")
    assert f"{journal}, offset {whole.rindex(b'{', 0, whole.index(b'task_succeeded'))}" in ended.out
    journal.write_bytes(whole)
    assert here.run("doctor").code == 0
