"""The newest checkpoint of each task of each pipeline, in one file a pipeline; and the same in memory.

    pipelines/<key>/checkpoints.json     a header with checksums, then the checkpoints, one line each
    pipelines/<key>/open/<run id>        this run may hold checkpoints that the file lacks

The file is a summary of journals: where it is damaged it is set aside, said, and made anew from them.
What was forgotten must not come back from an old journal: its moment is in the header, which has a
checksum of its own. A task that is reset and run again in its run keeps its older checkpoint until
it succeeds again, or its gate fails: whether that still holds is judged by content.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from zlib import crc32

import msgspec

from flowd.adapters import disk
from flowd.adapters.successes import Runs, successes
from flowd.core.errors import NoSuchRun, StateDamaged
from flowd.ports.stores import Checkpoint

CHECKPOINTS_FORMAT = 1
_ALL = ""  # in the place of a task's name, which is never empty


class Summary(msgspec.Struct, kw_only=True):
    """The checkpoints of one pipeline, and when which tasks (`""`: all) were forgotten."""

    checkpoints: dict[str, Checkpoint] = {}
    forgotten: dict[str, datetime] = {}

    def take(self, found: Mapping[str, Checkpoint]) -> bool:
        """Take in what is as new as the present and was not forgotten; whether anything changed."""
        changed, everything = False, self.forgotten.get(_ALL)
        for task, checkpoint in found.items():
            known = self.checkpoints.get(task)
            bounds = (everything, self.forgotten.get(task))
            if any(bound is not None and checkpoint.at <= bound for bound in bounds):
                continue
            if known is None or (checkpoint.at >= known.at and checkpoint != known):
                self.checkpoints[task], changed = checkpoint, True
        return changed

    def forget(self, tasks: Sequence[str], now: datetime) -> tuple[str, ...]:
        """Drop checkpoints, and whatever is found later of the same time; the names of those dropped."""
        dropped = [task for task in self.checkpoints if not tasks or task in tasks]
        # a clock that was set back must not leave them behind the bound
        moment = max([now, *(self.checkpoints.pop(task).at for task in dropped)])
        for task in tasks or (_ALL,):
            self.forgotten[task] = moment
        return tuple(dropped)


class _Header(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    body: str
    forgotten: dict[str, datetime] = {}


class Corrupt(Exception):
    """A checkpoints file is not what was written; `forgotten` is what its header still tells."""

    def __init__(self, reason: str, forgotten: dict[str, datetime] | None = None) -> None:
        super().__init__(reason)
        self.forgotten = forgotten


_decode_body = msgspec.json.Decoder(dict[str, Checkpoint]).decode
_decode_header = msgspec.json.Decoder(_Header).decode


def pipeline_key(name: str, folder: Path, state_dir: Path) -> str:
    """What tells pipelines of one state directory apart: the name, and the folder as seen from its parent.

    So a project that is moved or copied as a whole keeps its checkpoints.
    """
    relative = os.path.relpath(folder.absolute(), state_dir.absolute().parent)
    return f"{name}-{hashlib.sha256(relative.encode(errors='surrogateescape')).hexdigest()[:8]}"


class FileCheckpoints:
    """The checkpoints below `state_dir`; `journal` holds the runs they are made from.

    `reports` gains a sentence for each thing found damaged, which `report` is told, too. Where
    nothing is `kept`, `load` heals in memory alone and leaves the damaged file as it is.
    """

    def __init__(
        self,
        state_dir: Path,
        journal: Runs,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        report: Callable[[str], None] = lambda _said: None,
        kept: bool = True,
    ) -> None:
        self.reports: list[str] = []
        self._state_dir = state_dir.absolute()
        self._journal = journal
        self._now = now
        self._folders = disk.Folders(self._state_dir)
        self._threads = disk.FileThreads(2, "flowd-checkpoints")
        self._report = report
        self._kept = kept

    async def load(self, key: str) -> dict[str, Checkpoint]:
        """The newest checkpoint by task, those of unmerged (crashed, living) runs included."""
        return (await self._whole(key)).checkpoints

    async def announce(self, key: str, run: str) -> None:
        """Remember, durably, that `run` may hold checkpoints that `load` has to look for."""
        await self._threads.run(self._announce, key, run)

    async def merge(self, key: str, run: str, found: Mapping[str, Checkpoint]) -> None:
        """Take a finished run's checkpoints in, newest wins, then forget the announcement."""
        if found:
            await self._change(key, lambda summary: summary.take(found))
        await self._threads.run(self._withdraw, key, run)

    async def forget(self, key: str, tasks: tuple[str, ...]) -> tuple[str, ...]:
        """Drop checkpoints (all of them where `tasks` is empty); return those dropped."""
        whole = await self._whole(key)
        dropped: tuple[str, ...] = ()

        def change(summary: Summary) -> bool:
            nonlocal dropped
            summary.take(whole.checkpoints)
            dropped = summary.forget(tasks, self._now())
            return True

        if any(not tasks or task in tasks for task in whole.checkpoints):
            await self._change(key, change)
        return dropped

    async def rebuild(self, key: str, forgotten: Mapping[str, datetime] | None = None) -> None:
        """Make the file anew from the journals of all runs of the pipeline, but for what was forgotten."""
        await self._threads.run(self._write, key, await self._from_journals(key, forgotten))

    async def _from_journals(self, key: str, forgotten: Mapping[str, datetime] | None) -> Summary:
        summary = Summary(checkpoints={}, forgotten=dict(forgotten or {}))
        for run in await self._threads.run(self._journal.runs):
            try:
                definition = await self._journal.definition(run)
            except (NoSuchRun, StateDamaged) as error:
                self._tell(f"checkpoints of run {run} are left out: {error}")
                continue
            if pipeline_key(definition.spec.name, Path(definition.folder), self._state_dir) == key:
                summary.take(await self._successes(run))
        return summary

    def close(self) -> None:
        """Let the threads go."""
        self._threads.close()

    async def _whole(self, key: str) -> Summary:
        """The file with what unmerged runs add to it."""
        # in this order: a run that is merged in between is then found in both, not in neither
        announced = await self._threads.run(self.announced, key)
        try:
            summary = await self._threads.run(self.summary, key)
        except Corrupt as corrupt:
            summary = await self._heal(key, corrupt)
        for run in announced:
            summary.take(await self._successes(run))
        return summary

    async def _successes(self, run: str) -> dict[str, Checkpoint]:
        found, damage = await successes(self._journal, run)
        if damage is not None:
            self._tell(f"checkpoints of run {run} are known in part: {damage}")
        return found

    async def _change(self, key: str, change: Callable[[Summary], bool]) -> None:
        try:
            await self._threads.run(self._read_change_write, key, change)
        except Corrupt as corrupt:
            await self._heal(key, corrupt)
            await self._threads.run(self._read_change_write, key, change)

    async def _heal(self, key: str, corrupt: Corrupt) -> Summary:
        aside = f"kept as {await self._threads.run(self._set_aside, key)} and " if self._kept else ""
        lost = "" if corrupt.forgotten is not None else "; what was forgotten before may be fresh again"
        self._tell(f"{self.path(key)}: damaged ({corrupt}); {aside}made anew from the journals{lost}")
        summary = await self._from_journals(key, corrupt.forgotten)
        if self._kept:
            await self._threads.run(self._write, key, summary)
        return summary

    def _tell(self, said: str) -> None:
        self.reports.append(said)
        self._report(said)

    # --- what blocks ---------------------------------------------------------------------------------

    def pipelines(self) -> list[str]:
        """The keys of the pipelines that checkpoints are kept of."""
        try:
            return sorted(entry.name for entry in os.scandir(self._folder("")) if entry.is_dir())
        except FileNotFoundError:
            return []

    def _folder(self, key: str) -> Path:
        return self._state_dir / "pipelines" / key

    def path(self, key: str) -> Path:
        """Where a pipeline's checkpoints stand."""
        return self._folder(key) / "checkpoints.json"

    def announced(self, key: str) -> list[str]:
        """The runs that may hold checkpoints which the file lacks."""
        try:
            return sorted(os.listdir(self._folder(key) / "open"))
        except FileNotFoundError:
            return []

    def _announce(self, key: str, run: str) -> None:
        folder = self._folder(key) / "open"
        with disk.failing(folder, f"announce run {run}"):
            self._folders.make(folder)
            os.close(disk.open_regular(folder / run, os.O_WRONLY | os.O_CREAT))
            disk.sync_folder(folder)

    def _withdraw(self, key: str, run: str) -> None:
        with disk.failing(self._folder(key), f"take run {run} off the list"):
            (self._folder(key) / "open" / run).unlink(missing_ok=True)

    def summary(self, key: str) -> Summary:
        """What the file holds, unmerged runs left out. Corrupt, StateDamaged where it is a newer flowd's."""
        try:
            data = disk.read_regular(path := self.path(key))
        except FileNotFoundError:
            return Summary(checkpoints={}, forgotten={})
        except StateDamaged as damage:
            raise Corrupt(str(damage)) from damage
        return _decode(data, path)

    def _write(self, key: str, summary: Summary) -> None:
        with disk.failing(path := self.path(key), "write"):
            disk.make_folders(path.parent)
            disk.write_atomic(path, _encode(summary))

    def _read_change_write(self, key: str, change: Callable[[Summary], bool]) -> None:
        with self._locked(key):
            summary = self.summary(key)
            if change(summary):
                self._write(key, summary)

    def _set_aside(self, key: str) -> str:
        path = self.path(key)
        with self._locked(key), disk.failing(path, "set aside"):
            number = 1
            while (kept := path.with_name(f"{path.name}.corrupt-{number}")).exists():
                number += 1
            with suppress(FileNotFoundError):  # another process has done it
                path.rename(kept)
            disk.sync_folder(path.parent)
        return kept.name

    @contextmanager
    def _locked(self, key: str) -> Iterator[None]:
        """Alone among all processes, for as long as it takes to read and write a file."""
        folder = self._folder(key)
        with disk.failing(folder, "lock"):
            disk.make_folders(folder)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with disk.failing(folder, "lock"):
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class MemoryCheckpoints:
    """Checkpoints without a disk; with a `journal`, those of unmerged runs are found in it."""

    def __init__(self, journal: Runs | None = None, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._summaries: dict[str, Summary] = {}
        self._announced: dict[str, dict[str, None]] = {}
        self._journal = journal
        self._now = now

    async def load(self, key: str) -> dict[str, Checkpoint]:
        """The newest checkpoint by task, those of unmerged runs included."""
        return (await self._whole(key)).checkpoints

    async def announce(self, key: str, run: str) -> None:
        """Remember that `run` may hold checkpoints that `load` has to look for."""
        self._announced.setdefault(key, {})[run] = None

    async def merge(self, key: str, run: str, found: Mapping[str, Checkpoint]) -> None:
        """Take a finished run's checkpoints in, newest wins, then forget the announcement."""
        self._summary(key).take(found)
        self._announced.get(key, {}).pop(run, None)

    async def forget(self, key: str, tasks: tuple[str, ...]) -> tuple[str, ...]:
        """Drop checkpoints (all of them where `tasks` is empty); return those dropped."""
        whole = await self._whole(key)
        if not any(not tasks or task in tasks for task in whole.checkpoints):
            return ()
        self._summary(key).take(whole.checkpoints)
        return self._summary(key).forget(tasks, self._now())

    def _summary(self, key: str) -> Summary:
        return self._summaries.setdefault(key, Summary(checkpoints={}, forgotten={}))

    async def _whole(self, key: str) -> Summary:
        kept = self._summary(key)
        whole = Summary(checkpoints=dict(kept.checkpoints), forgotten=dict(kept.forgotten))
        if self._journal is not None:
            for run in list(self._announced.get(key, {})):
                whole.take((await successes(self._journal, run))[0])
        return whole


def _encode(summary: Summary) -> bytes:
    body = msgspec.json.encode(summary.checkpoints)
    header = _Header(format=CHECKPOINTS_FORMAT, body=f"{crc32(body):08x}", forgotten=summary.forgotten)
    start = msgspec.json.encode(header)[:-1]
    return b'%b,"sum":"%08x"}\n%b\n' % (start, crc32(start), body)


def _decode(data: bytes, path: Path) -> Summary:
    """The checkpoints in a file's bytes. Corrupt; StateDamaged where a newer flowd wrote them."""
    head, _, rest = data.partition(b"\n")
    tail = len(b',"sum":"00000000"}')
    if head[-tail:] != b',"sum":"%08x"}' % crc32(head[:-tail]):
        raise Corrupt("the checksum of its header does not fit")
    try:
        header = _decode_header(head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt(f"its header cannot be read: {error}") from error
    if header.format > CHECKPOINTS_FORMAT:
        raise StateDamaged(
            f"{path}: written by a newer flowd, in format {header.format}; this one reads up to {CHECKPOINTS_FORMAT}"
        )
    if rest[-1:] != b"\n" or header.body != f"{crc32(rest[:-1]):08x}":
        raise Corrupt("the checksum of its checkpoints does not fit", header.forgotten)
    try:
        return Summary(checkpoints=_decode_body(rest), forgotten=header.forgotten)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt(f"its checkpoints cannot be read: {error}", header.forgotten) from error
