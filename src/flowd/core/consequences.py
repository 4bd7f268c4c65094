"""What a run's end, and the time that goes by, mean beside the earlier runs of its pipeline: more happenings.

House rules of this room: those of `happenings`. Whether an addressee hears of an end to what was late depends on
whether it was told so: `follows` says of what, and `notices` looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from flowd.core.happenings import Happening, Story, said_span
from flowd.core.lateness import History, Missed, Outcome, is_slow, last_due
from flowd.core.spec import PipelineSpec
from flowd.core.views import moment

_LATE: Final = "late"
_SLOW: Final = "slow"


def at_the_end(story: Story, history: History) -> tuple[list[Happening], Outcome | None]:
    """What else is told at the end of a run, by the earlier ones of its pipeline; and how it ended, to remember."""
    outcome = story.outcome()
    if outcome is None:
        return [], None
    found = []
    taken, expect = outcome.ended - outcome.began, story.spec.expect
    common: dict[str, Any] = {"at": outcome.ended, "seq": story.seq, "state": outcome.state}
    late = lateness(story, history, outcome.ended)
    slow = outcome.plain and is_slow(taken, history.usual(outcome.begun, outcome.began))
    if outcome.well:
        failures = history.failures(outcome)
        if failures:
            found.append(_recovered(story, failures, common))
        if expect is not None and (due := last_due(expect, outcome.ended)) is not None:
            found.append(_done_after_all(story.spec, due, outcome, common))
        if late is not None:
            found.append(_done(story, f"it is done, after {said_span(taken)}", late.incident, common))
        elif outcome.plain and not slow and history.was_slow(outcome.began):
            sentence = f"it takes as long as usual again: {said_span(taken)}"
            found.append(_done(story, sentence, "", common))
    if late is not None:
        found.append(late)
    return found, msgspec.structs.replace(outcome, slow=slow)


def _recovered(story: Story, failures: list[Outcome], common: Mapping[str, Any]) -> Happening:
    first, many = failures[-1], len(failures)
    owner = story.owners_of(dict.fromkeys(name for failure in failures for name in failure.failed))
    count = "one run that did not end well" if many == 1 else f"{many} runs that did not end well"
    sentence = f"it has succeeded again, after {count} since {moment(first.ended)}"
    again = (f"flowd show {story.run}",)
    return Happening(
        kind="recovered",
        incident=f"run {first.run}",
        sentence=sentence,
        next=again,
        owner=owner,
        default=owner,
        **common,
    )


def _done(story: Story, sentence: str, incident: str, common: Mapping[str, Any]) -> Happening:
    """What was late is so no more: told to those who were told that."""
    return Happening(
        kind="recovered",
        addressed=_LATE,
        incident=incident or _SLOW,
        follows=incident,
        sentence=sentence,
        next=(f"flowd show {story.run}",),
        owner=story.owners_of(story.tasks),
        **common,
    )


def lateness(story: Story, history: History, now: datetime) -> Happening | None:
    """Whether a run is late at `now`, or when it ended: not done within the time for it, or much slower than usual.

    One alert is enough: both are the same incident, and of runs that are slow one after the other the first is told.
    """
    if story.opened_at is None:
        return None
    taken, expect = now - story.opened_at, story.spec.expect
    done = "it took" if story.ended_at is not None else "it goes on for"
    if expect is not None and expect.within is not None and taken > expect.within:
        sentence = f"{done} {said_span(taken)}; it is expected to be done within {said_span(expect.within)}"
    elif story.plain and (usual := history.usual(story.begun, story.opened_at)) is not None and is_slow(taken, usual):
        if history.was_slow(story.opened_at):
            return None
        sentence = f"{done} {said_span(taken)}; usually it is done in {said_span(usual)}"
    else:
        return None
    return Happening(
        kind=_LATE,
        incident=f"{_LATE} {story.openings}" if story.openings else _LATE,
        at=now,
        seq=story.seq,
        state=story.state,
        sentence=sentence,
        next=(f"flowd show {story.run}",),
        owner=story.owners_of(story.tasks),
    )


def not_done(spec: PipelineSpec, found: Missed) -> Happening:
    """A pipeline that is not done by its time of day, as a happening of no run."""
    return Happening(
        kind=_LATE,
        incident=f"due {moment(found.due)}",
        at=found.due,
        sentence=found.sentence,
        next=tuple(f"flowd show {run}" for run in found.runs),
        owner=tuple(dict.fromkeys(task.owner for task in spec.tasks if task.owner is not None)),
        of_pipeline=True,
    )


def _done_after_all(spec: PipelineSpec, due: datetime, outcome: Outcome, common: Mapping[str, Any]) -> Happening:
    """A pipeline that was late by its time of day, once it has succeeded: told to those who were told so."""
    said = f"it is done, {said_span(outcome.ended - due)} after it should have been: run {outcome.run}"
    owner = tuple(dict.fromkeys(task.owner for task in spec.tasks if task.owner is not None))
    incident = f"due {moment(due)}"
    return Happening(
        kind="recovered",
        addressed=_LATE,
        incident=incident,
        follows=incident,
        sentence=said,
        next=(f"flowd show {outcome.run}",),
        owner=owner,
        of_pipeline=True,
        **common,
    )


def in_a_row(happening: Happening, failures: int) -> Happening:
    """A failed run, with how many there have been of it: each one is told, and none looks like the first."""
    if happening.kind != "failed" or not happening.by_name or not failures:
        return happening
    return msgspec.structs.replace(happening, sentence=f"{happening.sentence} (failure {failures + 1} in a row)")
