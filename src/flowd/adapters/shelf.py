"""What may be kept to save work, below a state directory: losing it loses nothing.

    kept/<name>      bytes, whole or not there; whoever reads them knows whether they are sound

It is written without a sync, and only where there is a state directory already.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from flowd.adapters import disk
from flowd.core.errors import StateDamaged


class FileShelf:
    """The kept bytes of one state directory, which need not exist."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._waiting: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        """What was kept under this name."""
        try:
            return disk.read_regular(self._path(name))
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
                disk.write_atomic(self._path(name), data, synced=False)

    def _path(self, name: str) -> Path:
        return self._state_dir / "kept" / name


class MemoryShelf:
    """The same without a disk."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def get(self, name: str) -> bytes | None:
        """What was kept under this name."""
        return self._kept.get(name)

    def put(self, name: str, data: bytes) -> None:
        """Keep it."""
        self._kept[name] = data

    def write(self) -> None:
        """It is kept already."""
