"""The documents that people and programs read, for a run and a task in every state."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from flowd.core import events as e
from flowd.core import states as s
from flowd.core import stimuli as st
from flowd.core.spec import Retry
from flowd.core.task_state import TaskState
from flowd.core.views import (
    artifact_document,
    error_document,
    exit_code,
    moment,
    run_document,
    run_status,
    task_document,
)
from walk import ERROR, NOON, WHY, Walk, pipeline, task

RUN_KEYS = {
    *("run", "pipeline", "state", "exit_code", "reason", "params", "trigger", "started", "ended", "duration_s"),
    *("counts", "warnings", "error", "tasks"),
}
TASK_KEYS = {
    *("state", "attempts", "reason", "started", "ended", "result", "metrics", "outputs", "error", "allowed", "service"),
    *("approval", "url", "child", "source", "log", "items", "attempt_list"),
}


def begun() -> Walk:
    """a ← b, and u that is not idempotent."""
    walk = Walk(pipeline(task("a", retry=Retry(attempts=2)), task("b", "a"), task("u", idempotent=False)))
    walk.begin()
    return walk


def play(walk: Walk, number: int, how: st.Outcome, *, again: bool = False) -> None:
    """One attempt of a task."""
    walk.start(number)
    walk.end(number, how, again=again)


def all_done(walk: Walk) -> Walk:
    """Every task succeeds."""
    for number in range(3):
        play(walk, number, st.Succeeded())
    return walk


def one_failed(walk: Walk) -> Walk:
    """The first task fails, the last succeeds."""
    play(walk, 0, st.Failed(error=ERROR))
    play(walk, 2, st.Succeeded())
    return walk


def cancelled(walk: Walk) -> Walk:
    """Nothing has begun."""
    walk.tell(st.CancelAsked())
    return walk


def cancelling(walk: Walk) -> Walk:
    """One task still runs."""
    walk.start(0)
    return cancelled(walk)


def uncertain(walk: Walk) -> Walk:
    """All that is left is a task whose end nobody knows."""
    play(walk, 0, st.Succeeded())
    play(walk, 1, st.Succeeded())
    play(walk, 2, st.Stopped(cause="interrupted"))
    return walk


def uncertain_beside_work(walk: Walk) -> Walk:
    """There is an uncertain task, and something that can go on."""
    play(walk, 2, st.Stopped(cause="interrupted"))
    return walk


def uncertain_beside_a_retry(walk: Walk) -> Walk:
    """There is an uncertain task, and one that waits for its next attempt."""
    play(walk, 2, st.Stopped(cause="interrupted"))
    play(walk, 0, st.Failed(error=ERROR), again=True)
    return walk


def paused(walk: Walk) -> Walk:
    """By a person."""
    walk.tell(st.PauseAsked())
    return walk


def interrupted(walk: Walk) -> Walk:
    """By a signal."""
    walk.tell(st.PauseAsked(reason="interrupted"))
    return walk


STATUSES = [
    (lambda walk: walk, "running", "interrupted"),
    (all_done, "succeeded", "succeeded"),
    (one_failed, "failed", "failed"),
    (cancelled, "cancelled", "cancelled"),
    (cancelling, "running", "interrupted"),
    (uncertain, "waiting", "waiting"),
    (uncertain_beside_work, "running", "interrupted"),
    (uncertain_beside_a_retry, "running", "interrupted"),
    (paused, "paused", "paused"),
    (interrupted, "running", "interrupted"),
]


@pytest.mark.parametrize(("lived", "owned", "left"), STATUSES)
def test_the_status_of_a_run(lived, owned: str, left: str) -> None:
    """As shown while someone owns it, and once nobody does; the document is whole JSON and its exit code agrees."""
    run = lived(begun()).run
    assert (run_status(run, owned=True), run_status(run, owned=False)) == (owned, left)
    document = run_document(run, owned=False)
    assert document.keys() == RUN_KEYS
    assert (document["state"], document["exit_code"]) == (left, exit_code(left))
    assert sum(document["counts"].values()) == 3
    assert (document["duration_s"] is None) is (document["ended"] is None) is (left not in s.RUN_ENDED)
    assert msgspec.json.decode(msgspec.json.encode(document)) == document


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("succeeded", 0),
        ("failed", 1),
        ("partial", 1),
        ("cancelled", 1),
        ("waiting", 3),
        ("paused", 130),
        ("interrupted", 130),
        ("running", 130),
    ],
)
def test_exit_codes(status: str, code: int) -> None:
    """Those of the contract; what has not ended can be resumed."""
    assert exit_code(status) == code


@pytest.mark.parametrize("state", s.TASK_STATES)
def test_the_document_of_a_task_in_every_state(state: str) -> None:
    """The same keys whatever its state, and all of it JSON."""
    document = task_document("a", TaskState(state=state, reason=WHY, error=ERROR))
    assert document.keys() == TASK_KEYS
    assert document["state"] == {s.EXPANDED: s.RUNNING, s.SLEEPING: s.WAITING}.get(state, state)
    assert document["reason"] == {"code": "why", "sentence": "because"}
    assert msgspec.json.decode(msgspec.json.encode(document)) == document


def test_the_attempts_of_a_task() -> None:
    """Each with its number, its times in UTC, what it waited and how it failed."""
    walk = begun()
    failed = e.Error(type="CommandFailed", message="exit code 3", exit_code=3)
    play(walk, 0, st.Failed(error=failed), again=True)
    play(walk, 0, st.Succeeded(metrics={"mae": 0.5}, warnings=("odd",)))
    document = run_document(walk.run, owned=True, log_of=lambda name, attempt: f"{name}.{attempt}.log")
    first, second = document["tasks"]["a"]["attempt_list"]
    assert (first["n"], first["waited_s"], first["exit_code"]) == (1, None, 3)
    assert first["error"] == {"type": "CommandFailed", "message": "exit code 3", "exit_code": 3}
    assert (second["n"], second["waited_s"], second["error"]) == (2, 2.0, None)
    assert first["started"] == "2026-11-24T12:00:01Z"
    assert document["tasks"]["a"]["started"] == first["started"]
    assert document["tasks"]["a"]["log"] == "a.2.log"
    assert document["tasks"]["b"]["log"] is None
    assert document["warnings"] == ["a: odd"]


def test_the_error_of_a_run_is_that_of_the_first_task_that_broke() -> None:
    """In written order, with the task's name; a task that only depends on it has none."""
    document = run_document(one_failed(begun()).run, owned=False, state_dir="/x/.flowd")
    assert document["error"] == {"task": "a", "type": "ValueError", "message": "NaN in price"}
    assert document["tasks"]["b"]["reason"]["code"] == "upstream_failed"
    assert document["state_dir"] == "/x/.flowd"
    assert document["reason"] == {"code": "task_failed", "sentence": "a did not end well"}


