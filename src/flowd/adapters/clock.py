"""The real clocks of this machine."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import anyio


class SystemClock:
    """Wall time in UTC, and monotonic time that stands still while the machine is suspended."""

    def now(self) -> datetime:
        """The moment, aware and in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds of awake time since an arbitrary start."""
        return time.monotonic()

    async def sleep_until(self, moment: float) -> None:
        """Return once `monotonic()` has reached `moment`."""
        while (left := moment - time.monotonic()) > 0:  # noqa: ASYNC110  # a sleep may end early
            await anyio.sleep(left)
