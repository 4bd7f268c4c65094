"""A disk that forgets: after a power cut only synced bytes and synced names are there.

While it watches, every sync is noted with what it made durable; `cuts` are the moments before
and after each, and `restore` builds what a machine would find after a cut at that moment.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Cut:
    """One moment: the bytes of files and the names in folders that are durable, and what was promised."""

    def __init__(self, files: dict[int, bytes], folders: dict[int, dict[str, int]], promised: object) -> None:
        self.files = dict(files)
        self.folders = dict(folders)
        self.promised = promised

    def restore(self, inode: int, target: Path) -> None:
        """Build the folder with this inode at `target` as it would be found."""
        target.mkdir(mode=0o700)
        for name, below in self.folders.get(inode, {}).items():
            if below < 0:
                self.restore(-below, target / name)
            else:
                (target / name).write_bytes(self.files.get(below, b""))


class Died(BaseException):
    """The process dies at a sync; nothing in it may catch this and go on."""


class ForgetfulDisk:
    """Watches the syncs of this process; `promised` says what was promised to anyone so far.

    At sync number `die_at` the process dies, as far as it can in a test.
    """

    def __init__(self, root: Path, promised: Callable[[], object]) -> None:
        self.root = root.stat().st_ino
        self.cuts: list[Cut] = []
        self._promised = promised
        self.die_at: int | None = None
        self._count = 0
        self._files: dict[int, bytes] = {}
        self._folders: dict[int, dict[str, int]] = {}

    @contextmanager
    def watching(self, patch: pytest.MonkeyPatch) -> Iterator[None]:
        """Note every sync while the block runs."""
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, self._note(getattr(os, name)))
        yield
        patch.undo()

    def _note(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def sync(descriptor: int) -> None:
            self._count += 1
            if self._count == self.die_at:
                raise Died
            self._cut()
            real(descriptor)
            found = os.fstat(descriptor)
            if stat.S_ISDIR(found.st_mode):
                self._folders[found.st_ino] = {
                    entry.name: -entry.inode() if entry.is_dir() else entry.inode() for entry in os.scandir(descriptor)
                }
            else:
                reader = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
                self._files[found.st_ino] = os.pread(reader, found.st_size, 0)
                os.close(reader)
            self._cut()

        return sync

    def _cut(self) -> None:
        self.cuts.append(Cut(self._files, self._folders, self._promised()))
