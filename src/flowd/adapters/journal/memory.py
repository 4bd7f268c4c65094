"""The journal without a disk: the same lines, promises and refusals, gone with the process.

For tests and for pipelines that need no second chance. Records are kept encoded, so that what
is read back has made the same trip as from a file.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType

import anyio.lowlevel
import msgspec

from flowd.adapters.journal.writer import GroupWriter, WriterTask
from flowd.core.codec import scan
from flowd.core.errors import NoSuchRun, StateLocked
from flowd.core.events import Envelope
from flowd.core.spec import Definition


class Kept:
    """One run: its definition, its lines, where they end, and whether someone writes it.

    `cut` is for simulated deaths: what a dead writer left in part is not written to again by it.
    """

    def __init__(self, definition: bytes) -> None:
        self.definition = definition
        self.lines = bytearray()
        self.seq = 0
        self.checksum = 0
        self.owned = False
        self.cut = False


class MemoryJournal:
    """All runs of one object."""

    def __init__(self) -> None:
        self._runs: dict[str, Kept] = {}

    async def create(self, run: str, definition: Definition) -> str:
        """Make the run and return the digest of its definition. FileExistsError if it exists and has begun."""
        data = msgspec.json.encode(definition)
        known = self._runs.get(run)
        if known is not None and (known.lines or known.definition != data):
            raise FileExistsError(f"run {run} exists")
        self._runs[run] = Kept(data)
        return hashlib.sha256(data).hexdigest()

    def open(self, run: str) -> AbstractAsyncContextManager[GroupWriter]:
        """The exclusive writer of an existing run. StateLocked while another is open; NoSuchRun."""
        return _Opened(self, run)

    async def read(self, run: str, after: int = 0) -> AsyncIterator[Envelope]:
        """The durable records with `seq > after`, in order; safe beside a writer. NoSuchRun."""
        async for envelope in self.select(run, (), after):
            yield envelope

    async def select(self, run: str, events: Sequence[str], after: int = 0) -> AsyncIterator[Envelope]:
        """As `read`, of these events alone (all where empty)."""
        for envelope in scan(bytes(self.kept(run).lines), run, after=after, only=events).envelopes:
            yield envelope

    async def definition(self, run: str) -> Definition:
        """The definition the run was created with. NoSuchRun."""
        return msgspec.json.decode(self.kept(run).definition, type=Definition)

    async def commit(self, kept: Kept, data: bytes, seq: int, checksum: int) -> None:
        """Make lines durable, up to a record with this number and checksum; a test may let it fail."""
        await anyio.lowlevel.checkpoint()
        kept.lines += data
        kept.seq, kept.checksum = seq, checksum

    def runs(self) -> list[str]:
        """The ids of all runs, newest first."""
        return list(reversed(self._runs))

    def kept(self, run: str) -> Kept:
        """What is kept of a run. NoSuchRun."""
        try:
            return self._runs[run]
        except KeyError:
            raise NoSuchRun(f"there is no run {run}") from None


class _Opened:
    """An open run, from its lock to the end of its last commit."""

    def __init__(self, journal: MemoryJournal, run: str) -> None:
        self._journal = journal
        self._run = run
        self._kept: Kept | None = None
        self._writing: WriterTask | None = None

    async def __aenter__(self) -> GroupWriter:
        kept = self._journal.kept(self._run)
        if kept.owned:
            raise StateLocked(f"run {self._run} is held by this process")
        kept.owned, kept.cut = True, False
        self._kept = kept
        try:
            self._writing = WriterTask(GroupWriter(self._run, kept.seq, kept.checksum, self._commit))
            return await self._writing.__aenter__()
        except BaseException:
            kept.owned = False
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._writing is not None
        assert self._kept is not None
        try:
            await self._writing.__aexit__(kind, error, trace)
        finally:
            self._kept.owned = False

    async def _commit(self, data: bytes, seq: int, checksum: int) -> None:
        assert self._kept is not None
        await self._journal.commit(self._kept, data, seq, checksum)
