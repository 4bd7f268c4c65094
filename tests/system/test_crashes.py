"""SIGKILL of the one who runs, at many instants, and what `resume` makes of it."""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess

import pytest

from flowd_process import Place, alive, children, end_of, states, until

TASKS = ("a", "b", "c", "d", "e")


def effects(here: Place) -> dict[str, int]:
    """How often each task's effect happened: one line appended to a file of its name."""
    return {name: len(here.lines(f"effect.{name}")) for name in TASKS}


def diamond(here: Place, once: str = "") -> None:
    """a before b and c, both before d, then e; the one named `once` is not idempotent."""
    needs = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": ["d"]}
    here.pipeline(
        {
            name: {
                "run": f"sleep 0.03; echo $FLOWD_ATTEMPT >> effect.{name}; sleep 0.03",
                "needs": needs[name],
                "idempotent": name != once,
            }
            for name in TASKS
        }
    )


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def journaled(here: Place, event: str) -> int:
    """How many events of a kind the journals hold by now."""
    journals = here.state.glob("runs/r/journal.*.jsonl")
    return sum(path.read_bytes().count(f'"event":"{event}"'.encode()) for path in journals)


def succeeded(here: Place) -> set[str]:
    document = here.json("show", "r")
    return {name for name, state in states(document).items() if state == "succeeded"}


@pytest.mark.parametrize("seed", range(3))
def test_killed_anywhere_and_resumed_to_the_end(here: Place, seed: int) -> None:
    """Every effect happens; what had succeeded before a kill does not run again; the end is a whole run's."""
    chance = random.Random(seed)
    diamond(here)
    kills = 0
    done: dict[str, int] = {}
    while kills < 4:
        process = here.begin("run", "--run-id", "r")
        until((here.state / "runs/r/journal.0001.jsonl").exists)
        started = journaled(here, "task_started")
        until(lambda p=process, n=started: p.poll() is not None or journaled(here, "task_started") > n)
        try:
            end_of_itself = process.wait(chance.random() * 0.15) == 0
        except subprocess.TimeoutExpired:
            end_of_itself = False
        if end_of_itself:
            process.communicate()
            break
        kill(process)
        kills += 1
        for name, count in done.items():
            assert effects(here)[name] == count, f"{name} ran again"
        before = effects(here)
        done = {name: before[name] for name in succeeded(here)}
    document = here.json("resume", "r")
    assert set(states(document).values()) == {"succeeded"}
    after = effects(here)
    assert all(after.values())
    assert {name: after[name] for name in done} == done
    assert set(here.json("runs")["runs"][0]["counts"]) == {"succeeded"}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_task_that_is_not_idempotent_never_runs_twice(here: Place, moment: str) -> None:
    """Killed after its start: uncertain and exit 3 for ever; killed before: it runs once."""
    diamond(here, once="c")
    process = here.begin("run", "--run-id", "r")
    if moment == "after":
        until(here.has("effect.c"))
    else:
        until(here.has("effect.a"))
    kill(process)
    for _ in range(2):
        ended = here.run("resume", "r")
        assert ended.code in {0, 3}, ended.said
        assert effects(here)["c"] <= 1
    state = states(here.json("show", "r"))
    if state["c"] != "succeeded":  # killed "before", too, where the machine is slow to kill
        assert (state["c"], state["b"], state["d"], ended.code) == ("uncertain", "succeeded", "pending", 3)
        here.ok("resolve", "r", "c", "--as", "rerun")
        assert effects(here)["c"] == 2 or moment == "before"
    assert set(states(here.json("show", "r")).values()) == {"succeeded"}


def test_killed_while_resuming(here: Place) -> None:
    """A resume that is killed is resumed like any other."""
    diamond(here)
    process = here.begin("run", "--run-id", "r")
    until(here.has("effect.a"))
    kill(process)
    for _ in range(2):
        adopted = journaled(here, "run_adopted")
        process = here.begin("resume", "r")
        until(lambda p=process, n=adopted: p.poll() is not None or journaled(here, "run_adopted") > n)
        kill(process)
    document = here.json("resume", "r")
    assert set(states(document).values()) == {"succeeded"}
    assert all(effects(here).values())


