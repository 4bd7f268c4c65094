"""An event loop without a wall clock: time passes only when nothing else can happen.

A loop that is about to wait for a timer moves its clock to that timer instead. Nothing outside
the loop is ever waited for, so a history depends on its seed alone. The trick is looptime's and
aiotools' as well.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import anyio
import anyio.lowlevel

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


LONGEST: Final = 3600.0
"""The virtual seconds after which a loop is stuck: whoever then still waits looks in vain again and again."""


class Stuck(Exception):
    """Everything waits, and no timer is left or none that leads anywhere: the run can never go on."""


class _Selector(selectors.SelectSelector):
    """Waits for nothing: an empty wait is time that passes."""

    passes: Callable[[float | None], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout != 0:
            self.passes(timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Counts its steps: `on_step` is called before each callback that is scheduled."""

    def __init__(self, start: float, on_step: Callable[[], None]) -> None:
        selector = _Selector()
        selector.passes = self._passes
        self._moment, self._ends = start, start + LONGEST
        self._on_step = on_step
        super().__init__(selector)

    def time(self) -> float:
        """Virtual seconds."""
        return self._moment

    def call_soon(  # type: ignore[override]  # the arguments pass through as they are
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        """Schedule a step."""
        self._on_step()
        return super().call_soon(callback, *args, context=context)

    def _passes(self, timeout: float | None) -> None:
        if timeout is None:
            raise Stuck("everything waits, and no timer is left")
        if self._moment + timeout > self._ends:
            raise Stuck(f"it did not come to rest in {LONGEST:g} s")
        self._moment += timeout


async def at_once(call: Callable[..., Any], *arguments: Any, **_options: Any) -> Any:
    """Stands for `anyio.to_thread.run_sync`: a real thread would take what time it likes."""
    await anyio.lowlevel.checkpoint()
    return call(*arguments)


class VirtualClock:
    """The engine's clock on such a loop."""

    def now(self) -> datetime:
        """The virtual moment, in UTC."""
        return BEGAN + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Virtual seconds; they go on over the lives of one history."""
        return asyncio.get_running_loop().time()

    async def sleep_until(self, moment: float) -> None:
        """Return once virtual time has reached `moment`."""
        await anyio.sleep(max(moment - self.monotonic(), 0.0))
