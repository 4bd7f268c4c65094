"""The port to what a daemon has decided: facts in order, each durable before anybody acts on the next."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from flowd.core.agenda import Agenda, AnyFact


class AgendaStore(Protocol):
    """Keeps facts. `agenda` is the fold of those that are durable."""

    @property
    def agenda(self) -> Agenda:
        """What is known now."""
        ...

    async def record(self, facts: Sequence[AnyFact], now: datetime) -> None:
        """Make facts durable, then take them in. StorageFailing where the disk refuses: none is taken in."""
        ...
