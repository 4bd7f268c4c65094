"""Runs `async def` functions in the engine's own loop, each in a context of its own."""

from __future__ import annotations

import asyncio
import contextvars
import types
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, Self

from flowd.adapters.executors.context import Context
from flowd.adapters.executors.failure import of_user_code
from flowd.adapters.executors.guardian import Guardian
from flowd.adapters.executors.spawned import Spawner
from flowd.ports.executor import Channel, Work, attempt_at_work


class CoroutineExecutor:
    """Awaits the function in the caller's task: no new task, and no context variable gets out.

    `guardian` begins what `ctx.spawn` asks for.
    """

    def __init__(self, guardian: Guardian | None = None) -> None:
        self._guardian = guardian

    async def __aenter__(self) -> Self:
        """There is nothing to open."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """There is nothing to close."""

    async def run(self, work: Work, channel: Channel) -> object:
        """Await the function's result; TypeError where it gives nothing to await."""
        assert work.function is not None
        context = contextvars.copy_context()
        context.run(attempt_at_work.set, work)
        stopping = _Flag()
        arguments: dict[str, Any] = dict(work.arguments)
        spawner = None
        if work.wants_ctx:
            spawner = Spawner(self._guardian, work, channel)
            arguments["ctx"] = Context(work, channel, stopping.is_set, spawner.run)
        try:
            started = context.run(work.function, **arguments)
            return await _Within(context, _coroutine(work, started), stopping)
        except SystemExit as error:
            raise of_user_code(error, work.folder) from error
        finally:
            if spawner is not None:
                await spawner.close()


class _Flag:
    __slots__ = ("up",)

    def __init__(self) -> None:
        self.up = False

    def is_set(self) -> bool:
        return self.up


def _coroutine(work: Work, started: object) -> Coroutine[Any, Any, Any]:
    if isinstance(started, Coroutine):
        return started
    if isinstance(started, Awaitable):
        return _awaiting(started)
    raise TypeError(
        f"executor async: the function of {work.task.name} returned {_kind(started)}, not something to await; "
        "write it as `async def`, or let it run in executor thread"
    )


def _kind(value: object) -> str:
    return "an async generator" if isinstance(value, types.AsyncGeneratorType) else f"a {type(value).__name__}"


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


class _Within:
    """Awaits `coroutine` inside `context`, passing on whatever its caller's task sends or throws."""

    def __init__(self, context: contextvars.Context, coroutine: Coroutine[Any, Any, Any], stopping: _Flag) -> None:
        self._run = context.run
        self._coroutine = coroutine
        self._stopping = stopping

    def __await__(self) -> Generator[Any, Any, Any]:
        run, coroutine = self._run, self._coroutine
        try:
            wanted = run(coroutine.send, None)
            while True:
                try:
                    answer = yield wanted
                except GeneratorExit:
                    run(coroutine.close)
                    raise
                except BaseException as error:  # noqa: BLE001  # it belongs to the coroutine, whatever it is
                    self._stopping.up = self._stopping.up or isinstance(error, asyncio.CancelledError)
                    wanted = run(coroutine.throw, error)
                else:
                    wanted = run(coroutine.send, answer)
        except StopIteration as end:
            return end.value
