"""At which instants a schedule is due: what cron says of wall clocks, and what a change of the clock makes of it.

House rules of this room. Cronsim reads an expression and finds its wall-clock times; it is asked in times
without a zone, and what becomes of them is decided here. Between two changes of a zone's offset, wall
clock and instants differ by a constant; so each such stretch is looked at by itself.

- Where the hours are all 24, however that is written, it is due at every instant at which the clock shows
  one of its times: every hour is every real hour, and `dst` has no say. Else:
- Times that a day lacks are due once, by `gap: shift`, at the first instant after the gap, and by `gap: skip`
  not at all. That holds for `0 */2 * * *`, too, which would lose a run in a gap and have two in a fold.
- A time that a day has twice is due by `fold`: at its first, its second, or both; but where the minute begins
  with `*`, as in Debian's cron, at both: it repeats for as long as its hour lasts.
- `every` counts real time from the beginning of 1970 in UTC, so that it is the same after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim

from flowd.core.declared import Schedule
from flowd.core.frozen import Spec

GAP, FIRST, SECOND = "gap", "fold", "fold_second"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_STEP: Final = timedelta(hours=12)
"""No zone changes its offset and back within it."""
_STRETCH: Final = timedelta(days=400)
_FAR: Final = datetime(9990, 1, 1, tzinfo=UTC)
_MOST_COUNTED: Final = 10_000


class Occurrence(Spec, frozen=True, kw_only=True):
    """An instant at which a schedule is due.

    `mark` is `gap` where its own time is missing from that day, `fold` where that day has it twice and this
    is the first, `fold_second` where it is the second; else empty.
    """

    at: datetime
    mark: str = ""


def occurrences(schedule: Schedule, after: datetime) -> Iterator[Occurrence]:
    """When it is due, later than `after`, each instant once, in order; for ever, or as far as dates reach."""
    if schedule.every is not None:
        yield from _intervals(schedule.every, after)
        return
    last = after
    for found in _of_cron(schedule, after):
        if found.at > last:  # what is shifted may meet what is due there anyway
            last = found.at
            yield found


def between(schedule: Schedule, after: datetime, until: datetime) -> Iterator[Occurrence]:
    """When it is due, later than `after` and not later than `until`."""
    for found in occurrences(schedule, after):
        if found.at > until:
            return
        yield found


def newest(schedule: Schedule, after: datetime, until: datetime, most: int) -> list[Occurrence]:
    """The last `most` of `between`, without looking at the others: there may be years of them."""
    found: list[Occurrence] = []
    end, width = until if schedule.every is not None else min(until, _FAR), timedelta(hours=1)
    while end > after and len(found) < most:
        start = max(after, end - width) if end - _EPOCH > width else after
        found = [*between(schedule, start, end), *found]
        end, width = start, 2 * width
    return found[-most:]


def count(schedule: Schedule, after: datetime, until: datetime) -> int:
    """How many `between` has; what is more than 10,000 of a cron's is not counted."""
    if schedule.every is not None:
        return max((until - _EPOCH) // schedule.every - (after - _EPOCH) // schedule.every, 0)
    return sum(1 for _ in islice(between(schedule, after, until), _MOST_COUNTED))


def counted_in_words(number: int, schedule: Schedule) -> str:
    """A number of `count` as it is said."""
    return f"at least {number}" if schedule.every is None and number >= _MOST_COUNTED else str(number)


def explained(schedule: Schedule) -> str:
    """When it is due, in words."""
    if schedule.every is not None:
        from flowd.core.durations import format_duration

        return f"every {format_duration(schedule.every)}"
    assert schedule.cron is not None
    return f"{CronSim(schedule.cron, _EPOCH.replace(tzinfo=None)).explain()} ({schedule.timezone})"


def _intervals(every: timedelta, after: datetime) -> Iterator[Occurrence]:
    number = (after - _EPOCH) // every
    while True:
        number += 1
        try:
            yield Occurrence(at=_EPOCH + number * every)
        except OverflowError:
            return


# --- cron ---------------------------------------------------------------------------------------------------


class _Stretch(Spec, frozen=True, kw_only=True):
    """From `start` to before `end` the clock is `offset` ahead of UTC; before `start` it was `before`."""

    start: datetime
    end: datetime
    offset: timedelta
    before: timedelta
    later: timedelta
    """The offset from `end` on."""


def _of_cron(schedule: Schedule, after: datetime) -> Iterator[Occurrence]:
    """In order, but that some may be told again, or be no later than `after`."""
    assert schedule.cron is not None
    all_hours = len(CronSim(schedule.cron, _EPOCH.replace(tzinfo=None)).hours) == 24
    fixed = not all_hours and not schedule.cron.startswith("*")
    shifts = not all_hours and schedule.dst.gap == "shift"
    for stretch in _stretches(ZoneInfo(schedule.timezone), after):
        if shifts and stretch.offset > stretch.before and _lacks(schedule.cron, stretch):
            yield Occurrence(at=stretch.start, mark=GAP)
        for wall in _walls(schedule.cron, stretch.start, stretch.end, stretch.offset):
            found = _judged(wall, stretch, schedule.dst.fold, fixed=fixed)
            if found is not None and found.at > after:
                yield found


def _judged(wall: datetime, stretch: _Stretch, fold: str, *, fixed: bool) -> Occurrence | None:
    """What is due at a wall-clock time of a stretch."""
    at = (wall - stretch.offset).replace(tzinfo=UTC)
    if at < stretch.start + (stretch.before - stretch.offset):
        mark = SECOND
    elif at >= stretch.end - (stretch.offset - stretch.later):
        mark = FIRST
    else:
        return Occurrence(at=at)
    if fixed and fold != "both" and (fold == "first") != (mark == FIRST):
        return None
    return Occurrence(at=at, mark=mark)


def _lacks(cron: str, stretch: _Stretch) -> bool:
    """Whether what the clock leaps over, where a stretch begins, holds a time of `cron`."""
    leapt = stretch.start + (stretch.offset - stretch.before)
    return next(_walls(cron, stretch.start, leapt, stretch.before), None) is not None


def _walls(cron: str, start: datetime, end: datetime, offset: timedelta) -> Iterator[datetime]:
    """The wall-clock times of `cron` from `start` to before `end`, of a clock that is `offset` ahead of UTC."""
    first, last = (start + offset).replace(tzinfo=None), (end + offset).replace(tzinfo=None)
    if first.microsecond:
        first = first.replace(microsecond=0) + _SECOND
    with suppress(OverflowError, ValueError):  # cronsim looks beyond the last year that dates know
        for wall in CronSim(cron, first - _SECOND):
            if wall >= last:
                return
            yield wall


def _stretches(zone: ZoneInfo, after: datetime) -> Iterator[_Stretch]:
    """The stretches of one offset, from the one that holds `after`'s day on."""
    start = datetime.combine(after.astimezone(UTC).date(), datetime.min.time(), tzinfo=UTC)
    start = max(start - 2 * _STEP, datetime.min.replace(tzinfo=UTC) + 4 * _STEP)
    before = offset = _offset(zone, start)
    while start < _FAR:
        end = _change_after(zone, start)
        later = _offset(zone, end)
        yield _Stretch(start=start, end=end, offset=offset, before=before, later=later)
        start, before, offset = end, offset, later


@lru_cache(maxsize=4096)
def _change_after(zone: ZoneInfo, start: datetime) -> datetime:
    """The first instant after `start` at which a zone has another offset, or one some 400 days later."""
    offset, low, limit = _offset(zone, start), start, start + _STRETCH
    while low < limit:
        high = low + _STEP
        if _offset(zone, high) != offset:
            while high - low > _SECOND:
                middle = (low + (high - low) / 2).replace(microsecond=0)
                low, high = (middle, high) if _offset(zone, middle) == offset else (low, middle)
            return high
        low = high
    return limit


def _offset(zone: ZoneInfo, at: datetime) -> timedelta:
    found = at.astimezone(zone).utcoffset()
    assert found is not None
    return found
