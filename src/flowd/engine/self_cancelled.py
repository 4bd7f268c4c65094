"""A cancellation that comes of a task itself, told from one that stops it."""

from __future__ import annotations

import asyncio


class SelfCancelled(Exception):
    """A task raised CancelledError though nobody had cancelled it."""

    def __init__(self) -> None:
        super().__init__("it raised CancelledError, or awaited something cancelled, though nobody had cancelled it")


def is_its_own(error: BaseException) -> bool:
    """Whether a cancellation comes of the task itself: nobody has cancelled the worker that runs it."""
    if isinstance(error, BaseExceptionGroup) and error.subgroup(_ends_the_process) is not None:
        return False
    worker = asyncio.current_task()
    return worker is not None and not worker.cancelling()


def _ends_the_process(error: BaseException) -> bool:
    return not isinstance(error, Exception | asyncio.CancelledError | BaseExceptionGroup)
