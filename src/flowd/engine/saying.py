"""What the engine itself has to say, to whatever logging the host program has set up."""

from __future__ import annotations

from functools import cache
from typing import Any


def warn(event: str, **fields: Any) -> None:
    """One warning on the standard library's logger `flowd`; the host's configuration decides.

    structlog is imported here, on the first warning, because most runs never have one.
    """
    import logging

    import structlog

    logger = structlog.wrap_logger(
        logging.getLogger("flowd"), processors=[structlog.processors.KeyValueRenderer(key_order=["event"])]
    )
    logger.warning(event, **fields)


@cache  # once in a process, however many engines are opened there
def say_place(said: str) -> None:
    """The state directory is in a place that promises less than a local disk does."""
    warn("state_dir_on_network_file_system", what=said)


def say_waiting(said: str) -> None:
    """The disk does not answer: nothing is promised meanwhile, and everything goes on once it does."""
    warn("waiting_for_disk", what=said)


def say_damage(said: str) -> None:
    """Something in the state directory is not what was written there, and what was done about it."""
    warn("state_damaged", what=said)
