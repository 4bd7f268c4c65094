"""Until when a `wait` waits whose turn has come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from flowd.core.spec import Wait


def until(wait: Wait, now: datetime) -> datetime:
    """The moment at which it is over, in UTC; not before `now`.

    A time of day is the next one. One that a change of the clock leaves out is as much later.
    """
    if wait.duration is not None:
        return now + wait.duration
    assert wait.until is not None
    zone = ZoneInfo(wait.timezone)
    if "T" in wait.until or " " in wait.until:
        given = datetime.fromisoformat(wait.until)
        return max(now, (given if given.tzinfo is not None else given.replace(tzinfo=zone)).astimezone(UTC))
    hour, minute = map(int, wait.until.split(":"))
    day = now.astimezone(zone).date()
    for later in range(3):
        local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone) + timedelta(days=later)
        if (moment := local.astimezone(UTC)) >= now:
            return moment
    raise AssertionError("a time of day comes every day")