def test_the_wait_before_a_retry_survives(here: Place) -> None:
    """Killed in the wait: the remaining time is honoured and the attempts are not reset."""
    here.pipeline(
        {"t": {"run": "echo x >> tries; test $FLOWD_ATTEMPT = 2", "retry": {"attempts": 2, "delay": "1500ms"}}}
    )
    process = here.begin("run", "--run-id", "r")
    until(lambda: journaled(here, "task_retry_scheduled"))
    kill(process)
    task = here.json("resume", "r")["tasks"]["t"]
    assert [attempt["n"] for attempt in task["attempt_list"]] == [1, 2]
    events = here.ok("events", "r", "--json").events
    [planned] = [event["retry_at"] for event in events if event["event"] == "task_retry_scheduled"]
    assert task["attempt_list"][1]["started"] >= planned
    assert here.lines("tries") == ["x", "x"]


@pytest.mark.parametrize("tail", ['{"seq":99,"at":"2026', "\0" * 100, "garbage\n"])
def test_a_torn_tail_is_cut_off_and_said(here: Place, tail: str) -> None:
    """A tail that no commit acknowledged is set aside with a message of file and offset; the run goes on."""
    diamond(here)
    process = here.begin("run", "--run-id", "r")
    until(here.has("effect.a"))
    kill(process)
    path = here.journal()
    size = path.stat().st_size
    with path.open("a") as file:
        file.write(tail)
    here.ok("show", "r")
    assert path.stat().st_size == size + len(tail), "who reads repairs nothing"
    resumed = here.run("resume", "r")
    assert resumed.code == 0, resumed.said
    assert str(path) in resumed.err
    assert f"offset {size}" in resumed.err
    kept = [file for file in path.parent.iterdir() if "torn" in file.name]
    assert [file.read_text() for file in kept] == [tail]
    assert set(states(here.json("show", "r")).values()) == {"succeeded"}


LEFT_BEHIND = (
    "setsid sleep {0} & (setsid sh -c 'sleep {0} & sleep {0}' &) ; "
    "nohup sleep {0} > /dev/null 2>&1 & trap '' TERM; echo up > up; sleep {0}"
)


@pytest.mark.parametrize("how", ["kill", "cancel", "timeout", "interrupt"])
def test_no_process_is_left_behind(here: Place, how: str) -> None:
    """Sessions, double forks and what ignores SIGTERM are gone after a kill, a cancel, a timeout, a signal."""
    token = f"77{secrets.randbelow(10**8):08d}"
    marked = f"sleep\0{token}\0"
    policies = {"timeout": "600ms"} if how == "timeout" else {}
    here.pipeline({"t": {"run": LEFT_BEHIND.format(token), "grace": "200ms", **policies}})
    process = here.begin("run", "--run-id", "r")
    until(here.has("up"))
    if how == "kill":
        kill(process)
    elif how == "cancel":
        here.ok("cancel", "r")
        assert end_of(process).code == 1
    elif how == "interrupt":
        process.send_signal(signal.SIGINT)
        assert end_of(process).code == 130
    else:
        assert end_of(process).code == 1
    until(lambda: not alive(marked), 3)


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_guardian_that_is_killed(here: Place, idempotent: bool) -> None:
    """Nobody knows how far its tasks had come: one that is not idempotent is a person's to answer for, retry or not."""
    retry = {"attempts": 2, "delay": "10ms"}
    here.pipeline({"pay": {"run": "echo pay >> ledger; sleep 1", "idempotent": idempotent, "retry": retry}})
    process = here.begin("run", "--run-id", "r")
    until(lambda: here.lines("ledger"))
    [guardian] = children(process.pid)
    os.kill(guardian, signal.SIGKILL)
    ended = end_of(process)
    assert (ended.code, here.lines("ledger")) == ((0, ["pay", "pay"]) if idempotent else (3, ["pay"])), ended.said
    assert "guardian process was lost" in ended.err
    assert states(here.json("show", "r")) == {"pay": "succeeded" if idempotent else "uncertain"}
