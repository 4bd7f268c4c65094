"""An engine that can plan and nothing else: it opens no executor and writes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

from flowd.adapters.checkpoints import FileCheckpoints, pipeline_key
from flowd.adapters.clock import SystemClock
from flowd.adapters.executors.failure import describe
from flowd.adapters.filesystem import keeps_times
from flowd.adapters.inbox import FileInbox
from flowd.adapters.lock_table import FileLockTable
from flowd.adapters.results import FileResults
from flowd.adapters.secrets import SecretReader
from flowd.adapters.shelf import FileShelf
from flowd.engine import engine
from flowd.engine.saying import say_damage
from flowd.engine.services import Adapters
from flowd.wiring.reading import reading


def planning_engine(state_dir: Path) -> engine.Engine:
    """An engine for `plan` on a state directory, which need not exist."""
    return engine.Engine(partial(_adapters, state_dir))


@asynccontextmanager
async def _adapters(state_dir: Path) -> AsyncIterator[Adapters]:
    with (
        reading(state_dir) as journal,
        closing(FileCheckpoints(state_dir, journal, report=say_damage, kept=False)) as checkpoints,
        closing(FileResults(state_dir)) as results,
    ):
        yield Adapters(
            clock=SystemClock(),
            journal=journal,
            checkpoints=checkpoints,
            results=results,
            shelf=FileShelf(state_dir),
            secrets=SecretReader(),
            inbox=FileInbox(state_dir),
            locks=FileLockTable(state_dir, "plan"),
            executors={},
            describe=describe,
            key=lambda name, folder: pipeline_key(name, folder, state_dir),
            run_folder=journal.run_folder,
            followers=lambda _run, _folder, _definition: (),
            runs=journal.runs,
            end_leftovers=_nothing_left,
            keeps_times=keeps_times,
            state_dir=str(state_dir),
            owner="plan",
        )


async def _nothing_left(_incarnations: Sequence[str]) -> None:
    """Who only plans enters no run."""
