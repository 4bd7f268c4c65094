"""Runs services: commands or functions in processes of their own that serve, from a probe that passes to their stop."""

from __future__ import annotations

import time
from typing import Self

import anyio
import anyio.to_thread
import msgspec

from flowd.adapters.executors.guardian import Guardian
from flowd.adapters.executors.probing import Probing
from flowd.adapters.executors.process import ProcessExecutor
from flowd.adapters.executors.shell import ExitedBadly, ShellExecutor
from flowd.core.durations import format_duration
from flowd.core.events import Ending, Error
from flowd.core.spec import Call
from flowd.ports.executor import Channel, CommandFailed, Work


class NotReady(CommandFailed):
    """A service's probe has not passed in time."""

    def __init__(self, message: str) -> None:
        super().__init__(Error(type=type(self).__name__, message=message))


class EndedByItself(CommandFailed):
    """A service has ended though nobody had stopped it."""

    def __init__(self) -> None:
        super().__init__(Error(type=type(self).__name__, message="the service ended by itself, with exit code 0"))


class ServiceExecutor:
    """Begins a service by one of the executors of processes, and asks meanwhile whether it serves."""

    def __init__(self, guardian: Guardian, commands: ShellExecutor, functions: ProcessExecutor) -> None:
        self._guardian = guardian
        self._commands = commands
        self._functions = functions

    async def __aenter__(self) -> Self:
        """The executors are opened and closed by whoever owns them."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """The executors are opened and closed by whoever owns them."""

    async def run(self, work: Work, channel: Channel) -> object:
        """Run the service until it is stopped by cancelling the caller's scope.

        Raises NotReady with what the last probe said, EndedByItself, and what its process failed with.
        """
        one = _Instance(work, channel, Probing(work, self._guardian))
        work.began = one.began
        executor = self._functions if isinstance(work.task.action, Call) else self._commands
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(one.watch, name=f"flowd probe of {work.task.name}")
                await executor.run(work, one)
                group.cancel_scope.cancel()
        except ExceptionGroup as errors:
            raise one.told(_first(errors)) from None
        raise EndedByItself


class _Instance:
    """One process of a service, from its beginning to its end: the channel of what carries it out."""

    def __init__(self, work: Work, channel: Channel, probing: Probing) -> None:
        self._work = work
        self._channel = channel
        self._probing = probing
        self._ending: Ending | None = None
        self._pid = 0
        self._born = anyio.Event()
        self.log = channel.log
        self.metric = channel.metric
        self.progress = channel.progress
        self.probed = channel.probed
        self.serves = channel.serves

    def began(self, pid: int) -> None:
        """Its first process has begun."""
        self._pid = pid
        self._born.set()

    def ended(self, ending: Ending) -> None:
        """Its first process has ended."""
        self._ending = ending
        self._channel.ended(ending)

    async def watch(self) -> None:
        """Ask until the probe passes, and tell it; NotReady where it has not in time."""
        service, work = self._work.task.service, self._work
        assert service is not None
        await self._born.wait()
        due = time.monotonic() + service.ready.timeout.total_seconds()
        while (wrong := await self._probing.ask(self._pid)) is not None:
            self._channel.probed(wrong)
            if time.monotonic() >= due:
                raise NotReady(f"not ready after {format_duration(service.ready.timeout)}: {wrong}")
            await anyio.sleep(service.ready.every.total_seconds())
        url = f"http://127.0.0.1:{work.port}" if work.port else ""
        self._channel.probed("")
        await self._channel.serves(url, self._pid)

    def told(self, failure: Exception) -> Exception:
        """A failure with the last words of the process, where it says nothing of them itself."""
        if isinstance(failure, NotReady) and self._ending is not None and self._ending.tail:
            return NotReady(f"{failure}; it said last: {self._ending.tail[-1].strip()}")
        if isinstance(failure, ExitedBadly):
            failure.error = msgspec.structs.replace(failure.error, message=f"the service ended by itself: {failure}")
        return failure


def _first(error: Exception) -> Exception:
    """What went wrong first, inside of the group that came of it."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
