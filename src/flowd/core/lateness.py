"""What runs of a pipeline came to before, and by it: what has recovered, what is late, and what takes too long.

House rules of this room. Everything is judged from outcomes that are known and a moment that is given: the same
outcomes give the same verdict at whatever time they are looked at.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from statistics import median
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from flowd.core.declared import Expect

MOST_TASKS: Final = 500
"""A run of more tasks is not compared by which of them ran."""
KEPT: Final = 50
"""Outcomes of a pipeline that are remembered."""

_FEWEST: Final = 3
_NEWEST: Final = 20
_FACTOR: Final = 2
_SLACK: Final = timedelta(seconds=1)
"""What is longer by less than this, on top of the factor, is no news."""
_DAY: Final = timedelta(days=1)


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a run ended (succeeded, partial or failed) the `opening`-th time that it was asked for again.

    `begun` are the tasks that ran, `plain`: its duration says something; `slow`: it took too long by then.
    """

    run: str
    opening: int = 0
    state: str
    began: datetime
    ended: datetime
    begun: tuple[str, ...] = ()
    plain: bool = False
    slow: bool = False
    failed: tuple[str, ...] = ()

    @property
    def well(self) -> bool:
        """Whether all of it ended well."""
        return self.state == "succeeded"


class History:
    """The newest outcomes of one pipeline, in the order in which they ended."""

    def __init__(self, outcomes: Iterable[Outcome] = ()) -> None:
        self.outcomes: list[Outcome] = []
        for outcome in outcomes:
            self.add(outcome)

    def add(self, outcome: Outcome) -> None:
        """Remember one, in the place of the same of the same run."""
        same = (outcome.run, outcome.opening)
        self.outcomes = [known for known in self.outcomes if (known.run, known.opening) != same]
        insort(self.outcomes, outcome, key=_order)
        del self.outcomes[:-KEPT]

    def before(self, outcome: Outcome) -> list[Outcome]:
        """Those that ended earlier, the newest first."""
        return [known for known in reversed(self.outcomes) if _order(known) < _order(outcome)]

    def failures(self, outcome: Outcome) -> list[Outcome]:
        """Those before it that were no success, one after the other, the newest first; itself is not among them."""
        found = []
        for known in self.before(outcome):
            if known.well:
                break
            found.append(known)
        return found

    def usual(self, begun: Collection[str], until: datetime) -> timedelta | None:
        """The median duration of the last successes before `until` in which at least these tasks ran.

        None where there are fewer than three: a run in which more had to be done is compared with none.
        """
        wanted = set(begun)
        found = [
            (known.ended - known.began).total_seconds()
            for known in reversed(self.outcomes)
            if known.well and known.plain and known.ended <= until and wanted <= set(known.begun)
        ][:_NEWEST]
        return timedelta(seconds=median(found)) if len(found) >= _FEWEST else None

    def was_slow(self, until: datetime) -> bool:
        """Whether the newest success before `until` whose duration says something took too long."""
        return next(
            (known.slow for known in reversed(self.outcomes) if known.well and known.plain and known.ended <= until),
            False,
        )


def is_slow(taken: timedelta, usual: timedelta | None) -> bool:
    """Whether that is more than twice as long as usual."""
    return usual is not None and taken > _FACTOR * usual + _SLACK


def _order(outcome: Outcome) -> tuple[datetime, str, int]:
    return outcome.ended, outcome.run, outcome.opening


# --- by a time of day --------------------------------------------------------------------------------


def last_due(expect: Expect, now: datetime) -> datetime | None:
    """The newest moment, not after `now`, by which a run has to be done; None where no time of day is named."""
    if expect.done_by is None:
        return None
    return next(moment for moment in _moments(expect, now) if moment <= now)


def due_before(expect: Expect, due: datetime) -> datetime:
    """The moment of the day before: what is done by `due` was begun after it."""
    return next(moment for moment in _moments(expect, due) if moment < due)


def _moments(expect: Expect, now: datetime) -> Iterator[datetime]:
    """From one that may still come, back by a day each; one that a change of the clock leaves out is as much later."""
    assert expect.done_by is not None
    zone = ZoneInfo(expect.timezone)
    hour, minute = map(int, expect.done_by.split(":"))
    day = now.astimezone(zone).date() + _DAY
    for back in range(4):
        local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone) - back * _DAY
        yield local.astimezone(now.tzinfo)


class Missed(msgspec.Struct, frozen=True, kw_only=True):
    """What should have been done by `due`: the first of it was to begin, or began, at `first`."""

    due: datetime
    first: datetime
    sentence: str
    runs: tuple[str, ...] = ()


def missed(
    expect: Expect,
    now: datetime,
    *,
    instants: Sequence[datetime],
    open_runs: Sequence[tuple[str, datetime]],
    history: History,
) -> Missed | None:
    """What is not done at `now` and should have been by the last time of day; None where nothing is amiss.

    `instants` are those at which a schedule was due in the day before that time, `open_runs` the runs that go on with
    when each began. Nothing is expected on a day on which nothing was due and nothing began.
    """
    due = last_due(expect, now)
    if due is None:
        return None
    since = due_before(expect, due)
    began = [at for _, at in open_runs] + [outcome.began for outcome in history.outcomes]
    first = min((at for at in [*instants, *began] if since < at <= due), default=None)
    if first is None or any(outcome.well and outcome.began >= first for outcome in history.outcomes):
        return None
    going = tuple(run for run, at in open_runs if first <= at <= due)
    ended = [outcome for outcome in history.outcomes if outcome.began >= first]
    said = f"it is not done by {expect.done_by} ({expect.timezone}): "
    if going:
        said += f"run {going[0]} still goes on"
    elif ended:
        said += f"run {ended[-1].run} ended {ended[-1].state}"
    else:
        said += "no run of it has begun"
    runs = going or tuple(outcome.run for outcome in ended[-1:])
    return Missed(due=due, first=first, sentence=said, runs=runs)
