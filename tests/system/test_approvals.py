"""A person's answer from the outside: commands, other processes, a terminal, and kills around the answer."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import time

import pytest

from flowd_process import PATIENCE, Place, end_of, states, until

TASKS = {
    "measure": {"run": "echo r2=0.31 > $FLOWD_METRICS; echo good > m.txt", "outputs": ["m.txt"]},
    "publish": {
        "needs": ["measure"],
        "run": "echo {{ approval.by }} {{ approval.level }} {{ approval.comment }} >> published",
        "approve": {
            "message": "R2 is {{ tasks.measure.metrics.r2 }}: publish?",
            "show": ["m.txt"],
            "form": {"level": {"type": "int", "min": 1, "required": True}},
        },
    },
}


def test_without_a_terminal_what_can_run_is_finished(here: Place) -> None:
    """Exit 3 and the exact line to type, also where another task failed; the answer goes on with the run."""
    here.pipeline({**TASKS, "other": {"run": "exit 7"}})
    ended = here.run("run", "--run-id", "r")
    assert ended.code == 3, ended.said
    assert "next: flowd approve r publish --set level=VALUE" in ended.out
    assert "asks: R2 is 0.31: publish?" in ended.out
    document = here.json("show", "r")
    assert states(document) == {"measure": "succeeded", "publish": "waiting", "other": "failed"}
    assert (document["state"], document["exit_code"]) == ("waiting", 3)
    for words, said in (
        ([], "fields.level  it is required; give it: --set level=VALUE"),
        (["--set", "level=none"], "a whole number is expected"),
        (["--set", "level=1", "--set", "lvl=1"], "did you mean `level`"),
        (["--set", "level"], "--set level is not NAME=VALUE"),
    ):
        refused = here.run("approve", "r", "publish", *words)
        assert (refused.code, said in refused.err) == (2, True), refused.said
    why = here.json("why", "r", "publish")
    assert (why["code"], why["next"]) == ("approval", "flowd approve r publish --set level=VALUE")
    assert here.run("approve", "r", "measure").code == 2
    ended = here.run("approve", "r", "publish", "--set", "level=2", "--comment", "so be it")
    assert ended.code == 1, ended.said  # the other task had failed
    [line] = here.lines("published")
    assert line.endswith(" 2 so be it")
    refused = here.run("approve", "r", "publish", "--set", "level=2")
    assert (refused.code, "it was approved by" in refused.err) == (2, True), refused.said


def test_an_answer_may_be_recorded_alone(here: Place) -> None:
    """With --no-run nothing starts; whoever resumes goes on."""
    here.pipeline(TASKS)
    assert here.run("run", "--run-id", "r").code == 3
    document = here.json("approve", "r", "publish", "--set", "level=1", "--no-run")
    assert document["tasks"]["publish"]["approval"]["state"] == "approved"
    assert here.lines("published") == []
    assert here.run("resume", "r").code == 0
    assert len(here.lines("published")) == 1


def test_a_rejection_ends_the_run_with_1(here: Place) -> None:
    """Reason `rejected`, in words and as JSON; a retry asks anew."""
    here.pipeline(TASKS)
    here.run("run", "--run-id", "r")
    ended = here.run("reject", "r", "publish", "--comment", "too low")
    assert ended.code == 1, ended.said
    assert ": too low" in ended.out
    task = here.json("show", "r")["tasks"]["publish"]
    assert (task["state"], task["reason"]["code"], task["error"]["type"]) == ("failed", "rejected", "Rejected")
    assert here.run("retry", "r").code == 3


def test_a_living_owner_takes_the_answer_of_another_process(here: Place) -> None:
    """Within half a second it is recorded, and the action starts in the owner's process."""
    here.pipeline({**TASKS, "long": {"run": "while test ! -e go; do sleep 0.02; done"}})
    owner = here.begin("run", "--run-id", "r")
    until((here.state / "runs/r/journal.0001.jsonl").exists)
    until(lambda: '"task_approval_requested"' in here.journal("r").read_text())
    began = time.monotonic()
    here.ok("approve", "r", "publish", "--set", "level=3")
    took = time.monotonic() - began
    until(here.has("published"))
    document = here.json("show", "r")
    assert owner.poll() is None
    approval = document["tasks"]["publish"]["approval"]
    waited = here.run("events", "r", "--json").events
    assert [event["event"] for event in waited if event["task"] == "publish"][:2] == [
        "task_approval_requested",
        "task_approved",
    ]
    assert approval["values"] == {"level": 3}
    assert took < 5  # the command's own start included
    here.write("go", "")
    assert end_of(owner).code == 0


@pytest.mark.parametrize("after_ms", [0, 60, 120, 180, 240, 320, 450])
def test_killed_around_the_answer_it_is_there_once_or_not_at_all(here: Place, after_ms: int) -> None:
    """Whatever was said is true: one that ended well is on disk, and the action ran once for one yes."""
    here.pipeline(TASKS)
    here.run("run", "--run-id", "r")
    command = here.begin("approve", "r", "publish", "--set", "level=1", "--comment", "mine", "--no-run")
    time.sleep(after_ms / 1000)
    command.send_signal(signal.SIGKILL)
    out, _ = command.communicate()
    known = here.run("events", "r", "--json").events
    answers = [event for event in known if event["event"] == "task_approved"]
    assert len(answers) <= 1
    assert answers or "is approved" not in out
    if not answers:
        assert here.run("approve", "r", "publish", "--set", "level=1").code == 0
    else:
        assert here.run("resume", "r").code == 0
    assert len(here.lines("published")) == 1
    assert sum(event["event"] == "task_approved" for event in here.run("events", "r", "--json").events) == 1


