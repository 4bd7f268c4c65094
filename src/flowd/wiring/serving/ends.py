"""Who wants to know at once that a run of this process has ended, or come to rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flowd.core import events as e
from flowd.ports.follower import Signal

_ENDS = (e.RunFinished, e.RunPaused, e.TaskApprovalRequested, e.TaskUncertain)


class Ends:
    """A follower of every run; `listeners` are called when one may have room for others."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[], None]] = []

    async def record(self, envelopes: Sequence[e.Envelope]) -> None:
        """Look for ends among what is durable."""
        if any(isinstance(envelope.event, _ENDS) for envelope in envelopes):
            for listener in self.listeners:
                listener()

    def signal(self, signal: Signal) -> None:
        """Events only."""
