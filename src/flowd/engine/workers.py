"""The fixed set of tasks that carry attempts out: each takes the next that may start, again and again.

This is the cheap shape: no child task per attempt, and a successor goes on in the task that
freed it. An attempt's own context variables are its executor's affair, so none leak from one
attempt into the next.
"""

from __future__ import annotations

import contextvars
from collections import deque
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from flowd.core.limits import Admission

if TYPE_CHECKING:
    from flowd.engine.driver import Driver


TURN_S = 0.005
"""How long attempts that never wait may hold the loop before others have a turn, in seconds."""


class Workers:
    """At most `most` concurrent attempts of all runs of an engine, in `group`."""

    def __init__(
        self, group: TaskGroup, admission: Admission[Hashable], most: int, monotonic: Callable[[], float]
    ) -> None:
        self._monotonic = monotonic
        self._turn_began = monotonic()
        self._group = group
        self._admission = admission
        self._most = most
        self._count = 0
        self._idle: deque[anyio.Event] = deque()
        # Spawned in the context of whoever opened the engine, not of who happens to wake it.
        self._context = contextvars.copy_context()

    def wake(self, number: int) -> None:
        """Up to `number` more candidates may be startable."""
        while number > 0 and self._idle:
            self._idle.popleft().set()
            number -= 1
        while number > 0 and self._count < self._most:
            self._count += 1
            number -= 1
            self._context.copy().run(self._spawn)

    def _spawn(self) -> None:
        self._group.start_soon(self._work, name="flowd attempt")

    async def _work(self) -> None:
        """Take, perform, release; rest when nothing fits."""
        while True:
            candidate = self._admission.take()
            if candidate is None:
                rest = anyio.Event()
                self._idle.append(rest)
                await rest.wait()
                continue
            key: Any = candidate.key
            driver: Driver = key[0]
            try:
                await driver.perform(key[1])
            finally:
                if candidate.uses:
                    self._admission.release(candidate)
                    self.wake(1)
            # Attempts that never wait would hold the loop for a whole fan-out: nothing else could get in.
            if self._monotonic() - self._turn_began > TURN_S:
                await anyio.lowlevel.checkpoint()
                self._turn_began = self._monotonic()
