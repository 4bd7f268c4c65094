"""Every change that was asked for through the API, and who asked: lines that are only added to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from flowd.adapters import disk
from flowd.adapters.rotation import rotate

FILE = "audit.jsonl"
_SIZE = 20_000_000
_KEPT = 10


class FileAudit:
    """Appends entries to a private file, which is begun anew at 20 MB; the ten before it are kept."""

    def __init__(self, folder: Path, *, size: int = _SIZE) -> None:
        self._path = folder / FILE
        self._size = size
        self._is_whole = _ends_whole(self._path)
        self._threads = disk.FileThreads(1, "flowd-audit")

    async def note(self, entry: Mapping[str, Any]) -> None:
        """Keep one entry; it is on disk when this returns. StorageFailing where it cannot be."""
        await self._threads.run(self._note, msgspec.json.encode(entry) + b"\n")

    def close(self) -> None:
        """Let the thread go."""
        self._threads.close()

    def _note(self, line: bytes) -> None:
        with disk.failing(self._path, "be written"):
            if not self._is_whole:  # a line that was cut off stays one of its own
                line = b"\n" + line
            self._is_whole = False
            disk.append(self._path, line)
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                disk.sync_data(descriptor)
                size = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
            self._is_whole = True
            if size == len(line):
                disk.sync_folder(self._path.parent)
            if size >= self._size:
                rotate(self._path, _KEPT)


def _ends_whole(path: Path) -> bool:
    """Whether the last line is whole; it is, where there is none."""
    try:
        with open(path, "rb") as file:
            return file.seek(0, os.SEEK_END) == 0 or (file.seek(-1, os.SEEK_END) >= 0 and file.read() == b"\n")
    except OSError:  # it is not there; or it cannot be read, which whoever writes will be told
        return True
