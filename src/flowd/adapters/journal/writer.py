"""Group commit: records queue up, and one write and one sync bring all of them to disk.

    append ──▶ queue ──▶ flush: gather, commit ──▶ durable_seq ──▶ whoever waits

The flusher is the only one that commits. It begins at once when someone is in a hurry and
otherwise lingers for company. What a disk is does not matter here: `commit` is handed in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType

import anyio
from anyio.abc import TaskGroup

from flowd.adapters.journal.repair import Repair
from flowd.core.codec import MAX_LINE, encode
from flowd.core.errors import StorageFailing
from flowd.core.events import Envelope

LINGER_S = 0.002
"""How long a commit that nobody hurries waits for more records, in seconds."""

Commit = Callable[[bytes, int, int], Awaitable[None]]
"""Makes lines durable, up to a record with this number and checksum; raises StorageFailing."""


class GroupWriter:
    """The writer of one run's journal. `append` and `durable` belong to the loop's thread.

    `repairs` says what was set aside when the journal was opened, `left_by` who had it before. The first failure is for
    ever: nothing is written after it, and every call raises it again.
    """

    def __init__(
        self,
        run: str,
        seq: int,
        checksum: int,
        commit: Commit,
        repairs: Sequence[Repair] = (),
        left_by: tuple[str, ...] = (),
    ) -> None:
        self.repairs = list(repairs)
        self.left_by = left_by
        self._run = run
        self._seq = seq
        self._durable = seq
        self._urgent = seq
        self._checksum = checksum
        self._commit = commit
        self._lines: list[bytes] = []
        self._failure: str | None = None
        self._closing = False
        self._work = anyio.Event()
        self._hurry = anyio.Event()
        self._progress = anyio.Event()

    @property
    def durable_seq(self) -> int:
        """The highest sequence number that is known to be synced."""
        return self._durable

    def append(self, batch: Sequence[Envelope]) -> None:
        """Queue records in order and return at once; all of them or, where one cannot be written, none.

        Raises StorageFailing after any failure; ValueError for a record that does not follow.
        """
        self.check()
        if self._closing:
            raise RuntimeError(f"the journal of run {self._run} is closed")
        seq, checksum, lines = self._seq, self._checksum, []
        for envelope in batch:
            seq += 1
            if envelope.seq != seq or envelope.run != self._run:
                raise ValueError(f"record {envelope.seq} of {envelope.run} where {seq} of {self._run} is due")
            line, checksum = encode(envelope, checksum)
            if len(line) > MAX_LINE:
                raise ValueError(f"record {seq} is too long: {len(line)} bytes")
            lines.append(line)
        self._lines += lines
        self._seq, self._checksum = seq, checksum
        self._work.set()

    async def durable(self, seq: int, *, hurry: bool = True) -> None:
        """Return when every record up to `seq` is synced. Raises StorageFailing after any failure."""
        if seq > self._seq:
            raise ValueError(f"record {seq} was never appended: the last is {self._seq}")
        self.check()
        while self._durable < seq:
            if hurry and self._urgent < seq:
                self._urgent = seq
                self._hurry.set()
            await self._progress.wait()
            self.check()

    def check(self) -> None:
        """Raise StorageFailing if anything has ever failed."""
        if self._failure is not None:
            raise StorageFailing(self._failure)

    def close(self) -> None:
        """Take no more records; `flush` ends when the queued ones are committed."""
        self._closing = True
        self._work.set()
        self._hurry.set()

    @property
    def unwritten(self) -> bool:
        """Whether records were appended that are not durable."""
        return self._durable < self._seq

    async def flush(self) -> None:
        """Commit what is queued, until closed or failed; no cancelled scope ends it."""
        with anyio.CancelScope(shield=True):
            while self._failure is None:
                if not self._lines:
                    if self._closing:
                        return
                    self._work = anyio.Event()
                    await self._work.wait()
                    continue
                if self._urgent <= self._durable and not self._closing:
                    self._hurry = anyio.Event()
                    with anyio.move_on_after(LINGER_S):
                        await self._hurry.wait()
                await self._commit_queued()

    async def _commit_queued(self) -> None:
        lines, self._lines = self._lines, []
        seq, checksum = self._seq, self._checksum
        try:
            await self._commit(b"".join(lines), seq, checksum)
            self._durable = seq
        except StorageFailing as failure:
            self._failure = str(failure)
        except BaseException as error:
            # nobody knows how far it came: whoever waits must not wait for ever
            self._failure = f"the journal of run {self._run}: the commit ended in {error!r}"
            raise
        finally:
            progress, self._progress = self._progress, anyio.Event()
            progress.set()


class WriterTask:
    """A writer with its flusher running, in a task group of its own, from entering to leaving.

    Leaving writes what is queued, whatever ends the block, and changes no error on its way;
    where there is none, records that could not be written raise StorageFailing.
    """

    def __init__(self, writer: GroupWriter) -> None:
        self._writer = writer
        self._group: TaskGroup = anyio.create_task_group()

    async def __aenter__(self) -> GroupWriter:
        await self._group.__aenter__()
        self._group.start_soon(self._writer.flush, name="flowd journal flush")
        return self._writer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        # the group is told of no error, so that it wraps none; it waits for the flusher in any case
        await self._group.__aexit__(None, None, None)
        if error is None and self._writer.unwritten:
            self._writer.check()
