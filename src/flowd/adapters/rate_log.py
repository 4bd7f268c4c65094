"""When things started under each rate: `limits/rates/<name>`, the newest starts as 8-byte numbers.

A start takes the place of the oldest, by one write that is synced before it begins: whatever a
crash leaves, none is forgotten that still counts.
"""

from __future__ import annotations

import os
from array import array
from pathlib import Path
from urllib.parse import quote

from flowd.adapters import disk
from flowd.core.spec import Rate

_BYTES = 8


class RateLog:
    """The starts below `folder`, in seconds since 1970. Whoever records holds the table."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "rates"

    def read(self, limit: str) -> list[float]:
        """The recorded starts, in no order; what is cut off or no number counts as none."""
        try:
            data = disk.read_regular(self._path(limit))
        except FileNotFoundError:
            return []
        return list(array("d", data[: len(data) - len(data) % _BYTES]))

    def record(self, limit: str, rate: Rate, at: float) -> None:
        """Keep one start, on disk: in place of the oldest, where as many as the rate counts are kept."""
        starts, path = self.read(limit), self._path(limit)
        place = len(starts) if len(starts) < rate.count else min(range(len(starts)), key=starts.__getitem__)
        is_new = not starts
        if is_new:
            self._folder.mkdir(disk.FOLDER_MODE, exist_ok=True)
        descriptor = disk.open_regular(path, os.O_WRONLY | os.O_CREAT)
        try:
            os.pwrite(descriptor, array("d", [at]).tobytes(), place * _BYTES)
            disk.sync_data(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            for folder in (self._folder, self._folder.parent, self._folder.parent.parent):
                disk.sync_folder(folder)

    def _path(self, limit: str) -> Path:
        return self._folder / quote(limit, safe="")


class MemoryRateLog:
    """The same without a disk."""

    def __init__(self) -> None:
        self._starts: dict[str, list[float]] = {}

    def read(self, limit: str) -> list[float]:
        """The recorded starts."""
        return list(self._starts.get(limit, ()))

    def record(self, limit: str, rate: Rate, at: float) -> None:
        """Keep one start."""
        starts = sorted([*self._starts.get(limit, ()), at])
        self._starts[limit] = starts[-rate.count :]
