"""The task in which an engine lives is waited for, however its opener or closer is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from flowd.engine.host import Host


class Inside:
    """A context that takes a moment to open and to close, and says how far it came."""

    def __init__(self, *, slow: str) -> None:
        self.said: list[str] = []
        self.reached = anyio.Event()
        self.go_on = anyio.Event()
        self._slow = slow

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        try:
            if self._slow == "opening":
                self.reached.set()
                await self.go_on.wait()
            yield
            if self._slow == "closing":
                self.reached.set()
                await self.go_on.wait()
        finally:
            self.said.append("closed")


@pytest.mark.parametrize("native", [True, False])
async def test_opening_that_is_cancelled_leaves_nothing(native: bool) -> None:
    """What was half open is closed before the cancellation goes on."""
    inside = Inside(slow="opening")
    host = Host(inside)
    if native:
        opener = asyncio.create_task(host.open())
        await inside.reached.wait()
        opener.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opener
    else:
        async with anyio.create_task_group() as group:
            group.start_soon(host.open)
            await inside.reached.wait()
            group.cancel_scope.cancel()
    assert inside.said == ["closed"]


@pytest.mark.parametrize("times", [1, 3])
async def test_closing_that_is_cancelled_waits_for_the_end(times: int) -> None:
    """Whoever closes an engine gets its cancellation when the engine is closed, not before."""
    inside = Inside(slow="closing")
    host = Host(inside)
    await host.open()
    closer = asyncio.create_task(host.close())
    await inside.reached.wait()
    for _ in range(times):
        closer.cancel()
        await anyio.lowlevel.checkpoint()
        assert not closer.done()
    inside.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await closer
    assert inside.said == ["closed"]
    await host.close()  # once more is harmless


async def test_what_opening_raises_is_raised() -> None:
    """An engine that cannot open says why."""

    @asynccontextmanager
    async def bad() -> AsyncIterator[None]:
        raise ValueError("no")
        yield

    with pytest.raises(ValueError, match="no"):
        await Host(bad).open()
