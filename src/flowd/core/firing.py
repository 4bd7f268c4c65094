"""What becomes of the times at which a schedule is due: which begin a run, which were missed, which wait.

House rules of this room. Everything follows from the schedule, the last instant that was decided about,
and the present one; so the same question asked twice has the same answer, and one asked late loses nothing.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Final

from flowd.core.declared import Schedule
from flowd.core.frozen import Spec
from flowd.core.occurrences import Occurrence, between, count, newest

GRACE: Final = timedelta(seconds=60)
"""How late the newest time may be and still count as on time."""

_REACH: Final = timedelta(days=36525)
"""How far back is looked: no clock that is right says that more was missed than a hundred years."""

_FOREIGN = re.compile(r"[^A-Za-z0-9._-]")
_MOST_KEY = 80


class Missed(Spec, frozen=True, kw_only=True):
    """`number` times from `first` to `last` that begin no run; what is over 10,000 of a cron's is not counted."""

    number: int
    first: datetime
    last: datetime


class Due(Spec, frozen=True, kw_only=True):
    """What is to be begun now, in order, and what was missed before it; `late` where the newest is not on time."""

    fire: tuple[Occurrence, ...] = ()
    missed: Missed | None = None
    late: bool = False


class Overlap(StrEnum):
    """What becomes of a time at which a run of its schedule still goes on."""

    START = "start"
    SKIP = "skip"
    QUEUE = "queue"
    CANCEL = "cancel"


def source_key(pipeline: str, schedule: str) -> str:
    """What a schedule is called among those of all pipelines: `PIPELINE.SCHEDULE`, or the one name where they agree."""
    return pipeline if schedule == pipeline else f"{pipeline}.{schedule}"


def firing_id(source: str, at: datetime, what: str = "") -> str:
    """The id of the run that a source begins for an instant (or a happening, `what`): the same whenever it is asked.

    It sorts by time among other runs' ids, and no two firings have one.
    """
    digest = sha256(f"{source}\n{at.isoformat()}\n{what}".encode()).hexdigest()[:8]
    return f"{at:%Y%m%d-%H%M%S}-{_FOREIGN.sub('_', source)[:_MOST_KEY]}-{digest}"


def due(schedule: Schedule, handled: datetime, now: datetime, grace: timedelta = GRACE) -> Due:
    """What `misfire` makes of all times later than `handled` that have come by `now`.

    The newest is on time unless it is later than `grace`; those before it were missed. `skip` begins what is
    on time alone, `latest` the newest however late it is, `{all: N}` the newest N of the missed as well.
    """
    handled = now - _REACH if now - handled > _REACH else handled
    rule = schedule.misfire
    more = rule["all"] if isinstance(rule, dict) else 0
    found = newest(schedule, handled, now, more + 1)
    if not found:
        return Due()
    late = now - found[-1].at > grace
    if rule == "skip" and late:
        found = []
    elif more and late:
        found = found[-more:]
    until = found[0].at if found else now
    missed = count(schedule, handled, until) - (1 if found else 0)
    if missed <= 0:
        return Due(fire=tuple(found), late=late)
    first = next(between(schedule, handled, now)).at
    last = newest(schedule, handled, until, 2)[0 if found else -1].at
    return Due(fire=tuple(found), late=late, missed=Missed(number=missed, first=first, last=last))


def overlap(rule: str | dict[str, int], *, going_on: bool, waiting: int) -> Overlap:
    """What becomes of a time, given whether a run of its schedule goes on and how many times wait for that to end.

    A run that waits for nobody but people does not go on.
    """
    if not going_on and not waiting:
        return Overlap.START
    if rule == "allow":
        return Overlap.START
    if rule == "cancel_old":
        return Overlap.CANCEL
    if isinstance(rule, dict) and waiting < rule["queue"]:
        return Overlap.QUEUE
    return Overlap.SKIP
