"""Keeping at work: once an hour, what is kept no longer is removed."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from datetime import datetime
from typing import Any, Final, Protocol

import anyio.to_thread

from flowd.daemon.saying import say
from flowd.ports.clock import Clock

EVERY_S: Final = 3600.0
FIRST_S: Final = 60.0
"""Not at once: a daemon that is started again and again has better things to do."""


class Removed(Protocol):
    """What was removed, and the runs that cannot be read."""

    @property
    def runs(self) -> Sequence[Any]: ...  # noqa: D102
    @property
    def results(self) -> Sized: ...  # noqa: D102
    @property
    def outputs(self) -> Sequence[Any]: ...  # noqa: D102
    @property
    def damaged(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102


class Keeping:
    """Removes, by `prune`, which blocks, what is kept no longer at a moment."""

    def __init__(self, prune: Callable[[datetime], Removed], clock: Clock) -> None:
        self._prune = prune
        self._clock = clock

    async def run(self) -> None:
        """Prune again and again, for ever."""
        await self._clock.sleep_until(self._clock.monotonic() + FIRST_S)
        while True:
            await self.run_once(self._clock.now())
            await self._clock.sleep_until(self._clock.monotonic() + EVERY_S)

    async def run_once(self, now: datetime) -> None:
        """Prune once. StorageFailing."""
        done = await anyio.to_thread.run_sync(self._prune, now)
        if done.runs or done.results or done.outputs:
            counts = len(done.runs), len(done.results), len(done.outputs)
            say("pruned", runs=counts[0], results=counts[1], outputs=counts[2], bytes=done.size)
        if done.damaged:
            say("runs_damaged", level="warning", runs=list(done.damaged[:10]), hint="flowd doctor")
