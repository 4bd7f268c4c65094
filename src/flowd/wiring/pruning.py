"""What a state directory keeps no longer: runs by their retention, results that nothing refers to, outputs that may go.

House rules of this room. What is to go is worked out first, whole, and shown as it is done. A run is taken out
by one rename while it is locked, so a death leaves all of it or nothing to be seen; what was taken out is then
deleted, by whoever comes next where this process dies. Where any journal cannot be read, no result goes: it
might be what that journal refers to.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import anyio
import msgspec

from flowd.adapters import disk
from flowd.adapters.checkpoints import Corrupt, FileCheckpoints, pipeline_key
from flowd.adapters.journal.file import FileJournal
from flowd.adapters.results import FileResults
from flowd.core.declared import Retention
from flowd.core.errors import FlowdError, NoSuchRun, StateDamaged, StateLocked, StorageFailing
from flowd.core.events import Artifact, RunFinished, Stored
from flowd.core.retention import DEFAULT, Gone, Kept, decide
from flowd.core.spec import Definition, TaskSpec
from flowd.ports.stores import Checkpoint

REMOVING = "removing"
_SETTLED_S = 3600.0
"""A result is on disk a moment before the record that refers to it; after so long there is none."""
_TOLD = (
    "task_succeeded",
    "task_fresh",
    "task_resolved",
    "task_expanded",
    "task_partial",
    "run_finished",
    "run_reopened",
)
"""The events that refer to results, and those that say whether a run has ended."""


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """A working file that its task's pipeline has deleted after its `retention`."""

    path: Path
    task: str
    pipeline: str
    artifact: Artifact


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that is to go. `damaged` are the runs that cannot be read: they stay, and all results with them."""

    runs: Sequence[Gone] = ()
    results: Mapping[str, int] = {}
    outputs: Sequence[Output] = ()
    leftovers: Sequence[str] = ()
    damaged: Sequence[str] = ()

    @property
    def size(self) -> int:
        """Bytes that it frees."""
        outputs = sum(one.artifact.size for one in self.outputs)
        return sum(gone.size for gone in self.runs) + sum(self.results.values()) + outputs


class _Looked(msgspec.Struct, frozen=True, kw_only=True):
    """What one look at a run found, which holds until it is written to again."""

    stamp: tuple[int, int]
    kept: Kept
    definition: Definition
    digests: frozenset[str]


class Pruner:
    """Looks at a state directory, and takes out of it what is kept no longer. One that is kept looks at each run once.

    `otherwise` holds for pipelines that say nothing themselves; `instead` holds for all, where it is given.
    """

    def __init__(self, state_dir: Path, otherwise: Retention | None = None, instead: Retention | None = None) -> None:
        self._state_dir = state_dir.absolute()
        self._otherwise = otherwise or DEFAULT
        self._instead = instead
        self._looked: dict[str, _Looked] = {}

    def plan(self, now: datetime, only: Sequence[str] | None = None) -> Plan:
        """What is to go at `now`; of the pipelines with the keys in `only`, where they are given. Changes nothing."""
        with (
            closing(FileJournal(self._state_dir)) as journal,
            closing(FileCheckpoints(self._state_dir, journal, kept=False)) as checkpoints,
            closing(FileResults(self._state_dir)) as results,
        ):
            damaged = self._look(journal)
            known, unclear = _checkpoints(checkpoints)
            policies = self._policies()
            needed = {one.run for tasks in known.values() for one in tasks.values()}
            needed.update(run for key in checkpoints.pipelines() for run in checkpoints.announced(key))
            gone = decide((one.kept for one in self._looked.values()), needed, policies, now)
            gone = [one for one in gone if (only is None or one.pipeline in only) and one.pipeline not in unclear]
            swept = {} if damaged or unclear else self._unreferenced(results, gone, known, now)
            return Plan(
                runs=gone,
                results=swept if only is None else {},
                outputs=list(self._outputs(known, now, only)),
                leftovers=self._leftovers(),
                damaged=damaged,
            )

    def carry_out(self, plan: Plan) -> Plan:
        """Take out what a plan says; what of it was. What has changed since stays. StorageFailing."""
        with closing(FileJournal(self._state_dir)) as journal:
            runs = [gone for gone in plan.runs if self._take_out(journal, gone)]
            with closing(FileCheckpoints(self._state_dir, journal, kept=False)) as checkpoints:
                for gone in runs:
                    if gone.run in checkpoints.announced(gone.pipeline):
                        anyio.run(checkpoints.merge, gone.pipeline, gone.run, {})
        with closing(FileResults(self._state_dir)) as results:
            swept = {digest: size for digest, size in plan.results.items() if _remove(results.path(digest))}
        outputs = [one for one in plan.outputs if _is_as_left(one) and _remove(one.path)]
        for name in self._leftovers():
            shutil.rmtree(self._state_dir / REMOVING / name, ignore_errors=True)
        return msgspec.structs.replace(plan, runs=runs, results=swept, outputs=outputs)

    # --- looking ---------------------------------------------------------------------------------------------

    def _look(self, journal: FileJournal) -> list[str]:
        """Look at every run that was written to since; the runs that cannot be read."""
        damaged, found = [], {}
        for run in journal.runs():
            try:
                found[run] = self._look_at(journal, run)
            except NoSuchRun:
                continue
            except (StateDamaged, StorageFailing, OSError):
                damaged.append(run)
        self._looked = found
        return damaged

    def _look_at(self, journal: FileJournal, run: str) -> _Looked:
        folder = journal.run_folder(run)
        stamp = _stamp(folder)
        owned = journal.is_owned(run) is not None
        known = self._looked.get(run)
        if known is not None and known.stamp == stamp and not known.kept.open and not owned:
            return known
        definition = journal.defined(run)
        ended, digests = False, set()
        for envelope in journal.records(run, _TOLD):
            ended = isinstance(envelope.event, RunFinished)
            stored: Stored | None = getattr(envelope.event, "result", None)
            if stored is not None and not isinstance(stored.inline, msgspec.Raw):
                digests.add(stored.digest)
        kept = Kept(
            run=run,
            pipeline=pipeline_key(definition.spec.name, Path(definition.folder), self._state_dir),
            moment=datetime.fromtimestamp(stamp[1] / 1e9, UTC),
            size=_size(folder),
            open=owned or not ended,
        )
        return _Looked(stamp=stamp, kept=kept, definition=definition, digests=frozenset(digests))

    def _policies(self) -> dict[str, Retention]:
        """By pipeline, as its newest run has it."""
        found: dict[str, tuple[datetime, Retention]] = {}
        for one in self._looked.values():
            said = self._instead or one.definition.spec.retention or self._otherwise
            known = found.get(one.kept.pipeline)
            if known is None or known[0] < one.kept.moment:
                found[one.kept.pipeline] = one.kept.moment, said
        return {key: said for key, (_, said) in found.items()}

    def _unreferenced(
        self, results: FileResults, gone: Sequence[Gone], known: Mapping[str, Mapping[str, Checkpoint]], now: datetime
    ) -> dict[str, int]:
        going = {one.run for one in gone}
        used = {digest for run, one in self._looked.items() if run not in going for digest in one.digests}
        for tasks in known.values():
            used |= {one.result.digest for one in tasks.values() if one.result is not None}
        before = now.timestamp() - _SETTLED_S
        return {
            digest: found.st_size for digest, found in results.kept() if digest not in used and found.st_mtime < before
        }

    def _outputs(
        self, known: Mapping[str, Mapping[str, Checkpoint]], now: datetime, only: Sequence[str] | None
    ) -> Iterator[Output]:
        """The working files that may go: `delete: true`, older than their retention, and as their task left them."""
        newest: dict[str, _Looked] = {}
        busy = {one.kept.pipeline for one in self._looked.values() if one.kept.open}
        for one in self._looked.values():
            other = newest.get(one.kept.pipeline)
            if other is None or other.kept.moment < one.kept.moment:
                newest[one.kept.pipeline] = one
        for key, looked in newest.items():
            if key in busy or (only is not None and key not in only):
                continue
            for task in looked.definition.spec.tasks:
                if (checkpoint := known.get(key, {}).get(task.name)) is not None:
                    yield from _of_task(key, Path(looked.definition.folder), task, checkpoint, now)

    # --- taking out ------------------------------------------------------------------------------------------

    def _take_out(self, journal: FileJournal, gone: Gone) -> bool:
        """Rename a run away while nobody else has it, then delete it; False where it is not as it was looked at."""
        aside = self._state_dir / REMOVING
        with disk.failing(aside, "be used to remove runs"):
            disk.make_folders(aside)
        try:
            with journal.held(gone.run) as folder:
                looked = self._looked.get(gone.run)
                if looked is None or _stamp(folder) != looked.stamp:
                    return False
                with disk.failing(folder, "be removed"):
                    folder.rename(aside / gone.run)
                    disk.sync_folder(folder.parent)
        except (NoSuchRun, StateLocked):
            return False
        self._looked.pop(gone.run, None)
        shutil.rmtree(aside / gone.run, ignore_errors=True)  # what is left of it goes the next time
        return True

    def _leftovers(self) -> list[str]:
        try:
            return sorted(os.listdir(self._state_dir / REMOVING))
        except OSError:
            return []


def _of_task(key: str, folder: Path, task: TaskSpec, checkpoint: Checkpoint, now: datetime) -> Iterator[Output]:
    """Those of a task's outputs that may go."""
    for output in task.outputs:
        if not output.delete or output.retention is None or checkpoint.at >= now - output.retention:
            continue
        for artifact in checkpoint.outputs:
            found = Output(path=folder / artifact.path, task=task.name, pipeline=key, artifact=artifact)
            if artifact.path == output.path and _is_as_left(found):
                yield found


