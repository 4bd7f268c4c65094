"""What commands at once share: limits, rates and paths, over processes that end and that are killed."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from datetime import timedelta

from flowd_process import Place, end_of, overlap, span, until


def all_attempts(here: Place, runs: Sequence[str]) -> list[dict[str, object]]:
    return [task for run in runs for task in here.json("show", run)["tasks"].values() if task["attempt_list"]]


def test_two_commands_share_a_limit(here: Place) -> None:
    """Each could run four at once; together they are never more than the capacity, and none is left over."""
    task = {"run": "sleep 0.05", "uses": {"gpu": 1}}
    here.pipeline({f"t{n}": task for n in range(8)}, limits={"gpu": 2})
    runs = [here.begin("run", "--run-id", f"r{n}") for n in range(3)]
    assert [end_of(run).code for run in runs] == [0, 0, 0]
    assert overlap(all_attempts(here, ["r0", "r1", "r2"])) == 2
    assert not list(here.state.glob("limits/*.*"))


def begun(here: Place, run: str) -> subprocess.Popen[str]:
    process = here.begin("run", "--run-id", run)
    until(here.has(run))
    return process


def test_a_killed_command_frees_its_limit_once_its_tasks_have_ended(here: Place) -> None:
    """A waiter begins soon after the SIGKILL of whoever held the limit, and not before that one's process is gone."""
    slow = "trap 'sleep 0.3; echo over >> r0; exit' TERM; echo began >> $FLOWD_RUN_ID; sleep 60 & wait"
    here.pipeline({"t": {"run": slow, "uses": {"gpu": 1}, "grace": "5s"}}, limits={"gpu": 1})
    first = begun(here, "r0")
    here.pipeline({"t": {"run": "cp r0 seen; echo began >> $FLOWD_RUN_ID", "uses": {"gpu": 1}}}, limits={"gpu": 1})
    second = here.begin("run", "--run-id", "r1")
    waiting = until(lambda: here.json("limits")["limits"]["gpu"]["waiters"])
    assert [who["run"] for who in waiting] == ["r1"]
    assert not here.has("r1")()
    first.send_signal(signal.SIGKILL)
    assert end_of(second).code == 0
    assert here.lines("seen") == ["began", "over"]
    assert not list(here.state.glob("limits/*.*"))


def test_a_key_has_a_capacity_of_its_own(here: Place) -> None:
    """`db-*: 1` lets one use of each key run at a time, and two of different keys together."""
    here.pipeline(
        {f"{key}{n}": {"run": "sleep 0.2", "uses": {f"db-{key}": 1}} for key in ("orders", "users") for n in range(2)},
        limits={"db-*": 1},
    )
    document = here.json("run")
    tasks = document["tasks"]
    assert overlap([tasks["orders0"], tasks["orders1"]]) == 1
    assert overlap([tasks["users0"], tasks["users1"]]) == 1
    assert overlap(list(tasks.values())) == 2


def test_a_rate_holds_over_commands(here: Place) -> None:
    """Two commands one after the other, and what they start is never closer than the rate allows."""
    task = {"run": "true", "uses": {"api": 1}}
    here.pipeline({f"t{n}": task for n in range(3)}, limits={"api": {"rate": "2/second"}})
    here.ok("run", "--run-id", "r0")
    here.ok("run", "--run-id", "r1")
    starts = sorted(span(task)[0] for task in all_attempts(here, ["r0", "r1"]))
    assert len(starts) == 6
    # a start is recorded a moment after it was allowed: from one to another this moment may differ
    slack = timedelta(milliseconds=100)
    assert all(later - sooner > timedelta(seconds=1) - slack for sooner, later in zip(starts, starts[2:], strict=False))


def test_a_path_that_another_command_writes_is_waited_for(here: Place) -> None:
    """Two runs of one pipeline never write its output at once; when the writer is killed the other goes on."""
    here.pipeline({"w": {"run": "echo >> $FLOWD_RUN_ID; sleep 60 ; echo > out", "outputs": ["out"]}})
    first = begun(here, "r0")
    here.pipeline({"w": {"run": "echo >> $FLOWD_RUN_ID; echo > out", "outputs": ["out"]}})
    second = here.begin("run", "--run-id", "r1")
    until((here.state / "runs" / "r1").exists)
    why = until(lambda: here.json("limits")["waiting"])
    assert [(one["run"], one["task"], one["code"]) for one in why] == [("r1", "w", "path_busy")]
    assert "r0" in why[0]["sentence"]
    first.send_signal(signal.SIGKILL)
    assert end_of(second).code == 0
