"""The lines of a run's transcript: one for each task at its end, the same on a terminal and in a pipe.

House rules of this room. It turns a run's state and its events into text and writes nothing.
The word carries the meaning; glyphs and colour only help. A line that is not green says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import PurePath
from typing import Final, NamedTuple

import msgspec

from flowd.cli.wording import duration_text, items_text, note, tasks_text, wait_text
from flowd.core import events as e
from flowd.core.fanout import base_name
from flowd.core.printable import printable
from flowd.core.run import RunState
from flowd.core.task_state import TaskState

NAME_WIDTH = 40
NOTE_WIDTH = 28
DURATION_WIDTH = 5
MOST_ITEMS = 10
"""So many failed items of a task are told by a line each."""

_ASCII: Final = str.maketrans(
    {"✓": "+", "=": "=", "↻": "~", "✗": "x", "→": "->", "▸": ">", "←": "<-", "…": "...", "·": "-", "│": "|"}
)


class Line(NamedTuple):
    """One line of the screen; `mood` is what colour may say of it: good, quiet, warn, bad or plain."""

    text: str
    mood: str = "plain"


class Style:
    """How lines look on one stream: with or without glyphs, with or without colour."""

    _COLOURS: Final[Mapping[str, str]] = {"good": "32", "quiet": "2", "warn": "33", "bad": "31"}

    def __init__(self, *, unicode: bool, colour: bool) -> None:
        self.unicode = unicode
        self.colour = colour

    @classmethod
    def of(cls, encoding: str | None, *, terminal: bool, environment: Mapping[str, str]) -> Style:
        """The style of a stream with this encoding; colour on a terminal only, and never with `NO_COLOR`."""
        unicode = (encoding or "").lower().replace("-", "").replace("_", "") in {"utf8", "utf8sig", "utf16", "utf32"}
        colour = terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
        return cls(unicode=unicode, colour=colour)

    def text(self, text: str) -> str:
        """A line with what may stand in one, and with what an ASCII stream can show."""
        text = printable(text)
        return text if self.unicode else text.translate(_ASCII).encode("ascii", "backslashreplace").decode()

    def line(self, line: Line) -> str:
        """A line as it is written, with its glyph coloured."""
        text = self.text(line.text)
        code = self._COLOURS.get(line.mood) if self.colour else None
        if code is None or not text.strip():
            return text
        start = len(text) - len(text.lstrip())
        word = text[start:] if line.mood == "quiet" else text[start:].split(" ", 1)[0]
        return f"{text[:start]}\x1b[{code}m{word}\x1b[0m{text[start + len(word) :]}"


class Transcript:
    """Writes down one run, event by event, reading its state as it was after each.

    `finished_at` says when another run ended, where that is known: how old what is fresh is.
    """

    def __init__(self, run: RunState) -> None:
        self._run = run
        self._fresh: list[str] = []
        self._headed = False
        self._width = 0
        self._failed_items: Counter[str] = Counter()

    def after(self, envelope: e.Envelope) -> list[Line]:
        """The lines that follow from an event that the run has just applied."""
        event = envelope.event
        if isinstance(event, e.TaskFresh):
            if "[" not in event.task:
                self._fresh.append(event.task)
            return []
        if isinstance(event, e.TaskEvent) and "[" in event.task and not self._is_told(event):
            return []
        if isinstance(event, e.RunStarted) or (isinstance(event, e.RunFinished) and not self._headed):
            return []  # a run in which all is fresh is told in the summary alone
        lines = self._heading()
        if isinstance(event, e.TaskEvent):
            lines += self._task_line(event, envelope.at)
        elif isinstance(event, e.RunCancelRequested):
            why = f"{event.reason} did not end well (fail_fast)" if event.cause == "fail_fast" else event.reason
            lines.append(Line(f"  … cancelling: {why or 'it was asked for'}", "warn"))
        elif isinstance(event, e.RunPaused) and event.reason != "interrupted" and self._run.reason is not None:
            lines.append(Line(f"  … paused: {self._run.reason.sentence}", "warn"))
        elif isinstance(event, e.RunClosing):
            lines.append(Line(f"  … {event.state}: finally", "quiet"))
        elif isinstance(event, e.RunRedefined):
            self._width = 0
            lines += [Line(f"  + {name} is new") for name in event.added]
            lines += [Line(f"  - {name} is no longer in the pipeline", "warn") for name in event.removed]
        elif isinstance(event, e.RunDeadlinePassed):
            lines.append(Line("  ✗ the run's deadline passed", "bad"))
        return lines

    def heading(self) -> str:
        """What runs: pipeline, number of tasks, run."""
        return f"{self._run.spec.name}  {tasks_text(self._run.declared)}  run {self._run.id}"

    def width(self) -> int:
        """The width of the column of names."""
        if not self._width:
            self._width = min(max((len(spec.name) for spec, _ in self._run.own()), default=0), NAME_WIDTH)
        return self._width

    def _is_told(self, event: e.TaskEvent) -> bool:
        """Whether an item has a line of its own: one whose end is unknown, and the first few that fail."""
        if isinstance(event, e.TaskUncertain | e.TaskResolved):
            return True
        if not isinstance(event, e.TaskFailed | e.TaskTimedOut | e.TaskAbandoned):
            return False
        self._failed_items[base_name(event.task)] += 1
        return self._failed_items[base_name(event.task)] <= MOST_ITEMS

    def _heading(self) -> list[Line]:
        lines = []
        if not self._headed:
            self._headed = True
            lines = [Line(self.heading()), Line("")]
        fresh, self._fresh = self._fresh, []
        if len(fresh) > 8:
            lines.append(Line(f"  = {tasks_text(len(fresh))} are fresh: nothing they depend on changed", "quiet"))
            return lines
        for name in fresh:
            task = self._run.task(name)
            lines.append(self._line("=", name, f"fresh   nothing changed since {task.source}", "quiet"))
        return lines

    def _line(self, glyph: str, name: str, text: str, mood: str) -> Line:
        return Line(f"  {glyph} {name:<{self.width()}}   {text}".rstrip(), mood)

    def _task_line(self, event: e.TaskEvent, at: datetime) -> list[Line]:
        task = self._run.task(event.task)
        if isinstance(event, e.TaskSucceeded):
            return self._success(event, task, at)
        if isinstance(event, e.TaskServing | e.TaskRetryScheduled):
            return [self._come_or_gone(event, task, at)]
        took = f"{self._took(task, at):<{DURATION_WIDTH}}   "
        if isinstance(event, e.TaskPartial):
            return [self._line("!", event.task, f"{took}partial: {_sentence(task)}", "warn")]
        if isinstance(event, e.TaskFailed | e.TaskTimedOut):
            if task.allowed:
                return [self._line("!", event.task, f"{took}{failure_text(task)}   allowed to fail", "warn")]
            return [self._line("✗", event.task, took + failure_text(task), "bad")]
        sentence = _sentence(task)
        if isinstance(event, e.TaskUpstreamFailed):
            return [self._line("-", event.task, f"did not run: {event.cause} did not end well", "warn")]
        if isinstance(event, e.TaskApproved) and event.comment:
            sentence = f"{sentence}: {event.comment}"
        if isinstance(event, e.TaskResolved):
            return [self._line("✓" if event.verdict == "succeeded" else "-", event.task, sentence, "warn")]
        if (answer := _ANSWERS.get(type(event))) is not None:
            return [self._line(answer[0], event.task, sentence, answer[1])]
        if isinstance(event, e.TaskTimerStarted | e.TaskRoundEnded):
            return self._wait(event, sentence)
        word = _WORDS.get(type(event))
        if word is None:
            return []
        glyph, verb, mood = word
        return [self._line(glyph, event.task, f"{verb}: {sentence}" if sentence else verb, mood)]

    def _come_or_gone(self, event: e.TaskServing | e.TaskRetryScheduled, task: TaskState, at: datetime) -> Line:
        """A service has come up; or an attempt has failed, and there will be another."""
        if isinstance(event, e.TaskServing):
            took = f"{self._took(task, at):<{DURATION_WIDTH}}"
            return self._line("▸", event.task, f"{took}   serving {event.url}", "good")
        wait = wait_text(event.delay)
        if event.restart and task.service is not None:
            text = f"{error_text(event.error)}, restart {task.service.restarts} in {wait}"
            return self._line("↻", event.task, text, "warn")
        spec = self._run.shape.specs[self._run.shape.index[event.task]]
        allowed = f" of {spec.retry.attempts}" if spec.retry is not None and spec.retry.attempts else ""
        text = f"attempt {task.tries}{allowed} failed: {error_text(event.error)}, again in {wait}"
        return self._line("↻", event.task, text, "warn")

    def _wait(self, event: e.TaskTimerStarted | e.TaskRoundEnded, sentence: str) -> list[Line]:
        if isinstance(event, e.TaskTimerStarted):
            return [self._line("…", event.task, sentence.removeprefix("it "), "quiet")]
        every = f"its `until` does not hold yet; a round every {wait_text(event.delay)}"
        return [self._line("…", event.task, every, "quiet")] if event.round == 1 else []  # there may be very many

    def _success(self, event: e.TaskSucceeded, task: TaskState, at: datetime) -> list[Line]:
        fan = self._run.fans.get(self._run.shape.index[event.task])
        if not event.attempt and fan is None:
            return []  # a person's answer was all of it, and has its line
        told = items_text(fan.count) if fan is not None else note(event.metrics, inline_result(event.result))
        names = ", ".join(PurePath(artifact.path).name for artifact in event.outputs[:3])
        names += f" and {len(event.outputs) - 3} more" if len(event.outputs) > 3 else ""
        text = f"{self._took(task, at):<{DURATION_WIDTH}}   {told:<{NOTE_WIDTH}}   {names}"
        lines = [self._line("✓", event.task, text, "good")]
        lines += [self._line("!", event.task, f"warning: {warning}", "warn") for warning in event.warnings]
        return lines

    def _took(self, task: TaskState, at: datetime) -> str:
        if not task.attempts:
            return "-" if task.tried_at is None else duration_text((at - task.tried_at).total_seconds())
        since = task.rounds.since if task.rounds is not None else task.attempts[-1].started_at
        return duration_text((at - since).total_seconds())


_WORDS: Final[Mapping[type[e.Event], tuple[str, str, str]]] = {
    e.TaskSkipped: ("-", "skipped", "quiet"),
    e.TaskCancelled: ("-", "cancelled", "warn"),
    e.TaskInterrupted: ("…", "interrupted", "warn"),
    e.TaskUncertain: ("?", "uncertain", "warn"),
    e.TaskDeferred: ("?", "waits", "warn"),
    e.TaskAbandoned: ("✗", "abandoned", "bad"),
}


def _sentence(task: TaskState) -> str:
    return task.reason.sentence if task.reason is not None else ""


_ANSWERS: Final[Mapping[type[e.Event], tuple[str, str]]] = {
    e.TaskApprovalRequested: ("?", "warn"),
    e.TaskApproved: ("✓", "good"),
    e.TaskRejected: ("✗", "bad"),
}
"""What a person is asked, and answers."""


def inline_result(stored: e.Stored | None) -> object:
    """A result that stands in the journal as JSON, decoded; None for any other."""
    if stored is None or not isinstance(stored.inline, msgspec.Raw):
        return None
    result: object = msgspec.json.decode(stored.inline)
    return result


def error_text(error: e.Error) -> str:
    """`TYPE: message`, in one line."""
    first = error.message.strip().splitlines()[0] if error.message.strip() else ""
    return f"{error.type}: {first}" if first else error.type


_SAYS_ALL: Final = frozenset({"gate_failed", "rejected", "approval_timed_out"})
"""Reasons beside which the error says nothing more."""


def failure_text(task: TaskState) -> str:
    """How a task failed, in one line: how often it was tried, the error, and where in the user's code."""
    error = task.error
    if error is None:
        return task.reason.sentence if task.reason is not None else task.state
    lead = ""
    if task.reason is not None and task.reason.code in _SAYS_ALL:
        return task.reason.sentence
    if task.reason is not None:
        lead, _, _ = task.reason.sentence.partition(": ")
    place = f" ({error.where})" if error.where else ""
    return f"{lead}: {error_text(error)}{place}" if lead else f"{error_text(error)}{place}"
