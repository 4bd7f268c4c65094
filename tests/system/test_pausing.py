"""Runs that stop starting: paused by a person, stopped by failures; they go on when they are told to."""

from __future__ import annotations

import signal

from flowd_process import Place, end_of, states, until


def chain(here: Place, **keys: object) -> None:
    here.pipeline(
        {
            "a": {"run": "echo >> began; while [ ! -e go ]; do sleep 0.02; done"},
            "b": {"needs": ["a"], "run": "echo >> b"},
        },
        **keys,
    )


def test_pause_lets_what_runs_end_and_starts_nothing(here: Place) -> None:
    """The owner is told by its inbox; it ends with 130 once nothing runs, and resume goes on from there."""
    chain(here)
    process = here.begin("run", "--run-id", "r")
    until(here.has("began"))
    paused = here.ok("pause", "r")
    assert "run r is paused; 1 of its tasks still run" in paused.out
    assert "next: flowd resume r" in paused.out
    here.write("go", "")
    ended = end_of(process)
    assert ended.code == 130, ended.said
    assert "it was paused by" in ended.out
    document = here.json("show", "r")
    assert (document["state"], states(document)) == ("paused", {"a": "succeeded", "b": "pending"})
    assert here.json("why", "r", "b")["code"] == "paused"
    here.ok("pause", "r")
    here.ok("resume", "r")
    assert (here.lines("began"), here.lines("b")) == ([""], [""])
    refused = here.run("pause", "r")
    assert (refused.code, "has already succeeded" in refused.err) == (2, True)


def test_a_pause_is_taken_back_while_its_last_tasks_run(here: Place) -> None:
    """Resume asks the living owner, which goes on in place."""
    chain(here)
    process = here.begin("run", "--run-id", "r")
    until(here.has("began"))
    here.ok("pause", "r")
    resumed = here.ok("resume", "r")
    assert "run r goes on, held by pid" in resumed.out
    here.write("go", "")
    assert end_of(process).code == 0


def test_a_pause_survives_a_crash_and_needs_no_owner(here: Place) -> None:
    """A run whose owner was killed is paused where it lies; a paused run whose owner is killed stays paused."""
    chain(here)
    for run, first in (("r1", "kill"), ("r2", "pause")):
        (here.folder / "began").unlink(missing_ok=True)
        process = here.begin("run", "--run-id", run)
        until(here.has("began"))
        if first == "pause":
            here.ok("pause", run)
        process.send_signal(signal.SIGKILL)
        end_of(process)
        if first == "kill":
            here.ok("pause", run)
        assert here.json("show", run)["state"] == "paused"
    here.write("go", "")
    for run in ("r1", "r2"):
        here.ok("resume", run)
        assert here.json("show", run)["state"] == "succeeded"


def test_too_many_failures_pause_the_run(here: Place) -> None:
    """Failed attempts count, retried ones too; then retries wait, and resume counts anew."""
    here.pipeline(
        {
            "flaky": {"run": "echo >> tries; [ -e mended ]", "retry": {"attempts": 9, "delay": "10ms"}},
            "last": {"needs": ["flaky"], "run": "true"},
        },
        stop_after_failures=3,
    )
    ended = here.run("run", "--run-id", "r")
    assert ended.code == 130, ended.said
    assert "3 attempts have failed" in ended.out
    assert len(here.lines("tries")) == 3
    document = here.json("show", "r")
    assert (document["state"], document["reason"]["code"]) == ("paused", "paused")
    assert states(document) == {"flaky": "retrying", "last": "pending"}
    assert here.run("resume", "r").code == 130
    assert len(here.lines("tries")) == 6
    here.write("mended", "")
    here.ok("resume", "r")
    assert here.json("show", "r")["state"] == "succeeded"


def test_fail_fast_ends_the_run_at_the_first_failure(here: Place) -> None:
    """What runs is stopped, what has not begun does not begin, and the run has failed, not been cancelled."""
    tasks = {
        "slow": {"run": "sleep 60", "grace": "1s"},
        "bad": {"run": "sleep 0.3; exit 3"},
        "after": {"needs": ["slow"], "run": "true"},
    }
    here.pipeline(tasks, fail_fast=True)
    ended = here.run("run", "--run-id", "r")
    assert ended.code == 1, ended.said
    assert "bad did not end well (fail_fast)" in ended.out
    document = here.json("show", "r")
    assert (document["state"], document["reason"]["code"]) == ("failed", "fail_fast")
    assert states(document) == {"slow": "cancelled", "bad": "failed", "after": "cancelled"}
    assert here.json("why", "r", "slow")["code"] == "fail_fast"
    here.pipeline(tasks | {"slow": {"run": "sleep 0.5"}})
    independent = here.run("run", "--run-id", "r2")
    assert states(here.json("show", "r2")) == {"slow": "succeeded", "bad": "failed", "after": "succeeded"}, (
        independent.said
    )


def test_why_a_task_waits(here: Place) -> None:
    """For a limit and who holds it, for a need, for nothing any more; and of a file, why it would run."""
    here.pipeline(
        {
            "holder": {
                "run": "echo >> began; while [ ! -e go ]; do sleep 0.02; done",
                "uses": {"gpu": 1},
                "priority": 1,
            },
            "waiter": {"run": "true", "uses": {"gpu": 1}},
            "below": {"needs": ["waiter"], "run": "true"},
        },
        limits={"gpu": 1},
    )
    process = here.begin("run", "--run-id", "r")
    until(here.has("began"))
    found = here.json("why", "r", "waiter")
    assert (found["code"], found["details"]["by"]) == ("limit_full", [{"run": "r", "task": "holder"}])
    assert found["sentence"] == "it waits for gpu, which is held by holder of r"
    assert found["next"] == "flowd limits"
    assert here.json("why", "r", "below")["details"]["needs"] == ["waiter"]
    assert here.json("why", "r", "holder")["code"] == "running"
    text = here.ok("why", "r", "waiter").out
    assert "[limit_full]" in text
    assert "next: flowd limits" in text
    shown = here.ok("limits").out
    assert "gpu   1 of 1 used" in shown
    assert "held     1 by holder of r, since" in shown
    assert "waiter 1 1 for waiter of r, since" in shown
    here.write("go", "")
    end_of(process)
    assert here.json("why", "r", "waiter")["code"] == "done"
    assert here.json("why", "pipeline.yaml", "waiter")["code"] == "not_cached"
    unknown = here.run("why", "r", "waitre")
    assert (unknown.code, "did you mean waiter?" in unknown.err) == (2, True)
