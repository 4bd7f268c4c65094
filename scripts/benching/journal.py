"""The least journal that a durable executor can keep: checksummed lines, written and synced in groups."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from zlib import crc32

LINGER_S = 0.002
"""How long a commit that nobody waits for is held back for company, in seconds."""


class FloorJournal:
    """One file of lines, each with its number, the checksum of the line before it and its own.

    `append` returns at once. One flusher writes and syncs, in a thread, all lines that have come
    meanwhile; it does not linger where somebody waits in `durable`. Without `grouped` there is no
    flusher, and every task commits alone. `lines` and `syncs` count.
    """

    def __init__(self, path: Path, *, grouped: bool = True) -> None:
        self.lines = 0
        self.syncs = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._checksum = 0
        self._queued: list[bytes] = []
        self._durable = 0
        self._news = asyncio.Event()
        self._hurry = asyncio.Event()
        self._progress = asyncio.Event()
        self._closing = False
        self._lock = asyncio.Lock()
        self._grouped = grouped
        self._flusher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self._grouped:
            self._flusher = asyncio.create_task(self._flush(), name="floor journal")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave when every line is durable."""
        self._closing = True
        self._news.set()
        self._hurry.set()
        if self._flusher is not None:
            await self._flusher
        os.close(self._file)

    def append(self, task: int, event: bytes) -> None:
        """Queue the line that `event` happened to `task`."""
        self.lines += 1
        payload = b'{"seq":%d,"at":%.6f,"prev":"%08x","event":"%b","task":"t%d"' % (
            self.lines,
            time.time(),
            self._checksum,
            event,
            task,
        )
        self._checksum = crc32(payload)
        self._queued.append(b'%b,"sum":"%08x"}\n' % (payload, self._checksum))
        self._news.set()

    async def durable(self) -> None:
        """Return when every line so far is synced, by a commit shared with whoever else waits."""
        wanted = self.lines
        while self._durable < wanted:
            self._hurry.set()
            await self._progress.wait()

    async def commit_alone(self) -> None:
        """Write and sync what is queued by a commit of one's own, though others may have done it."""
        async with self._lock:
            await self._commit()

    async def _flush(self) -> None:
        while True:
            await self._news.wait()
            if not self._hurry.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), LINGER_S)
            self._hurry.clear()
            self._news.clear()
            if self._queued:
                async with self._lock:
                    await self._commit()
            if self._closing and not self._queued:
                return

    async def _commit(self) -> None:
        queued, self._queued = self._queued, []
        upto = self.lines
        await asyncio.get_running_loop().run_in_executor(None, self._write, b"".join(queued))
        self._durable = upto
        progress, self._progress = self._progress, asyncio.Event()
        progress.set()

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._file, left) :]
        os.fdatasync(self._file)
        self.syncs += 1


def damage(path: Path) -> str | None:
    """What is wrong with the lines of a journal; None where each checksum fits and follows."""
    previous = 0
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        payload, _, tail = line.rpartition(b',"sum":"')
        checksum = crc32(payload)
        if tail != b'%08x"}' % checksum:
            return f"line {number}: the checksum does not fit"
        if not payload.startswith(b'{"seq":%d,' % number) or b'"prev":"%08x"' % previous not in payload:
            return f"line {number}: it does not follow the line before it"
        previous = checksum
    return None


def sync_us(folder: Path, times: int = 50) -> float:
    """What one write and sync of 100 bytes costs on the disk of `folder`, in µs: the median."""
    path = folder / "sync"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    taken = []
    try:
        for _ in range(times):
            began = time.perf_counter()
            os.write(file, b"x" * 100)
            os.fdatasync(file)
            taken.append(time.perf_counter() - began)
    finally:
        os.close(file)
        path.unlink()
    return sorted(taken)[times // 2] * 1e6
