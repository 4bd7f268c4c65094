"""The open end of one run's journal: its lock, its last segment and its mark. Blocks; made for one thread at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path

import msgspec

from flowd.adapters import disk
from flowd.adapters.journal import lock
from flowd.adapters.journal.layout import segment_path
from flowd.adapters.journal.mark import Mark
from flowd.adapters.journal.reader import Walk
from flowd.adapters.journal.repair import Repair, restore
from flowd.core.errors import StorageFailing
from flowd.core.events import RunAdopted, RunStarted

OWNED = ("run_started", "run_adopted")
"""The events that name an owner."""


class OpenSegment:
    """A run taken for writing, from `open` to `close`; every descriptor is closed exactly once.

    `close` waits for a commit that is under way in another thread, and an `open` that ends
    after `close` lets everything go again.
    """

    def __init__(self, folder: Path, run: str, incarnation: str = "") -> None:
        self.repairs: list[Repair] = []
        self.left_by: tuple[str, ...] = ()
        self._owner = lock.Owner()
        self._incarnation = incarnation
        self.mark = Mark(segment=1, seq=0, offset=0, checksum=0, boot="")
        self._folder = folder
        self._run = run
        self._path = folder
        self._place = (0, 0)
        self._lock = self._file = self._mark_file = -1
        self._closed = False
        self._busy = threading.Lock()

    def open(self, now: datetime) -> None:
        """Lock the run and make its journal ready for appending. Raises as `Journal.open` does."""
        with self._busy:
            if self._closed:
                return
            with ExitStack() as undo:
                undo.callback(self._release)
                self._lock = lock.take(self._folder)
                with disk.failing(self._folder, "open the journal"):
                    found = os.fstat(self._lock)
                    self._place = (found.st_dev, found.st_ino)
                    self.mark, self.repairs = restore(self._folder, self._run)
                    self._path = segment_path(self._folder, self.mark.segment)
                    self._file = disk.open_regular(self._path, os.O_WRONLY | os.O_APPEND)
                    self._mark_file = disk.open_regular(self._folder / "mark", os.O_WRONLY | os.O_CREAT)
                    os.pwrite(self._mark_file, self.mark.encoded(), 0)
                    os.ftruncate(self._mark_file, len(self.mark.encoded()))
                    self.left_by = lock.last_here(self._folder, self._recorded_owners)
                    me = lock.this_process(now, self._incarnation)
                    self._owner = msgspec.structs.replace(me, before=self.left_by)
                    lock.write_owner(self._folder, self._owner)
                undo.pop_all()

    def _recorded_owners(self) -> Iterator[str]:
        """Who has owned the run according to its journal."""
        for piece in Walk(self._folder, self._run, self.mark, after=0, only=OWNED).acknowledged():
            for envelope in piece:
                if isinstance(envelope.event, RunStarted | RunAdopted):
                    yield envelope.event.owner

    def commit(self, data: bytes, seq: int, checksum: int) -> None:
        """Bring lines up to record `seq` to disk, then move the mark. StorageFailing names file and cause."""
        with self._busy:
            if self._closed:
                raise StorageFailing(f"{self._path}: closed before record {seq} was written")
            self._check_place()
            with disk.failing(self._path, "write"):
                disk.write_all(self._file, data)
            with disk.failing(self._path, "sync"):
                disk.sync_data(self._file)
            mark = self.mark
            self.mark = Mark(
                segment=mark.segment, seq=seq, offset=mark.offset + len(data), checksum=checksum, boot=mark.boot
            )
            with disk.failing(self._folder / "mark", "write"):
                os.pwrite(self._mark_file, self.mark.encoded(), 0)
            if self._owner.before:  # who writes has ended what those before it left
                self._owner = msgspec.structs.replace(self._owner, before=())
                with suppress(OSError, StorageFailing):  # it only informs: the next owner looks for them once more
                    lock.write_owner(self._folder, self._owner)

    def close(self) -> None:
        """Let the run go; the lock goes last."""
        with self._busy:
            self._release()

    def _release(self) -> None:
        self._closed = True
        descriptors = (self._mark_file, self._file, self._lock)
        self._lock = self._file = self._mark_file = -1
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)

    def _check_place(self) -> None:
        """A folder or file that was moved, removed or written by others is no place to promise anything."""
        with disk.failing(self._folder, "find the run's folder"):
            found = os.stat(self._folder)
        if (found.st_dev, found.st_ino) != self._place:
            raise StorageFailing(f"{self._folder}: the folder was replaced while the run was open")
        with disk.failing(self._path, "find the journal"):
            file = os.fstat(self._file)
            try:
                there = os.stat(self._path, follow_symlinks=False).st_ino
            except FileNotFoundError:
                there = 0
        if file.st_ino != there:
            how = "replaced" if there else "removed"
            raise StorageFailing(f"{self._path}: the journal was {how} while the run was open")
        if file.st_size != self.mark.offset:
            raise StorageFailing(f"{self._path}: the journal was changed by another program while the run was open")
