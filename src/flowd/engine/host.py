"""The one task in which an engine lives, whoever opens and closes it.

A task group must be left by the task that entered it, but a test fixture or a web framework may
open an engine in one task and close it in another. So the group stands in a task of its own, and
opening and closing only signal to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio


class Host:
    """Holds an async context manager open in a task of its own."""

    def __init__(self, inside: Callable[[], AbstractAsyncContextManager[Any]]) -> None:
        self._inside = inside
        self._task: asyncio.Task[None] | None = None
        self._opened = anyio.Event()
        self._closing = anyio.Event()

    async def open(self) -> None:
        """Return when it is open; raise what opening it raised."""
        self._task = asyncio.create_task(self._hold(), name="flowd engine")
        self._task.add_done_callback(lambda _task: self._opened.set())
        try:
            await self._opened.wait()
        except asyncio.CancelledError:
            self._task.cancel()
            await _until_done(self._task)
            raise
        if self._task.done():
            await self._task

    async def close(self) -> None:
        """Let it close and return when it has; a cancelled caller still waits for that."""
        if self._task is None:
            return
        self._closing.set()
        task, self._task = self._task, None
        await _until_done(task)
        task.result()

    async def _hold(self) -> None:
        async with self._inside():
            self._opened.set()
            await self._closing.wait()


async def _until_done(task: asyncio.Task[None]) -> None:
    """Return when `task` has ended, however often the caller is cancelled meanwhile; then pass the first on."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            with anyio.CancelScope(shield=True):
                await asyncio.wait([task])
        except asyncio.CancelledError as error:  # a native one, which no scope holds back
            cancelled = cancelled or error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # looked at, so that nobody is told it was lost
        raise cancelled