@pytest.mark.parametrize(
    ("stored", "load", "shown"),
    [
        (None, None, None),
        (e.Stored(digest="d", size=9, inline=msgspec.Raw(b'{"n":[1,null]}')), None, {"n": [1, None]}),
        (e.Stored(digest="d", size=9, inline=msgspec.Raw(b"null")), None, None),
        (e.Stored(digest="d", size=9, codec="pickle"), None, {"codec": "pickle", "size": 9, "digest": "d"}),
        (e.Stored(digest="d", size=9), lambda stored: stored.size, 9),
    ],
)
def test_the_result_of_a_task(stored: e.Stored | None, load: Any, shown: object) -> None:
    """A small one as it is; a large one by what loads it, else by what is known of it."""
    assert task_document("a", TaskState(result=stored), load=load)["result"] == shown


def test_the_small_documents() -> None:
    """A moment, an error and an output: what is not known is left out."""
    assert moment(None) is None
    assert moment(NOON + timedelta(microseconds=5)) == "2026-11-24T12:00:00.000005Z"
    full = e.Error(type="T", message="m", where="a.py:1", traceback="…", exit_code=1, signal="SIGKILL")
    assert error_document(full) == msgspec.to_builtins(full)
    output = e.Artifact(path="a", size=1, digest="d", mtime_ns=5)
    assert artifact_document(output) == {"path": "a", "size": 1, "digest": "d"}
    assert artifact_document(msgspec.structs.replace(output, unchanged=True))["unchanged"] is True
