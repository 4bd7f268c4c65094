"""What the checks share: the adapters of the state directory, and what one look at each run found.

Each journal is read once from end to end, a piece at a time. What is kept of a run is small,
whatever its journal holds: its end, what is wrong with it, and what it says about files elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from flowd.adapters.checkpoints import Corrupt, FileCheckpoints, Summary, pipeline_key
from flowd.adapters.journal import mark as marks
from flowd.adapters.journal.file import FileJournal
from flowd.adapters.journal.lock import Owner
from flowd.adapters.journal.mark import Mark
from flowd.adapters.journal.repair import Repair
from flowd.adapters.results import FileResults
from flowd.core import states as s
from flowd.core.errors import IllegalTransition, NoSuchRun, StateDamaged, StorageFailing
from flowd.core.events import Stored, TaskExpanded, TaskFresh, TaskPartial, TaskResolved, TaskSucceeded
from flowd.core.keyed import declared
from flowd.core.run import RunState
from flowd.core.spec import Call, Definition
from flowd.core.views import run_status
from flowd.engine.checkpointing import keeps, newest
from flowd.engine.program import lives_in_its_program
from flowd.ports.stores import Checkpoint


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A task that holds some of a limit now; `capacity` is what its pipeline declares."""

    limit: str
    task: str
    weight: float
    capacity: float


class Seen(msgspec.Struct, kw_only=True, eq=False):
    """One run as it was found.

    `damage` is what its readers are refused with, after `records` good ones, `failure` why the
    system did not let it be read. `torn` is the tail that a new owner would set aside, `mark` None
    where there is none that can be read. `bound`: its functions
    live only in the program that began it. `newer` are its checkpoints that the pipeline's file lacked.
    """

    id: str
    folder: Path
    owner: Owner | None = None
    status: str = s.RUN_NEW
    ended: bool = False
    records: int = 0
    torn: Repair | None = None
    mark: Mark | None = None
    damage: str | None = None
    failure: str | None = None
    keeps: bool = False
    key: str = ""
    bound: bool = False
    uncertain: tuple[str, ...] = ()
    holds: tuple[Hold, ...] = ()
    newer: dict[str, Checkpoint] = {}


