"""What `ctx.spawn` begins: processes of coroutines and threads, under the guardian like any command's.

They end with the attempt: whatever ends it (its function's return, a cancellation, a timeout,
flowd's own death) leaves none of them behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import anyio
import msgspec

from flowd.adapters.executors.guardian import Command, Guardian
from flowd.adapters.executors.shell import ExitedBadly, error_of, remark
from flowd.ports.executor import Abandoned, Channel, Work


class Spawned(msgspec.Struct, frozen=True, kw_only=True):
    """How a process ended: by `exit_code`, or by a signal of this name.

    `tail` are the last 50 lines of all that it said, which is in the attempt's log; `cpu_s` its
    user and system time, `peak_rss` in bytes.
    """

    exit_code: int | None
    signal: str | None
    tail: tuple[str, ...]
    cpu_s: float
    peak_rss: int


class Spawner:
    """The processes of one attempt. Its methods belong to the loop, but for `from_thread`."""

    __slots__ = ("_abandoned", "_channel", "_closed", "_guardian", "_loop", "_news", "_scopes", "_work")

    def __init__(self, guardian: Guardian | None, work: Work, channel: Channel) -> None:
        self._guardian = guardian
        self._work = work
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._scopes: set[anyio.CancelScope] | None = None
        self._news: anyio.Event | None = None
        self._closed = False
        self._abandoned: Abandoned | None = None

    def run(
        self,
        *argv: str | os.PathLike[str],
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        check: bool = True,
    ) -> Coroutine[Any, Any, Spawned]:
        """Run a program to its end, to be awaited; CommandFailed where it ended badly, unless `check` is false.

        It is cancelled where its attempt ends before it: nobody need await it then.
        """
        guardian, command = self._checked(argv, env, cwd)
        return self._run(guardian, command, check=check)

    async def _run(self, guardian: Guardian, command: Command, *, check: bool) -> Spawned:
        if self._closed:
            raise asyncio.CancelledError(_ended(command.argv[0]))
        scopes = self._scopes = set() if self._scopes is None else self._scopes
        with anyio.CancelScope() as scope:
            scopes.add(scope)
            try:
                report = await guardian.run(command, grace=self._grace)
            except Abandoned as error:
                self._abandoned = error
                raise
            finally:
                scopes.discard(scope)
                if self._news is not None:
                    self._news.set()
        if scope.cancelled_caught:
            raise asyncio.CancelledError(_ended(command.argv[0]))
        remark(report, self._channel)
        if check and report.exit_code != 0:
            raise ExitedBadly(error_of(report), report)
        return Spawned(
            exit_code=report.exit_code,
            signal=report.signal,
            tail=report.tail,
            cpu_s=report.cpu_s,
            peak_rss=report.peak_rss,
        )

    def from_thread(self, *argv: str | os.PathLike[str], **options: Any) -> Spawned:
        """`run`, for the function of another thread: it waits there; RuntimeError where the attempt ends before it."""
        program = self.run(*argv, **options)
        try:
            return asyncio.run_coroutine_threadsafe(program, self._loop).result()
        except CancelledError:
            raise RuntimeError(_ended(os.fspath(argv[0]))) from None

    async def close(self) -> None:
        """Begin no more, and end what lives; raises Abandoned where even SIGKILL did not end it."""
        self._closed = True
        if self._scopes is None:
            return  # the way of most attempts
        for scope in list(self._scopes):
            scope.cancel()
        with anyio.CancelScope(shield=True), contextlib.suppress(asyncio.CancelledError):
            while self._scopes:
                self._news = anyio.Event()
                await self._news.wait()
        if self._abandoned is not None:
            raise self._abandoned

    def _grace(self) -> float:
        return self._work.grace.total_seconds()  # it may have become shorter

    def _checked(
        self,
        argv: Sequence[str | os.PathLike[str]],
        env: Mapping[str, str] | None,
        cwd: str | os.PathLike[str] | None,
    ) -> tuple[Guardian, Command]:
        """The guardian and what to tell it; RuntimeError where nothing can be begun, TypeError for no program."""
        if self._guardian is None:
            raise RuntimeError("this engine begins no processes; use flowd.Engine")
        if self._closed:
            raise RuntimeError("the attempt has ended or is being stopped: it begins no process")
        if not argv or not all(isinstance(word, str | os.PathLike) for word in argv):
            raise TypeError("ctx.spawn takes a program and its arguments, each a text: ctx.spawn('sort', path)")
        work = self._work
        own = {"FLOWD_RUN_ID": work.run_id, "FLOWD_TASK": work.task.name, "FLOWD_ATTEMPT": str(work.attempt)}
        command = Command(
            argv=tuple(os.fspath(word) for word in argv),
            cwd=work.cwd if cwd is None else Path(work.cwd, cwd),
            log=work.log,
            env={**work.env, **own, **(env or {})},
            grace=work.grace.total_seconds(),
            redactions=work.redactions,
        )
        return self._guardian, command


def _ended(program: str) -> str:
    return f"{program} was ended, since its attempt has ended or is being stopped"