# --- on a terminal ------------------------------------------------------------------------------------


class Terminal:
    """flowd with a pseudo-terminal for all three streams, and what it has written there."""

    def __init__(self, here: Place, *words: str) -> None:
        self.ours, theirs = pty.openpty()
        self.process = here.begin(*words, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        os.set_blocking(self.ours, False)
        self.seen = ""

    def until(self, text: str) -> None:
        """Wait until it has written this, after what was waited for before."""
        until(lambda: text in self._read())
        self.seen = self.seen.partition(text)[2]

    def type(self, text: str) -> None:
        """A line, or a key."""
        os.write(self.ours, text.encode())

    def end(self) -> int:
        """Its exit code."""
        try:
            until(lambda: (self._read(), self.process.poll() is not None)[1], PATIENCE)
        except AssertionError:
            self.process.kill()
            raise
        return int(self.process.returncode)

    def _read(self) -> str:
        try:
            while data := os.read(self.ours, 65536):
                self.seen += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", data.decode(errors="replace"))
        except OSError:  # nothing more, or the other end is closed
            pass
        return self.seen


def test_a_terminal_asks_and_fills_in_the_form(here: Place) -> None:
    """What is asked, what is shown, the comment, and each field until it is right; then the run goes on."""
    here.pipeline(TASKS)
    terminal = Terminal(here, "run", "--run-id", "r")
    terminal.until("asks: R2 is 0.31: publish?")
    terminal.until("shows: m.txt")
    terminal.until("[a/r/Enter] ")
    terminal.type("perhaps\n")
    terminal.until("perhaps is no answer")
    terminal.until("[a/r/Enter] ")
    terminal.type("a\n")
    terminal.until("comment")
    terminal.type("well done\n")
    terminal.until("level (int): ")
    terminal.type("0\n")
    terminal.until("less than 1")
    terminal.until("level (int): ")
    terminal.type("4\n")
    terminal.until("succeeded in")
    assert terminal.end() == 0
    [line] = here.lines("published")
    assert line.endswith(" 4 well done")


def test_a_terminal_rejects(here: Place) -> None:
    """With its comment; the run has failed."""
    here.pipeline(TASKS)
    terminal = Terminal(here, "run", "--run-id", "r")
    terminal.until("[a/r/Enter] ")
    terminal.type("r\n")
    terminal.until("comment")
    terminal.type("too low\n")
    assert terminal.end() == 1
    assert here.json("show", "r")["tasks"]["publish"]["approval"]["comment"] == "too low"


@pytest.mark.parametrize(("key", "code"), [("\n", 3), ("\x04", 3), ("\x03", 130)])
def test_a_question_may_be_left_open(here: Place, key: str, code: int) -> None:
    """Enter, the end of the input, or an interruption: the run waits on, and says what to type."""
    here.pipeline(TASKS)
    terminal = Terminal(here, "run", "--run-id", "r")
    terminal.until("[a/r/Enter] ")
    if key == "\x03":
        os.killpg(terminal.process.pid, signal.SIGINT)
    else:
        terminal.type(key)
    terminal.until("next: flowd approve r publish --set level=VALUE")
    assert terminal.end() == code
    document = here.json("show", "r")
    assert (document["state"], document["tasks"]["publish"]["state"]) == ("waiting", "waiting")


def test_no_input_asks_nothing_on_a_terminal(here: Place) -> None:
    """It ends with 3 as without one."""
    here.pipeline(TASKS)
    terminal = Terminal(here, "run", "--run-id", "r", "--no-input")
    assert terminal.end() == 3
    assert "[a/r/Enter]" not in terminal.seen


def test_an_answer_of_another_process_ends_the_question(here: Place) -> None:
    """The terminal says who has answered, and goes on with the run."""
    here.pipeline(TASKS)
    terminal = Terminal(here, "run", "--run-id", "r")
    terminal.until("[a/r/Enter] ")
    here.ok("approve", "r", "publish", "--set", "level=5")
    terminal.until("publish: approved by")
    terminal.until("succeeded in")
    assert terminal.end() == 0
    assert len(here.lines("published")) == 1


def test_silence_ends_the_question(here: Place) -> None:
    """The time for an answer is over while it is asked."""
    publish = json.loads(json.dumps(TASKS["publish"]))
    publish["approve"] |= {"timeout": "1500ms", "then": "skip"}
    here.pipeline({**TASKS, "publish": publish})
    terminal = Terminal(here, "run", "--run-id", "r")
    terminal.until("[a/r/Enter] ")
    terminal.until("nobody answered within 1500ms")
    assert terminal.end() == 0
    assert states(here.json("show", "r"))["publish"] == "skipped"
