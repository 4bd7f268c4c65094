"""The journal on disk: one folder for each run, one writer for each folder.

runs/<run id>/  spec.json  journal.0001.jsonl …  mark  owner.json  inbox/  logs/
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from flowd.adapters import disk
from flowd.adapters.journal import lock
from flowd.adapters.journal import mark as marks
from flowd.adapters.journal.layout import Layout, read_definition, segment_path
from flowd.adapters.journal.lock import Owner
from flowd.adapters.journal.reader import Place, Walk
from flowd.adapters.journal.repair import Repair, heal, inspect
from flowd.adapters.journal.segment import OWNED, OpenSegment
from flowd.adapters.journal.writer import GroupWriter, WriterTask
from flowd.core.codec import MAX_LINE, scan
from flowd.core.errors import NoSuchRun, StateDamaged, StorageFailing, cause
from flowd.core.events import Envelope, RunAdopted, RunStarted
from flowd.core.spec import Definition

_THREADS = 8
_PATIENCE_S = 10.0
"""Seconds that a commit may take before somebody is told what is waited for."""
_REMEMBERED = 256


class FileJournal:
    """All runs of one state directory. `incarnation` and `now` are what an owner says of itself.

    `report` is told what was set aside of a run that is opened, `waiting` of a disk that does not answer.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        incarnation: str = "",
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        report: Callable[[str], None] = lambda _said: None,
        waiting: Callable[[str], None] = lambda _said: None,
    ) -> None:
        self._report = report
        self._waiting = waiting
        self._incarnation = incarnation
        self.state_dir = state_dir.absolute()
        self._layout = Layout(self.state_dir)
        self._threads = disk.FileThreads(_THREADS, "flowd-journal")
        self._now = now
        # how far a run was checked: whoever follows it need not begin at its first record each time
        self._known: dict[str, Place] = {}

    async def create(self, run: str, definition: Definition) -> str:
        """Make the run, synced, and return the digest of its `spec.json`. FileExistsError if it exists."""
        with _impatient(self._layout.folder(run), self._waiting):
            return await self._threads.run(self._create, run, definition)

    def open(self, run: str) -> AbstractAsyncContextManager[GroupWriter]:
        """The exclusive writer of an existing run.

        Entering locks, validates and repairs it; leaving writes what is queued and unlocks it.
        Raises StateLocked with the holder, NoSuchRun, StateDamaged with file, offset and line.
        """
        segment = OpenSegment(self._layout.folder(run), run, self._incarnation)
        return _Opened(self._layout, run, segment, self._threads, self._now, self._report, self._waiting)

    def read(self, run: str, after: int = 0) -> AsyncIterator[Envelope]:
        """The durable records with `seq > after`, in order; safe beside a writer.

        Yields what stands before any damage, then raises StateDamaged. Raises NoSuchRun.
        """
        return self.select(run, (), after)

    async def select(self, run: str, events: Sequence[str], after: int = 0) -> AsyncIterator[Envelope]:
        """As `read`, of these events alone (all where empty), the rest checked and not decoded."""
        pieces = self._pieces(run, after, events)
        try:
            while piece := await self._threads.run(next, pieces, None):
                for envelope in piece:
                    yield envelope
        finally:
            with suppress(ValueError):  # it still runs in its thread where the waiting was cancelled
                pieces.close()

    async def definition(self, run: str) -> Definition:
        """The definition the run was created with. Raises NoSuchRun or StateDamaged."""
        return await self._threads.run(self._definition, run)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the threads go; writers must be closed before."""
        self._threads.close()

    # --- for whoever only looks; these block --------------------------------------------------------

    def runs(self) -> list[str]:
        """The ids of all runs, newest first."""
        return self._layout.ids()

    def run_folder(self, run: str) -> Path:
        """Where a run is kept. NoSuchRun where there is none."""
        return self._layout.existing(run)

    def place(self, run: str) -> Path:
        """Where a run is kept that is known to exist: nothing is looked at."""
        return self._layout.folder(run)

    def defined(self, run: str) -> Definition:
        """As `definition`, at once."""
        return self._definition(run)

    def records(self, run: str, events: Sequence[str] = ()) -> Iterator[Envelope]:
        """As `read`, or as `select` of `events`, at once."""
        for piece in self._pieces(run, 0, events):
            yield from piece

    def is_owned(self, run: str) -> Owner | None:
        """The living owner of a run; None where nobody holds it."""
        return lock.holder(self._layout.existing(run))

    def owning(self, but: str = "") -> set[str]:
        """The incarnations of those who hold a run, wherever they run; `but` this one counts."""
        found = set()
        for run in self.runs():
            if run != but:
                with suppress(NoSuchRun, StateDamaged):  # removed meanwhile, or none
                    owner = lock.holder(self._layout.folder(run))
                    found.add(owner.incarnation if owner is not None else "")
        return found - {""}

    def left_by(self, run: str) -> tuple[str, ...]:
        """The incarnations of a run's last owners that were of this start of this machine."""
        return lock.last_here(self._layout.folder(run), lambda: self._recorded_owners(run))

    def _recorded_owners(self, run: str) -> Iterator[str]:
        # those before the damage are known all the same
        with suppress(NoSuchRun, StateDamaged, StorageFailing):
            for piece in self._pieces(run, 0, OWNED):
                for envelope in piece:
                    if isinstance(envelope.event, RunStarted | RunAdopted):
                        yield envelope.event.owner

    def inspect(self, run: str) -> Repair | None:
        """Check a run's whole journal and change nothing; the torn tail that a new owner would set aside.

        Of a run that is owned it may be a commit under way. Raises StateDamaged.
        """
        return inspect(self._layout.existing(run), run)

    def check_version(self) -> None:
        """StateDamaged where the state directory was written by a newer flowd, or does not say by which."""
        self._layout.check_version()

    @contextmanager
    def held(self, run: str) -> Iterator[Path]:
        """A run's folder, locked for as long as somebody mends something in it. StateLocked, NoSuchRun."""
        folder = self._layout.existing(run)
        descriptor = lock.take(folder)
        try:
            with disk.failing(folder, "mend it"):
                yield folder
        finally:
            os.close(descriptor)

    def heal(self, run: str) -> list[Repair]:
        """Do what a new owner would do first: set a torn tail aside and put the mark right; what was set aside.

        Raises StateLocked, StateDamaged.
        """
        with self.held(run) as folder:
            return heal(folder, run)

    def _create(self, run: str, definition: Definition) -> str:
        try:
            return self._layout.make(run, definition)
        except FileExistsError:
            raise
        except OSError as error:
            raise StorageFailing(f"{self.state_dir}: cannot make run {run}: {cause(error)}") from error

    def _pieces(self, run: str, after: int, events: Sequence[str]) -> Generator[list[Envelope], None, None]:
        folder = self._layout.existing(run)
        with disk.failing(folder, "read the journal"):
            mark = marks.load(folder / "mark")
            known = self._known.get(run)
            begin = known if known is not None and known.seq <= after else None
            walk = Walk(folder, run, mark, after=after, only=events, begin=begin)
            yield from walk.acknowledged()
            if mark is not None:
                self._remember(run, walk.place())
            # in the boot that wrote the mark, what is beyond it may not be on disk; in another it is
            if mark is None or mark.boot != disk.boot_id():
                yield from walk.beyond()

    def _remember(self, run: str, place: Place) -> None:
        self._known.pop(run, None)
        self._known[run] = place
        while len(self._known) > _REMEMBERED:
            self._known.pop(next(iter(self._known)), None)

    def _definition(self, run: str) -> Definition:
        folder = self._layout.existing(run)
        with disk.failing(folder, "read the definition"):
            definition, digest = read_definition(folder)
            started = _first_record(folder, run)
        if started is not None and started.spec != digest:
            raise StateDamaged(f"{folder / 'spec.json'}: damaged at offset 0: not the file that the run began with")
        return definition


