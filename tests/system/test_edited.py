"""A pipeline file that was edited while a run of it was unfinished: what is said, and how the run takes the edit up."""

from __future__ import annotations

import signal
from typing import Any

from flowd_process import Place, interrupt, states, until

HOLD = "echo $FLOWD_TASK >> ran; touch held; sleep 600"
CHANGED = "pipeline.yaml was changed after the run began; the run keeps its definition (not so: --with-new-definition)"


def chain(here: Place, **commands: str) -> None:
    """A chain of shell tasks, in the order given."""
    names = list(commands)
    tasks: dict[str, Any] = {
        name: {"run": commands[name], "needs": names[number - 1 : number]} for number, name in enumerate(names)
    }
    here.pipeline(tasks)


def held(here: Place) -> None:
    """A run `r` of a, b and c that was interrupted in b."""
    chain(here, a="echo a >> ran", b=HOLD, c="echo c >> ran")
    process = here.begin("run", "--run-id", "r")
    until((here.folder / "held").exists)
    assert interrupt(process, signal.SIGINT).code == 130


def test_resume_keeps_the_definition_and_says_so(here: Place) -> None:
    """One line names the file and the option; of a file that was not edited nothing is said."""
    held(here)
    chain(here, a="echo a >> ran", b="echo new >> ran")
    process = here.begin("resume", "r")
    until(lambda: len(here.lines("ran")) > 2)
    ended = interrupt(process)
    assert CHANGED in ended.err.splitlines(), ended.said
    assert here.lines("ran") == ["a", "b", "b"]
    chain(here, a="echo a >> ran", b=HOLD, c="echo c >> ran")
    process = here.begin("resume", "r")
    until(lambda: len(here.lines("ran")) > 3)
    assert "pipeline.yaml was changed" not in interrupt(process).err
    here.write("pipeline.yaml", "name: [")
    process = here.begin("resume", "r")
    until(lambda: len(here.lines("ran")) > 4)
    assert "pipeline.yaml was changed after the run began, and is refused as it is now" in interrupt(process).err


def test_resume_with_the_new_definition(here: Place) -> None:
    """What had succeeded is kept, what is gone and what is new are said, and every reader sees the run so."""
    held(here)
    chain(here, a="echo a >> ran", b="echo b-new >> ran", d="echo d >> ran")
    ended = here.ok("resume", "r", "--with-new-definition")
    assert here.lines("ran") == ["a", "b", "b-new", "d"]
    assert "was changed" not in ended.err
    assert {"  + d is new", "  - c is no longer in the pipeline"} <= set(ended.out.splitlines()), ended.said
    assert states(here.json("show", "r")) == dict.fromkeys("abd", "succeeded")
    [told] = [event for event in here.ok("events", "r", "--json").events if event["event"] == "run_redefined"]
    assert (told["added"], told["removed"]) == (["d"], ["c"])
    assert "added=d  removed=c" in here.ok("events", "r").out
    assert states(here.json("resume", "r")) == dict.fromkeys("abd", "succeeded")
    here.ok("logs", "r")
    assert here.run("resume", "r", "--with-new-definition").code == 2


def test_a_bad_file_is_refused_and_the_run_can_still_go_on(here: Place) -> None:
    """Every problem is named, exit 2, and nothing is recorded."""
    held(here)
    before = here.journal("r").read_bytes()
    chain(here, a="true", c="true {{ tasks.b.result }}")
    refused = here.run("resume", "r", "--with-new-definition")
    assert (refused.code, "pipeline.yaml:1:" in refused.err) == (2, True), refused.said
    assert here.journal("r").read_bytes() == before


def test_retry_of_a_failed_run(here: Place) -> None:
    """It says what was edited; with the new definition only what failed runs, as it is written now."""
    chain(here, a="echo a >> ran", b="echo b >> ran; false", c="echo c >> ran")
    assert here.run("run", "--run-id", "r").code == 1
    chain(here, a="echo a2 >> ran", b="echo b2 >> ran", c="echo c2 >> ran")
    again = here.run("retry", "r")
    assert (again.code, CHANGED in again.err.splitlines()) == (1, True), again.said
    refused = here.run("resume", "r", "--with-new-definition")
    assert (refused.code, "flowd retry r --with-new-definition" in refused.err) == (2, True), refused.said
    assert "was changed" not in here.ok("retry", "r", "--with-new-definition").err
    assert here.lines("ran") == ["a", "b", "b", "b2", "c2"]


def test_a_retry_with_nothing_to_retry_says_so(here: Place) -> None:
    """And ends as the run did."""
    chain(here, a="true")
    here.ok("run", "--run-id", "r")
    ended = here.ok("retry", "r")
    assert "nothing has failed, so there is nothing to run again" in ended.err, ended.said
    assert here.json("show", "r")["tasks"]["a"]["attempts"] == 1
    assert "nothing has failed" not in here.ok("retry", "r", "a").err


def test_cancelling_a_run_that_waits_for_an_answer(here: Place) -> None:
    """It says what it waits for, and how to say that; once it is said the run is cancelled."""
    here.pipeline({"hold": {"run": HOLD, "idempotent": False}, "after": {"run": "true", "needs": ["hold"]}})
    process = here.begin("run", "--run-id", "r")
    until((here.folder / "held").exists)
    assert interrupt(process).code == 130
    told = here.ok("cancel", "r").out.splitlines()
    assert told == [
        "run r is cancelled, and ends once it is said what became of what was cut off",
        "next: flowd resolve r hold --as VERDICT",
    ]
    assert here.json("show", "r")["state"] == "waiting"
    here.run("resolve", "r", "hold", "--as", "failed")
    assert here.json("show", "r")["state"] == "cancelled"


def test_a_task_whose_end_is_unknown_is_not_edited_away(here: Place) -> None:
    """A crash left it running, it is not idempotent, and under another name it would run a second time."""
    here.pipeline({"charge": {"run": HOLD, "idempotent": False}})
    process = here.begin("run", "--run-id", "r")
    until((here.folder / "held").exists)
    process.kill()
    process.wait()
    here.pipeline({"bill": {"run": "echo bill >> ran", "idempotent": False}})
    refused = here.run("resume", "r", "--with-new-definition")
    assert refused.code == 2
    assert "task charge is uncertain, and is no longer in the pipeline" in refused.err
    here.ok("resolve", "r", "charge", "--as", "succeeded", "--no-run")
    assert here.lines("ran") == ["charge"]


def test_a_task_that_has_not_ended_is_not_run_again(here: Place) -> None:
    """Where nothing named can be retried that is refused; of several, those that have not ended are named."""
    tasks = {
        "first": {"run": "true"},
        "hold": {"run": HOLD, "needs": ["first"]},
        "pay": {"run": "true", "needs": ["hold"]},
    }
    here.pipeline(tasks)
    process = here.begin("run", "--run-id", "r")
    until((here.folder / "held").exists)
    for task, said in (("pay", "pay has not run yet"), ("hold", "hold is running, and has not ended")):
        refused = here.run("retry", "r", task)
        assert refused.code == 2, refused.said
        assert said in refused.err
    both = here.ok("retry", "r", "first", "pay")
    assert "pay has not run yet" in both.err
    assert both.out == "run r: first to run again\n"
    assert interrupt(process).code == 130
    refused = here.run("retry", "r", "pay", "--no-run")
    assert refused.code == 2, refused.said
    assert "pay has not run yet" in refused.err
