"""Which files a daemon's pipelines are in."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from flowd.authoring.loading import candidates, looks_like_one
from flowd.core.settings import Settings


class Finder:
    """Finds the files of the settings' globs, or all that look like pipelines; each is looked into once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = Path(settings.folder)
        self._known: dict[Path, tuple[tuple[int, int, int], bool]] = {}

    def __call__(self) -> Sequence[str]:
        """The files as they are named to be loaded, absolute and sorted."""
        if self._settings.pipelines:
            return sorted({named for pattern in self._settings.pipelines for named in self._of(pattern)})
        found = [path for path in candidates(self._folder) if self._looks_like_one(path)]
        return sorted(str(path) for path in found if str(path) != self._settings.file)

    def _of(self, pattern: str) -> Iterator[str]:
        text, _, name = pattern.partition(".py:")
        for path in glob.glob(str(self._folder / Path(f"{text}.py" if name else pattern).expanduser()), recursive=True):
            if Path(path).is_file() and (whole := str(Path(path).absolute())) != self._settings.file:
                yield f"{whole}:{name}" if name else whole

    def _looks_like_one(self, path: Path) -> bool:
        try:
            found = os.stat(path)
        except OSError:
            return False
        stamp = found.st_size, found.st_mtime_ns, found.st_ino
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            known = self._known[path] = stamp, looks_like_one(path)
        return known[1]
