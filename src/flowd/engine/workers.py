"""The fixed set of tasks that carry attempts out: each takes the next that may start, again and again.

This is the cheap shape: no child task per attempt, no cancel scope per attempt, and a successor
goes on in the task that freed it. An attempt's own context variables are its executor's affair,
so none leak from one attempt into the next.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from flowd.core.limits import Admission, Candidate

if TYPE_CHECKING:
    from flowd.engine.driver import Driver


TURN_S, TURN = 0.005, 128
"""How long, and for how many, attempts that never wait may hold the loop before others have a turn (in seconds)."""


Taken = tuple[Candidate[Hashable] | None, Awaitable[object] | None]


class Workers:
    """At most `most` concurrent attempts of all runs of an engine, in `group`."""

    def __init__(
        self, group: TaskGroup, admission: Admission[Hashable], most: int, monotonic: Callable[[], float]
    ) -> None:
        self._monotonic = monotonic
        self._turn_began = self._now = monotonic()
        self._turn_ending = False
        self._in_turn = 0
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

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let another work in an attempt's place for as long as it only waits for other attempts."""
        self._most += 1
        self.wake(1)
        try:
            yield
        finally:
            self._most -= 1
            if self._idle:
                self._idle.popleft().set()  # it is one too many, and ends

    def has_room(self) -> bool:
        """Whether one more attempt could begin at once."""
        return bool(self._idle) or self._count < self._most

    def _spawn(self) -> None:
        self._group.start_soon(self._work, name="flowd attempt")

    async def _work(self) -> None:
        """Work while wanted. A scope serves until an attempt in it is stopped: one for each attempt would cost 5 µs."""
        while True:
            with anyio.CancelScope() as scope:
                candidate, left_running = await self._until_stopped(scope)
            if candidate is None:
                return
            try:
                if left_running is not None:
                    await left_running  # its limits stay taken until it has really ended
            finally:
                self._release(candidate)

    async def _until_stopped(self, scope: anyio.CancelScope) -> Taken:
        """Take, perform, release; rest when nothing fits. Ends with what was stopped and is still to be released.

        Nothing: there is one too many at work.
        """
        while True:
            while self._turn_is_over():  # noqa: ASYNC110  # no poll: a turn for everyone else
                await asyncio.sleep(0)
            if self._count > self._most:
                self._count -= 1
                return None, None
            candidate = self._admission.take(self._now)
            if candidate is None:
                rest = anyio.Event()
                self._idle.append(rest)
                await rest.wait()
                continue
            key: Any = candidate.key
            driver: Driver = key[0]
            try:
                left_running = await driver.perform(key[1], scope)
            except BaseException:
                self._release(candidate)
                raise
            if scope.cancel_called or left_running is not None:
                return candidate, left_running
            self._release(candidate)

    def _turn_is_over(self) -> bool:
        """Whether others have to be let in: attempts that never wait would hold the loop for a whole fan-out.

        A turn is that of all workers together, and the next begins when the loop has gone round.
        """
        self._now = self._monotonic()
        if self._in_turn < TURN and self._now - self._turn_began <= TURN_S:
            self._in_turn += 1
            return False
        if not self._turn_ending:
            self._turn_ending = True
            asyncio.get_running_loop().call_soon(self._begin_turn)
        return True

    def _begin_turn(self) -> None:
        self._turn_began, self._in_turn, self._turn_ending = self._monotonic(), 0, False

    def _release(self, candidate: Candidate[Hashable]) -> None:
        if candidate.uses:
            self._admission.release(candidate)
            self.wake(1)
