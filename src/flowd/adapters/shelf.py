"""What may be kept to save work, below a state directory: losing it loses nothing.

    kept/<name>      a checksum (crc32, four bytes, big end first), then the bytes that it is of

It is written without a sync, and only where there is a state directory already.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from zlib import crc32

from flowd.adapters import disk
from flowd.core.errors import StateDamaged

_SUM = 4


class FileShelf:
    """The kept bytes of one state directory, which need not exist."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._waiting: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        """What was kept under this name, if it is sound."""
        try:
            return _opened(disk.read_regular(self._path(name)))
        except (OSError, StateDamaged):
            return None

    def put(self, name: str, data: bytes) -> None:
        """Have it written by the next `write`."""
        self._waiting[name] = data

    def write(self) -> None:
        """Write what was put, as far as that is possible: nobody depends on it."""
        waiting, self._waiting = self._waiting, {}
        for name, data in waiting.items():
            with suppress(OSError, StateDamaged):
                self._path(name).parent.mkdir(disk.FOLDER_MODE, exist_ok=True)  # not the state directory itself
                disk.write_atomic(self._path(name), _sealed(data), synced=False)

    def _path(self, name: str) -> Path:
        return self._state_dir / "kept" / name


class MemoryShelf:
    """The same without a disk."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        """What was kept under this name, if it is sound."""
        return _opened(self._kept.get(name, b""))

    def put(self, name: str, data: bytes) -> None:
        """Keep it."""
        self._kept[name] = _sealed(data)

    def write(self) -> None:
        """It is kept already."""


def _sealed(data: bytes) -> bytes:
    return crc32(data).to_bytes(_SUM, "big") + data


def _opened(sealed: bytes) -> bytes | None:
    data = sealed[_SUM:]
    return data if crc32(data).to_bytes(_SUM, "big") == sealed[:_SUM] else None