class _Opened:
    """An open run, from its lock to the end of its last commit."""

    def __init__(
        self,
        layout: Layout,
        run: str,
        segment: OpenSegment,
        threads: disk.FileThreads,
        now: Callable[[], datetime],
        report: Callable[[str], None],
        waiting: Callable[[str], None],
    ) -> None:
        self._report = report
        self._waiting = waiting
        self._layout = layout
        self._run = run
        self._threads = threads
        self._now = now
        self._segment = segment
        self._writing: WriterTask | None = None

    async def __aenter__(self) -> GroupWriter:
        segment = self._segment
        with ExitStack() as undo:
            undo.callback(segment.close)
            with _impatient(self._layout.folder(self._run), self._waiting):
                await self._threads.run(self._open, segment)
            for repair in segment.repairs:
                self._report(str(repair))
            mark = segment.mark
            writer = GroupWriter(
                self._run, mark.seq, mark.checksum, self._commit, segment.repairs, left_by=segment.left_by
            )
            self._writing = WriterTask(writer)
            await self._writing.__aenter__()
            undo.pop_all()
        return writer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._writing is not None
        try:
            await self._writing.__aexit__(kind, error, trace)
        finally:
            self._segment.close()

    def _open(self, segment: OpenSegment) -> None:
        self._layout.existing(self._run)
        segment.open(self._now())

    async def _commit(self, data: bytes, seq: int, checksum: int) -> None:
        with _impatient(self._layout.folder(self._run), self._waiting):
            await self._threads.run(self._segment.commit, data, seq, checksum)


@contextmanager
def _impatient(folder: Path, waiting: Callable[[str], None]) -> Iterator[None]:
    """Say so where what is written in a run's folder takes longer than a disk takes."""
    said = f"{folder}: its disk has not answered for {_PATIENCE_S:g}s"
    late = asyncio.get_running_loop().call_later(_PATIENCE_S, waiting, said)
    try:
        yield
    finally:
        late.cancel()


def _first_record(folder: Path, run: str) -> RunStarted | None:
    """The first event of a run; None where there is none yet or it cannot be believed."""
    path = segment_path(folder, 1)
    try:
        descriptor = disk.open_regular(path)
    except FileNotFoundError:
        raise StateDamaged(f"{path}: the journal is missing") from None
    with open(descriptor, "rb") as file:
        found = scan(file.readline(MAX_LINE), run).envelopes
    return found[0].event if found and isinstance(found[0].event, RunStarted) else None