def _checkpoints(checkpoints: FileCheckpoints) -> tuple[dict[str, dict[str, Checkpoint]], set[str]]:
    """The newest success of each task by pipeline; and the pipelines whose file cannot be read, which stay whole."""
    known, unclear = {}, set()
    for key in checkpoints.pipelines():
        try:
            known[key] = dict(checkpoints.summary(key).checkpoints)
        except (Corrupt, FlowdError, OSError):
            unclear.add(key)
    return known, unclear


def _is_as_left(output: Output) -> bool:
    """Whether a file is the very one that its task left: what another hand has changed is never touched."""
    artifact = output.artifact
    try:
        found = os.lstat(output.path)
        if found.st_size != artifact.size or (artifact.mtime_ns and found.st_mtime_ns != artifact.mtime_ns):
            return False
        with open(disk.open_regular(output.path), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == artifact.digest
    except (OSError, StateDamaged):
        return False


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StorageFailing(f"{path}: cannot be removed: {error.strerror or error}") from error
    return True


def _stamp(folder: Path) -> tuple[int, int]:
    """What changes with each record of a run: size and time of its mark, or of its folder before there is one."""
    for path in (folder / "mark", folder):
        with suppress(FileNotFoundError):
            found = os.stat(path)
            return found.st_size, found.st_mtime_ns
    raise NoSuchRun(f"{folder} does not exist")


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_size
    return total
