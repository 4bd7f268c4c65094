"""The engine as users construct it: on a state directory, with the real outside world."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from flowd.adapters.checkpoints import FileCheckpoints, pipeline_key
from flowd.adapters.clock import SystemClock
from flowd.adapters.executors.coroutine import CoroutineExecutor
from flowd.adapters.executors.failure import describe
from flowd.adapters.executors.guardian import Guardian
from flowd.adapters.executors.leftovers import end_leftovers
from flowd.adapters.executors.process import ProcessExecutor
from flowd.adapters.executors.service import ServiceExecutor
from flowd.adapters.executors.shell import ShellExecutor
from flowd.adapters.executors.thread import ThreadExecutor
from flowd.adapters.filesystem import keeps_times, network_warning
from flowd.adapters.followers.attempt_log import AttemptLog
from flowd.adapters.inbox import FileInbox
from flowd.adapters.journal.file import FileJournal
from flowd.adapters.journal.lock import new_incarnation
from flowd.adapters.lock_table import FileLockTable
from flowd.adapters.results import FileResults
from flowd.adapters.secrets import SecretReader
from flowd.adapters.shelf import FileShelf
from flowd.authoring.pipeline import Pipeline
from flowd.core.spec import Definition
from flowd.engine import engine
from flowd.engine.blocking import run_blocking
from flowd.engine.handle import Result
from flowd.engine.saying import say_damage, say_place, say_waiting
from flowd.engine.services import Adapters, FollowerFactory
from flowd.guardian import processes
from flowd.ports.clock import Clock
from flowd.wiring.neighbours import FileNeighbours


def no_followers(_run: str, _folder: Path, _definition: Definition) -> Sequence[Any]:
    """Nobody but the run's own files."""
    return ()


@asynccontextmanager
async def file_adapters(
    state_dir: Path, clock: Clock | None = None, followers: FollowerFactory = no_followers
) -> AsyncIterator[Adapters]:
    """The adapters of a state directory, open."""
    incarnation = new_incarnation()
    if (doubt := network_warning(state_dir)) is not None:
        say_place(doubt)
    guardian = Guardian(incarnation)

    def all_followers(run: str, folder: Path, definition: Definition) -> Sequence[Any]:
        return (AttemptLog(folder), *followers(run, folder, definition))

    commands, functions = ShellExecutor(guardian), ProcessExecutor(guardian)
    with closing(FileLockTable(state_dir, incarnation, guardian.hold)) as locks, closing(FileInbox(state_dir)) as inbox:
        async with (
            FileJournal(state_dir, incarnation=incarnation, report=say_damage, waiting=say_waiting) as journal,
            guardian,
        ):
            yield Adapters(
                clock=clock or SystemClock(),
                journal=journal,
                checkpoints=FileCheckpoints(state_dir, journal, report=say_damage),
                results=FileResults(state_dir),
                shelf=FileShelf(state_dir),
                secrets=SecretReader((processes.MARK, incarnation)),
                inbox=inbox,
                locks=locks,
                executors={
                    "async": CoroutineExecutor(guardian),
                    "thread": ThreadExecutor(guardian),
                    "shell": commands,
                    "process": functions,
                    "service": ServiceExecutor(guardian, commands, functions),
                },
                describe=describe,
                key=lambda name, folder: pipeline_key(name, folder, state_dir),
                run_folder=journal.place,
                followers=all_followers,
                runs=journal.runs,
                end_leftovers=partial(end_leftovers, owning=journal.owning),
                keeps_times=keeps_times,
                neighbours=FileNeighbours(journal),
                state_dir=str(state_dir),
                owner=incarnation,
            )


class Engine(engine.Engine):
    """Runs pipelines concurrently in the event loop that it is opened in, on `state_dir`.

    `max_concurrency` bounds the attempts of all runs together (32 where it is not given),
    `limits` are named capacities that tasks share, `on_exit` is what leaving does to runs that
    are not done: cancel, drain or detach (resumable); `grace` bounds how long that may take. A `patient`
    engine keeps the runs that only wait for a person: an answer, or the end of the time for it, lets them go on here.
    """

    def __init__(
        self,
        state_dir: str | Path = ".flowd",
        *,
        max_concurrency: int | None = None,
        limits: Mapping[str, float] | None = None,
        on_exit: str = "cancel",
        grace: str | timedelta = "10s",
        clock: Clock | None = None,
        followers: FollowerFactory = no_followers,
        patient: bool = False,
    ) -> None:
        place = Path(state_dir).absolute()
        opening: Callable[[], Any] = lambda: file_adapters(place, clock, followers)  # noqa: E731  # reads best as a value
        super().__init__(
            opening, max_concurrency=max_concurrency, limits=limits, on_exit=on_exit, grace=grace, patient=patient
        )


def run(pipeline: Pipeline, *tasks: str, state_dir: str | Path = ".flowd", **options: Any) -> Result:
    """Run `pipeline` to its end in a plain script, without an event loop of one's own.

    `options` are those of `Engine.start`. BadRequest inside a running loop.
    """
    return run_blocking(lambda: Engine(state_dir), pipeline, *tasks, **options)
