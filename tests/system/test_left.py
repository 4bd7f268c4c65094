"""Runs that were left: what `show` says of a dead owner, and `run` and `plan` of other runs of the pipeline."""

from __future__ import annotations

import signal

import pytest

from flowd.adapters.journal.ending import seems_ended
from flowd_process import Place, end_of, interrupt, until


def killed(here: Place, name: str = "once", **task: object) -> None:
    """A run whose owner was killed while its one task ran."""
    here.pipeline({"t": {"run": f"echo x >> begun; test -e {name}.go || sleep 60", **task}})
    command = here.begin("run", "--run-id", name)
    until(here.has("begun"))
    command.send_signal(signal.SIGKILL)
    end_of(command)


@pytest.mark.parametrize(
    ("idempotent", "code", "says"),
    [(True, "owner_died", "the process that ran it died"), (False, "owner_died", "and it is not idempotent")],
)
def test_show_says_that_the_owner_is_dead(here: Place, idempotent: bool, code: str, says: str) -> None:
    """A task that is on record as running is not said to run where nobody runs it."""
    killed(here, idempotent=idempotent)
    text = here.ok("show", "once").out
    assert "its owner is dead: pid " in text
    assert "t  was running\n" in text
    assert says in text
    assert text.endswith("next: flowd resume once\n")
    task = here.json("show", "once")["tasks"]["t"]
    assert task["reason"]["code"] == code
    why = here.json("why", "once", "t")
    assert (why["code"], why["next"]) == (code, "flowd resume once")


def test_a_living_owner_is_not_called_dead(here: Place) -> None:
    """While the run goes on, its task runs."""
    here.pipeline({"t": {"run": "echo x >> begun; sleep 60"}})
    command = here.begin("run")
    until(here.has("begun"))
    text = here.ok("show").out
    assert ", held by pid " in text
    assert "t  running\n" in text
    assert here.json("show")["tasks"]["t"]["reason"] is None
    assert here.ok("plan").err == ""
    interrupt(command)


def test_run_and_plan_say_what_was_left(here: Place) -> None:
    """A run that was cut off or interrupted is named with what goes on with it, until it has ended."""
    killed(here)
    assert "flowd resume once" in here.ok("plan").err
    assert here.json("plan")["left"] == [{"run": "once", "state": "interrupted", "next": ["flowd resume once"]}]
    here.write("once.go", "")
    other = here.ok("run", "--run-id", "other")
    assert "run once of this pipeline, begun " in other.err
    assert "was left unfinished: flowd resume once\n" in other.err
    assert "other" not in here.ok("plan").err
    assert "flowd resume" not in here.ok("run", "--run-id", "once").err  # it is the one that is gone on with
    assert here.json("plan")["left"] == []


def test_a_run_that_waits_for_an_answer_is_named_with_the_answer(here: Place) -> None:
    """What is to be typed is what the run itself said at its end."""
    here.pipeline({"sign": {"approve": {"message": "go?"}}})
    assert here.run("run", "--run-id", "first").code == 3
    assert "first of this pipeline, begun" in (err := here.ok("plan").err)
    assert "waits for an answer: flowd approve first sign\n" in err
    here.write("q.yaml", '{"name": "q", "tasks": {"t": {"run": "true"}}}')
    assert here.ok("plan", "q.yaml").err == ""  # another pipeline's are its own affair
    state = str(here.state)
    place = here.folder / "elsewhere"
    place.mkdir()
    err = here.ok("plan", str(here.folder / "pipeline.yaml"), "--state-dir", state, cwd=place).err
    assert f"flowd approve first sign --state-dir {state}" in err


def test_more_than_three_are_counted(here: Place) -> None:
    """The newest are named."""
    here.pipeline({"sign": {"approve": {"message": "go?"}}})
    for number in range(5):
        assert here.run("run", "--run-id", f"r{number}").code == 3
    lines = here.ok("plan").err.splitlines()
    assert [line.split()[1] for line in lines[:3]] == ["r4", "r3", "r2"]
    assert lines[3:] == ["and 2 more runs of it were left; flowd runs lists them"]


def test_an_end_is_read_from_the_last_record_alone(here: Place) -> None:
    """A torn or open journal is not taken for one that has ended, nor a record that only speaks of an end."""
    here.pipeline({"t": {"run": "true"}})
    here.ok("run", "--run-id", "r")
    folder = here.state / "runs" / "r"
    assert seems_ended(folder)
    journal = here.journal("r")
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-1])
    assert not seems_ended(folder)
    journal.write_bytes(whole + whole.splitlines(keepends=True)[1].replace(b'"t"', b'"run_finished"'))
    assert not seems_ended(folder)
    journal.write_bytes(b"")
    assert not seems_ended(folder)
