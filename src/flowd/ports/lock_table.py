"""The port to what all engines on one state directory share: who holds what, while it lives."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from flowd.core.claims import Claim, Page, Refusal, Want


class LockTable(Protocol):
    """Grants claims, all of what one asks for or none; what a dead engine held is free at once."""

    async def claim(self, claim: Claim, now: datetime) -> int | Refusal:
        """The number of the hold that is granted, or why not. Raises StorageFailing where it cannot be recorded."""
        ...

    def free(self, hold: int) -> None:
        """End a hold, soon and in order: a later claim finds it free. Freeing twice does nothing."""
        ...

    async def look(self, wants: Sequence[Want], now: datetime) -> tuple[Page, list[Page]]:
        """Say who of this engine's own waits first; its page, and those of the other living engines."""
        ...

    async def starts(self, limit: str) -> list[float]:
        """The starts recorded under a rate, in seconds since 1970, as many as any rate asked for."""
        ...
