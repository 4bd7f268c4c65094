"""All that waits for a moment (timeouts, deadlines, retry waits), on one clock and one task."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

import anyio

from flowd.ports.clock import Clock


class Timer:
    """Something that will be called once at a moment, unless it is cancelled before."""

    __slots__ = ("at", "call", "order")

    def __init__(self, at: float, order: int, call: Callable[[], None]) -> None:
        self.at = at
        self.order = order
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Never call it."""
        self.call = None

    def __lt__(self, other: Timer) -> bool:
        return (self.at, self.order) < (other.at, other.order)


class Timers:
    """The engine's timers. `run` is their one task; moments are the clock's monotonic seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[Timer] = []
        self._order = 0
        self._sooner = anyio.Event()

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        """Call `call` on the loop in so many seconds of awake time; at once where it is not positive."""
        self._order += 1
        timer = Timer(self._clock.monotonic() + max(seconds, 0.0), self._order, call)
        heappush(self._heap, timer)
        if self._heap[0] is timer:
            self._sooner.set()
        return timer

    async def run(self) -> None:
        """Call what is due, for ever; ended by cancellation."""
        while True:
            while self._heap and (self._heap[0].call is None or self._heap[0].at <= self._clock.monotonic()):
                call = heappop(self._heap).call
                if call is not None:
                    call()
            self._sooner = anyio.Event()
            if self._heap:
                await self._wait(self._heap[0].at)
            else:
                await self._sooner.wait()

    async def _wait(self, moment: float) -> None:
        async with anyio.create_task_group() as group:

            async def sleep() -> None:
                await self._clock.sleep_until(moment)
                group.cancel_scope.cancel()

            group.start_soon(sleep, name="timer")
            await self._sooner.wait()
            group.cancel_scope.cancel()
