"""The port through which the engine knows and waits for time."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Two clocks and one wait: the wall for records, the monotonic for durations."""

    def now(self) -> datetime:
        """The moment, aware and in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds of awake time since an arbitrary start; never persisted."""
        ...

    async def sleep_until(self, moment: float) -> None:
        """Return once `monotonic()` has reached `moment`."""
        ...
