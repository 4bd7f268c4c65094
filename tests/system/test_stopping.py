"""Stopping a run: a second signal, a cancel from elsewhere, threads that cannot be stopped."""

from __future__ import annotations

import os
import signal
import time
from datetime import datetime

import pytest

from flowd_process import Place, end_of, interrupt, states, until

STUBBORN = "trap '' TERM; echo $$ >> pids; while test ! -e go; do sleep 0.05; done"


def gone(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    return False


def test_a_second_signal_leaves_at_once(here: Place) -> None:
    """The first waits for a grace that the task uses up; the second does not, and the run can be resumed."""
    here.pipeline({"t": {"run": STUBBORN, "grace": "30s"}})
    process = here.begin("run", "--run-id", "r", stderr=-2)
    until(here.has("pids"))
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    while "interrupting" not in process.stdout.readline():
        pass
    assert process.poll() is None
    ended = interrupt(process)
    assert ended.code == 130, ended.said
    until(lambda: gone(here.lines("pids")[0]), 3)
    here.write("go", "")
    assert set(states(here.json("resume", "r")).values()) == {"succeeded"}


@pytest.mark.parametrize("executor", ["thread", "async", "process"])
def test_python_tasks_are_interrupted(here: Place, executor: str) -> None:
    """A coroutine and a process are stopped; a thread that heeds ctx.cancelled ends; all are run again later."""
    here.write(
        "work.py",
        "import asyncio, os, time\n"
        "def begun():\n    open('begun', 'a').write('x\\n')\n"
        "def thread(ctx):\n"
        "    begun()\n    while not ctx.cancelled and not os.path.exists('go'):\n        time.sleep(0.01)\n"
        "async def coroutine():\n"
        "    begun()\n    while not os.path.exists('go'):\n        await asyncio.sleep(0.01)\n"
        "def process():\n    begun()\n    while not os.path.exists('go'):\n        time.sleep(0.01)\n",
    )
    function = {"async": "coroutine"}.get(executor, executor)
    here.pipeline({"t": {"call": f"work:{function}", "executor": executor, "grace": "2s"}})
    process = here.begin("run", "--run-id", "r")
    until(here.has("begun"))
    ended = interrupt(process)
    assert ended.code == 130, ended.said
    here.write("go", "")
    assert states(here.json("resume", "r")) == {"t": "succeeded"}
    assert len(here.lines("begun")) == 2


def test_a_thread_that_cannot_be_stopped_is_abandoned(here: Place) -> None:
    """Past its timeout and grace it is said to be abandoned, and the command does not wait for it for ever."""
    here.write("work.py", "import time\ndef f():\n    open('begun', 'w').write('x')\n    time.sleep(600)\n")
    here.pipeline({"t": {"call": "work:f", "timeout": "200ms", "grace": "100ms"}})
    process = here.begin("run", "--run-id", "r")
    ended = end_of(process, 20)
    assert ended.code == 1, ended.said
    assert "abandoned" in ended.out
    assert states(here.json("show", "r")) == {"t": "abandoned"}


def test_a_cancel_from_elsewhere(here: Place) -> None:
    """The owner takes the request within a second, ends what runs, exits 1; `resume` then names `retry`."""
    here.pipeline({"a": {"run": "echo $$ > pids; sleep 600", "grace": "100ms"}, "b": {"run": "true", "needs": ["a"]}})
    process = here.begin("run", "--run-id", "r")
    until(here.has("pids"))
    began = time.time()
    here.ok("cancel", "r", "--reason", "not today")
    ended = end_of(process)
    assert ended.code == 1, ended.said
    assert gone(here.lines("pids")[0])
    document = here.json("show", "r")
    assert document["state"] == "cancelled"
    assert states(document) == {"a": "cancelled", "b": "cancelled"}
    assert "not today" in document["reason"]["sentence"]
    asked = [event for event in here.ok("events", "r", "--json").events if event["event"] == "run_cancel_requested"]
    assert len(asked) == 1
    assert datetime.fromisoformat(asked[0]["at"]).timestamp() - began < 2.5, "a second, and a start of Python"
    refused = here.run("resume", "r")
    assert (refused.code, "flowd retry r" in refused.err) == (2, True), refused.said
    assert here.run("cancel", "r").code == 0, "cancelling twice is no mistake"


def test_a_cancel_of_a_run_that_nobody_owns(here: Place) -> None:
    """The command takes the run and journals it itself; a finished run is refused."""
    here.pipeline({"a": {"run": "echo x > begun; test -e go || sleep 600", "grace": "100ms"}})
    process = here.begin("run", "--run-id", "r")
    until(here.has("begun"))
    interrupt(process)
    document = here.json("cancel", "r")
    assert (document["state"], states(document)) == ("cancelled", {"a": "cancelled"})
    here.write("go", "")
    assert states(here.json("retry", "r")) == {"a": "succeeded"}
    refused = here.run("cancel", "r")
    assert (refused.code, "succeeded" in refused.err) == (2, True), refused.said


def test_a_cancelled_task_that_is_not_idempotent_is_uncertain(here: Place) -> None:
    """What flowd stopped after it began has an unknown end: it is said, and never run again by itself."""
    here.pipeline({"a": {"run": "echo x >> begun; sleep 600", "grace": "100ms", "idempotent": False}})
    process = here.begin("run", "--run-id", "r")
    until(here.has("begun"))
    here.ok("cancel", "r")
    ended = end_of(process)
    document = here.json("show", "r")
    assert states(document) == {"a": "uncertain"}
    assert ended.code == document["exit_code"]
    here.run("retry", "r")
    assert here.lines("begun") == ["x"]


def test_retrying_parts(here: Place) -> None:
    """`retry` runs what failed and what waits for it; a named task alone, or with all below it; others keep."""
    add = "echo {{ run.id }} >> ran.$FLOWD_TASK"
    here.pipeline(
        {
            "a": {"run": add},
            "b": {"run": f"{add}; test -e go", "needs": ["a"]},
            "c": {"run": add, "needs": ["b"]},
            "other": {"run": add},
        }
    )

    def ran() -> list[int]:
        return [len(here.lines(f"ran.{name}")) for name in ("a", "b", "c", "other")]

    assert here.run("run").code == 1
    assert ran() == [1, 1, 0, 1]
    here.write("go", "")
    here.ok("retry", "last")
    assert ran() == [1, 2, 1, 1]
    here.ok("retry", "last", "b")
    assert ran() == [1, 3, 1, 1]
    here.ok("retry", "last", "b", "--downstream")
    assert ran() == [1, 4, 2, 1]
    assert len(here.json("runs")["runs"]) == 1


def test_a_retry_of_a_living_run_goes_through_its_owner(here: Place) -> None:
    """Asked of a run that goes on, the owner takes it up and the command returns."""
    here.pipeline(
        {
            "long": {"run": "while test ! -e end; do sleep 0.02; done"},
            "bad": {"run": "echo x >> tries; test -e go"},
        }
    )
    process = here.begin("run", "--run-id", "r")
    until(lambda: here.state.exists() and states(here.json("show", "r")).get("bad") == "failed")
    here.write("go", "")
    here.ok("retry", "r", "bad")
    until(lambda: len(here.lines("tries")) == 2)
    here.write("end", "")
    assert end_of(process).code == 0
