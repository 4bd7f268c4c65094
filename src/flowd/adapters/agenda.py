"""A daemon's agenda as a file of lines, each with its checksum: appended to, synced, and now and then written anew.

A line that is cut off at the end was never acknowledged, and is cut off. Any other damage keeps the
daemon from starting: whoever guessed what has fired would fire it twice, or never.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import msgspec

from flowd.adapters import disk
from flowd.core.agenda import Agenda, AnyFact
from flowd.core.errors import StateDamaged, StorageFailing

FILE = "agenda.jsonl"
_MOST_LINES = 5_000
"""So many facts, and it is written anew."""

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyFact] = msgspec.json.Decoder(AnyFact)


class FileAgenda:
    """The agenda below `folder`, which one process at a time may open. `listeners` are told what has become durable."""

    def __init__(self, folder: Path) -> None:
        self.listeners: list[Callable[[AnyFact], None]] = []
        self._path = folder / FILE
        self._threads = disk.FileThreads(1, "flowd-agenda")
        self._lines = 0
        self._failed = False
        self.agenda = Agenda()

    async def open(self) -> None:
        """Read what is there. Raises StateDamaged with file and line, StorageFailing."""
        await self._threads.run(self._open)

    async def record(self, facts: Sequence[AnyFact], now: datetime) -> None:
        """Make facts durable, then take them in.

        What a failed sync has left is not to be believed, whatever is read from there: after a
        failure the file is written anew, from what was known to be on disk.
        """
        if not facts:
            return
        if self._failed:
            await self._anew(now)
        try:
            await self._threads.run(self._append, b"".join(map(_line, facts)))
        except StorageFailing:
            self._failed = True
            raise
        for fact in facts:
            self.agenda.apply(fact)
            for listener in self.listeners:
                listener(fact)
        self._lines += len(facts)
        if self._lines > _MOST_LINES:
            await self._anew(now)

    def close(self) -> None:
        """Let the thread go."""
        self._threads.close()

    def _open(self) -> None:
        with disk.failing(self._path, "be opened"):
            disk.make_folders(self._path.parent)
            try:
                data = disk.read_regular(self._path)
            except FileNotFoundError:
                data = b""
            whole, _, torn = data.rpartition(b"\n")
            for number, line in enumerate(whole.split(b"\n") if whole else (), 1):
                self.agenda.apply(_read(line, self._path, number))
                self._lines += 1
            if torn:
                os.truncate(self._path, len(data) - len(torn))
                self._sync()

    async def _anew(self, now: datetime) -> None:
        kept = self.agenda.facts(now)
        await self._threads.run(self._write_anew, b"".join(map(_line, kept)))
        self._lines, self._failed = len(kept), False

    def _append(self, data: bytes) -> None:
        with disk.failing(self._path, "be written"):
            new = not self._path.exists()
            disk.append(self._path, data)
            self._sync()
            if new:
                disk.sync_folder(self._path.parent)

    def _write_anew(self, data: bytes) -> None:
        with disk.failing(self._path, "be written anew"):
            disk.write_atomic(self._path, data)

    def _sync(self) -> None:
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            disk.sync_data(descriptor)
        finally:
            os.close(descriptor)


def _line(fact: AnyFact) -> bytes:
    body = _encoder.encode(fact)
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _read(line: bytes, path: Path, number: int) -> AnyFact:
    checksum, _, body = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(body):
        raise StateDamaged(f"{path}:{number}: the line is not as it was written; {_REMEDY}")
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError as error:
        raise StateDamaged(f"{path}:{number}: {error}; {_REMEDY}") from error


_REMEDY = "put it right, or move the file away: schedules then count from now, and pauses are forgotten"