class Patient:
    """A state directory under examination at the moment `now`, which may be written in where `repair`.

    `flags` is what makes a typed command find it.
    """

    def __init__(self, state_dir: Path, now: datetime, flags: str = "", *, repair: bool = False) -> None:
        self.state_dir = state_dir.absolute()
        self.now = now
        self.flags = flags
        self.repair = repair
        self.exists = self.state_dir.is_dir()
        self.ground = next(folder for folder in (self.state_dir, *self.state_dir.parents) if folder.is_dir())
        self.journal = FileJournal(self.state_dir)
        self.checkpoints = FileCheckpoints(self.state_dir, self.journal)
        self.results = FileResults(self.state_dir)
        self.runs: list[Seen] = []
        self.summaries: dict[str, Summary] = {}
        # the key under which a run's checkpoints are kept, where the files themselves say it
        self.keys: dict[str, str] = {}
        # who refers to a result that is a file of its own, by digest and codec
        self.stored: dict[tuple[str, str], tuple[str, str]] = {}
        self.newest: tuple[datetime, str] | None = None
        self._pipelines: list[str] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for adapter in (self.journal, self.checkpoints, self.results):
            self._stack.enter_context(closing(adapter))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def look(self) -> None:
        """Look at everything once, and change nothing."""
        self._look_at_checkpoints()
        self.runs = list(self._look_at_runs())

    def _look_at_checkpoints(self) -> None:
        self._pipelines = self.checkpoints.pipelines()
        for key in self._pipelines:
            for run in self.checkpoints.announced(key):
                self.keys[run] = key
            try:
                summary = self.checkpoints.summary(key)
            except (Corrupt, StateDamaged):
                continue  # its check says so
            self.summaries[key] = summary
            for task, checkpoint in summary.checkpoints.items():
                self.keys.setdefault(checkpoint.run, key)
                self._refer(checkpoint.result, checkpoint.run, task)

    def _look_at_runs(self) -> Iterator[Seen]:
        for run in self.journal.runs():
            try:
                yield self._look_at(run)
            except (NoSuchRun, StateDamaged):
                continue  # removed meanwhile, or its definition is: the check of the journals says so

    def _look_at(self, run: str) -> Seen:
        journal = self.journal
        seen = Seen(id=run, folder=journal.run_folder(run))
        try:
            # first: one that ends meanwhile is then not taken for one left behind
            seen.owner = journal.is_owned(seen.id)
            self._read(seen)
            if seen.torn is not None and journal.is_owned(run) is not None:
                return self._look_at(run)  # it was a commit under way of one who has come meanwhile
        except (StateDamaged, IllegalTransition) as error:
            seen.damage = str(error)
        except (StorageFailing, OSError) as error:
            seen.failure = str(error)
        return seen

    def again(self, seen: Seen) -> Seen:
        """A run that is held for mending, as it is by now. StateDamaged, StorageFailing."""
        now = self._look_at(seen.id)
        if now.damage is not None:
            raise StateDamaged(now.damage)
        if now.failure is not None:
            raise StorageFailing(now.failure)
        return now

    def _read(self, seen: Seen) -> None:
        definition = self.journal.defined(seen.id)
        seen.mark = marks.load(seen.folder / "mark")
        state = RunState(seen.id, definition.spec)
        seen.key = self._key_of(seen.id, definition)
        self._fold(seen, state)
        if seen.owner is None:
            seen.torn = self.journal.inspect(seen.id)

    @property
    def intact(self) -> list[Seen]:
        """The runs whose journals could be read to their ends."""
        return [seen for seen in self.runs if seen.damage is None and seen.failure is None]

    def _fold(self, seen: Seen, state: RunState) -> None:
        latest: datetime | None = None
        try:
            for envelope in self.journal.records(seen.id):
                state.apply(envelope.event, envelope.at)
                seen.records = envelope.seq
                latest = envelope.at
                if isinstance(envelope.event, TaskSucceeded | TaskFresh | TaskResolved | TaskExpanded | TaskPartial):
                    self._refer(envelope.event.result, seen.id, envelope.event.task)
        finally:
            seen.status = run_status(state, owned=seen.owner is not None)
            if state.state == s.RUN_NEW:
                seen.status = s.RUN_NEW
            seen.ended = state.state in s.RUN_ENDED
            seen.uncertain = tuple(
                spec.name
                for spec, task in zip(state.shape.specs, state.tasks, strict=True)
                if task.state == s.UNCERTAIN
            )
            seen.holds = tuple(_holds(state)) if seen.owner is not None else ()
            seen.keeps = keeps(state.spec)  # which may be another than the run began with
            calls = [call for task in state.spec.tasks for call in (task.action, task.reconcile)]
            seen.bound = any(isinstance(call, Call) and lives_in_its_program(call) for call in calls)
            if seen.keeps:
                seen.newer = self.missing(seen.key, newest(state))
            if latest is not None and (self.newest is None or latest > self.newest[0]):
                self.newest = (latest, seen.id)

    def _key_of(self, run: str, definition: Definition) -> str:
        """The pipeline that a run belongs to; empty where the project was moved since, and nothing says it."""
        name = definition.spec.name
        known = self.keys.get(run)
        if known is not None:
            return known
        key = pipeline_key(name, Path(definition.folder), self.state_dir)
        moved = any(other.rpartition("-")[0] == name for other in self._pipelines)
        return "" if moved and key not in self._pipelines else key

    def missing(self, key: str, found: dict[str, Checkpoint]) -> dict[str, Checkpoint]:
        """Those of `found` that are newer than what is kept of the pipeline, and were not forgotten."""
        summary = self.summaries.get(key, Summary())
        known = summary.checkpoints
        later = {
            task: checkpoint
            for task, checkpoint in found.items()
            if task not in known or known[task].at < checkpoint.at
        }
        trial = Summary(checkpoints=dict(known), forgotten=dict(summary.forgotten))
        trial.take(later)
        return {task: checkpoint for task, checkpoint in later.items() if trial.checkpoints.get(task) is checkpoint}

    def _refer(self, stored: Stored | None, run: str, task: str) -> None:
        if stored is not None and not isinstance(stored.inline, msgspec.Raw):
            self.stored.setdefault((stored.digest, stored.codec), (run, task))


def _holds(state: RunState) -> Iterator[Hold]:
    capacities = state.spec.limits
    for spec, task in zip(state.shape.specs, state.tasks, strict=True):
        if task.state in {s.RUNNING, s.ABANDONED}:
            for limit, weight in spec.uses.items():
                if (capacity := declared(capacities, limit)) is not None:
                    yield Hold(limit=limit, task=spec.name, weight=min(weight, capacity), capacity=capacity)
