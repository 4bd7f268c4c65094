"""An engine that keeps everything in memory: the same rooms, other adapters."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from flowd.adapters.checkpoints import MemoryCheckpoints
from flowd.adapters.clock import SystemClock
from flowd.adapters.executors.coroutine import CoroutineExecutor
from flowd.adapters.executors.failure import describe
from flowd.adapters.executors.thread import ThreadExecutor
from flowd.adapters.filesystem import keeps_times
from flowd.adapters.journal.memory import MemoryJournal
from flowd.adapters.lock_table import MemoryLockTable
from flowd.adapters.results import MemoryResults
from flowd.adapters.secrets import SecretReader
from flowd.adapters.shelf import MemoryShelf
from flowd.engine import engine
from flowd.engine.services import Adapters, FollowerFactory
from flowd.ports.clock import Clock
from flowd.ports.executor import Executor
from flowd.ports.inbox import Answer, Request
from flowd.wiring.build import no_followers


class NoInbox:
    """Nobody else can reach a run that lives in memory."""

    async def take(self, _runs: Collection[str]) -> list[tuple[str, Request]]:
        """Nothing ever waits."""
        return []

    async def answer(self, run: str, request: str, answer: Answer) -> None:
        """Nobody asked."""


class MemoryEngine(engine.Engine):
    """Runs pipelines of coroutines and plain functions without a state directory.

    Two engines share what they remember if they are given the same `journal` and
    `checkpoints`: that is how a restart is tested. `executors` replaces or adds executors.
    """

    def __init__(
        self,
        *,
        max_concurrency: int | None = None,
        limits: Mapping[str, float] | None = None,
        on_exit: str = "cancel",
        grace: str | timedelta = "10s",
        clock: Clock | None = None,
        journal: MemoryJournal | None = None,
        checkpoints: MemoryCheckpoints | None = None,
        results: MemoryResults | None = None,
        locks: MemoryLockTable | None = None,
        executors: Mapping[str, Executor] | None = None,
        followers: FollowerFactory = no_followers,
        patient: bool = False,
    ) -> None:
        self.journal = journal or MemoryJournal()
        self.checkpoints = checkpoints or MemoryCheckpoints()
        self.results = results or MemoryResults()
        self._locks = locks or MemoryLockTable()
        self._clock = clock or SystemClock()
        self._more_executors = dict(executors or {})
        self._followers = followers
        super().__init__(
            self._in_memory,
            max_concurrency=max_concurrency,
            limits=limits,
            on_exit=on_exit,
            grace=grace,
            patient=patient,
        )

    @asynccontextmanager
    async def _in_memory(self) -> AsyncIterator[Adapters]:
        with tempfile.TemporaryDirectory(prefix="flowd-") as folder:
            yield Adapters(
                clock=self._clock,
                journal=self.journal,
                checkpoints=self.checkpoints,
                results=self.results,
                shelf=MemoryShelf(),
                secrets=SecretReader(),
                inbox=NoInbox(),
                locks=self._locks,
                executors={"async": CoroutineExecutor(), "thread": ThreadExecutor(), **self._more_executors},
                describe=describe,
                key=lambda name, place: f"{name}:{place}",
                run_folder=lambda run: Path(folder, run),
                followers=self._followers,
                runs=self.journal.runs,
                end_leftovers=_nothing_left,
                keeps_times=keeps_times,
                state_dir="memory",
                owner="memory",
            )


async def _nothing_left(_incarnations: Sequence[str]) -> None:
    """No process comes of a run in memory."""
