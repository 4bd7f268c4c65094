"""Which items of the expanded tasks of a run are handed out: a few ahead of those that run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from typing import Protocol

from flowd.core import states as s
from flowd.core.fanout import is_fanned
from flowd.core.items import fan_of, take
from flowd.core.limits import Admission
from flowd.core.run import RunState

AHEAD = 64
"""So many items of one task wait for a start at once; the others are not looked at yet."""
_NOTHING: Mapping[Hashable, float] = {}


class Stoppable(Protocol):
    """An attempt, as far as it is stopped from here."""

    def stop(self, cause: str) -> None:
        """End it."""
        ...


class Fans:
    """The driver's part in expanded tasks: it hands their items out, and bounds how many of a task run at once."""

    def __init__(self, run: RunState, admission: Admission[Hashable]) -> None:
        self._run = run
        self._admission = admission
        self._waiting: Counter[int] = Counter()
        self._limits: dict[int, Hashable] = {}

    def is_fan(self, number: int) -> bool:
        """Whether this is no task to be begun itself, but one to be expanded."""
        shape = self._run.shape
        return number in shape.special and number < shape.declared and is_fanned(shape.specs[number])

    def hand_out(self, offer: Callable[[int], None]) -> int:
        """Offer items of every expanded task, as many as may wait; how many these are."""
        run, given = self._run, 0
        for fan in run.fans.values():
            if run.tasks[fan.parent].state != s.EXPANDED:
                continue
            while self._waiting[fan.parent] < AHEAD and (number := take(run, fan)) is not None:
                before = self._waiting[fan.parent]
                offer(number)
                given += self._waiting[fan.parent] - before
        return given

    def offered(self, number: int) -> None:
        """A task waits for its start from now on."""
        if (fan := fan_of(self._run, number)) is not None:
            self._waiting[fan.parent] += 1

    def begun(self, number: int) -> None:
        """A task waits no more."""
        if (fan := fan_of(self._run, number)) is not None:
            self._waiting[fan.parent] -= 1

    def uses(self, number: int) -> Mapping[Hashable, float]:
        """What an item holds of its task's own `max_concurrency` while it runs."""
        fan = fan_of(self._run, number)
        bound = fan.template.foreach.max_concurrency if fan is not None and fan.template.foreach is not None else None
        if fan is None or bound is None:
            return _NOTHING
        limit = self._limits.get(fan.parent)
        if limit is None:
            limit = self._limits[fan.parent] = (self._run.id, f"max_concurrency of {fan.template.name}")
            self._admission.resize(limit, bound)
        return {limit: 1.0}

    def stop_beside(self, number: int, attempts: Mapping[int, Stoppable]) -> None:
        """Where an item has failed and its task says `fail_fast`, stop those that run; but let go on what may not."""
        fan = fan_of(self._run, number)
        if fan is not None and fan.halted:
            for other in sorted(self._run.live & attempts.keys()):
                if other in fan.numbers() and self._run.shape.specs[other].idempotent:
                    attempts[other].stop("fail_fast")

    def close(self) -> None:
        """Let go of the limits."""
        for limit in self._limits.values():
            self._admission.drop(limit)
