"""Runs plain functions, each in a thread of its own that lets the program end without it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
from collections.abc import Awaitable, Generator
from typing import Any, Self

import anyio

from flowd.adapters.executors.context import Context
from flowd.adapters.executors.failure import of_user_code
from flowd.adapters.executors.guardian import Guardian
from flowd.adapters.executors.spawned import Spawner
from flowd.ports.executor import Abandoned, Channel, NotStarted, Work, attempt_at_work


class ThreadExecutor:
    """One daemon thread for each attempt: a thread that hangs takes nobody's place and blocks no exit.

    `guardian` begins what `ctx.spawn` asks for.
    """

    def __init__(self, guardian: Guardian | None = None) -> None:
        self._guardian = guardian

    async def __aenter__(self) -> Self:
        """There is nothing to open."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Threads that were abandoned end when they end."""

    async def run(self, work: Work, channel: Channel) -> object:
        """Call the function in a thread and return what it returns.

        A thread cannot be stopped. Cancelled, what it spawned is ended, `ctx.cancelled` turns true
        and the function has `work.grace` to return; if it does not, or at a second cancellation, Abandoned is raised.
        """
        spawner = Spawner(self._guardian, work, channel)
        call = _ThreadCall(work, channel, spawner)
        call.start()
        try:
            await call.ended.wait()
        finally:
            call.cancelled = not call.ended.is_set()
            try:
                await spawner.close()
            finally:
                if call.cancelled:
                    await self._notice(call, work)
        return call.result()

    async def _notice(self, call: _ThreadCall, work: Work) -> None:
        """Return when the thread has ended, within the grace; raise Abandoned otherwise."""
        with anyio.CancelScope(shield=True), contextlib.suppress(asyncio.CancelledError):
            with anyio.move_on_after(work.grace.total_seconds()):
                await call.ended.wait()
        if not call.ended.is_set():
            seconds = work.grace.total_seconds()
            raise Abandoned(
                f"its thread did not return within {seconds:g}s of being asked to stop, and a thread cannot be ended",
                finished=call,
            ) from None


class _ThreadCall:
    """A function on its way through a thread; awaitable until the thread is done with it."""

    def __init__(self, work: Work, channel: Channel, spawner: Spawner) -> None:
        self.ended = anyio.Event()
        self.cancelled = False
        self._work = work
        self._channel = channel
        self._spawner = spawner
        self._loop = asyncio.get_running_loop()
        self._value: Any = None
        self._failure: BaseException | None = None

    def __await__(self) -> Generator[Any, Any, None]:
        return self.ended.wait().__await__()

    def start(self) -> None:
        context = contextvars.copy_context()
        context.run(attempt_at_work.set, self._work)
        thread = threading.Thread(
            target=context.run, args=(self._perform,), name=f"flowd {self._work.task.name}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            raise NotStarted(f"its thread cannot begin: {error}") from error

    def result(self) -> Any:
        if self._failure is not None:
            try:
                raise of_user_code(self._failure, self._work.folder)
            finally:
                self._failure = None  # the exception's frames hold this object: no cycle is left behind
        return self._value

    def _perform(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:  # noqa: BLE001  # whatever the user's code raises is told to the engine
            self._failure = error
        # The loop may be gone by now if the thread was abandoned.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.ended.set)

    def _call(self) -> Any:
        work = self._work
        assert work.function is not None
        arguments: dict[str, Any] = dict(work.arguments)
        if work.wants_ctx:
            arguments["ctx"] = Context(work, self._channel, lambda: self.cancelled, self._spawner.from_thread)
        return plain(work.function(**arguments), "thread")


def plain(value: Any, executor: str) -> Any:
    """`value`, the result of a plain function; TypeError where it is a promise of one."""
    if isinstance(value, Awaitable):
        if inspect.iscoroutine(value):
            value.close()
        raise TypeError(
            f"executor {executor}: the function returned something to await instead of its result; use executor async"
        )
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        raise TypeError(
            f"executor {executor}: the function is a generator, which has not done anything yet; "
            "return a list, or call it from a function that uses it up"
        )
    return value
