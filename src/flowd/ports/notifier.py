"""The port by which a notice leaves the house."""

from __future__ import annotations

from typing import Protocol

from flowd.core.errors import FlowdError
from flowd.core.notices import Message


class Undelivered(FlowdError):
    """A message did not get there, as far as is known: the text says why, without anything of the URL but its host.

    `for_good`: it never will, however often it is tried. `after` is in how many seconds the receiver asks to be tried
    again; None where it does not say.
    """

    def __init__(self, message: str, *, for_good: bool = False, after: float | None = None) -> None:
        self.for_good = for_good
        self.after = after
        super().__init__(message)


class Deliver(Protocol):
    """Brings a message to a URL; returns once the receiver has it. Raises Undelivered.

    It may be called again for a message that has arrived: the receiver knows it by its id.
    """

    async def __call__(self, url: str, message: Message) -> None:
        """Deliver it, now, once."""
        ...
