"""The lock table as files: `limits/<incarnation>.lock`, held by a living engine, and its page beside it.

The kernel frees the lock when its holder dies, and the guardian holds it too, so that what a dead
engine's tasks held is free only when they have been ended. Who reads or writes a page holds the
lock on the folder itself for that moment, so that a page is written in its place (to rename one
over another makes file systems write at once, which takes a hundred times as long); one that a
death has cut off is a dead one's, and is removed. Nothing is asked again and again while nobody waits.
"""

from __future__ import annotations

import fcntl
import glob
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from pathlib import Path

import msgspec

from flowd.adapters import disk
from flowd.adapters.rate_log import MemoryRateLog, RateLog
from flowd.core.claims import Claim, Hold, Page, Place, Refusal, Want, hold_of, refusal
from flowd.core.errors import StateDamaged, StorageFailing, cause
from flowd.core.patterns import folder_of

FOLDER = "limits"
_LOCK, _PAGE = ".lock", ".json"
_PATIENCE_S = 2.0
_PAUSE_S = 0.002
_MOST_FOLDERS = 10_000
_BLOCK = 4_096
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Page).decode


class FileLockTable:
    """The table of `state_dir`, in which this engine is called `incarnation`.

    Its files are made with the first claim: who claims nothing leaves nothing. `share` is then given
    the lock's descriptor, which stays ours, so that others may hold it as long as they live.
    """

    def __init__(
        self, state_dir: Path, incarnation: str, share: Callable[[int], None] = lambda _descriptor: None
    ) -> None:
        self._share = share
        self._folder = state_dir / FOLDER
        self._name = incarnation
        self._threads: disk.FileThreads | None = None
        self._rates = RateLog(self._folder)
        self._lock: int | None = None
        self._table: int | None = None
        self._file: int | None = None
        self._room = 0
        self._holds: dict[int, Hold] = {}
        self._wants: tuple[Want, ...] = ()
        self._looked = 0.0
        self._count = 0
        self._closed = False
        self._real: dict[str, str] = {}  # of folders, each looked at once

    async def claim(self, claim: Claim, now: datetime) -> int | Refusal:
        """The number of the hold that is granted, or why not."""
        if self._lock is None:
            await self._in_thread.run(self._open)
            if self._lock is not None:
                self._share(self._lock)
        return await self._in_thread.run(self._claim, claim, now)

    def free(self, hold: int) -> None:
        """End a hold, in the order in which claims and ends come."""
        self._in_thread.begin(self._free, hold)

    async def look(self, wants: Sequence[Want], now: datetime) -> tuple[Page, list[Page]]:
        """Say who waits first here, and read what the others hold and want."""
        return await self._in_thread.run(self._look, tuple(wants), now)

    async def starts(self, limit: str) -> list[float]:
        """The starts recorded under a rate."""
        return await self._in_thread.run(self._rates.read, limit)

    def close(self) -> None:
        """Leave the table. What is held by a thread that could not be stopped is so until it, or the process, ends."""
        if self._threads is not None:
            self._threads.begin(self._close).result()
            if not self._holds:
                self._threads.close()
        else:
            self._close()

    # --- in the table's own thread: one after the other ----------------------------------------------------

    @property
    def _in_thread(self) -> disk.FileThreads:
        if self._threads is None:
            self._threads = disk.FileThreads(1, "flowd-limits")
        return self._threads

    def _claim(self, claim: Claim, now: datetime) -> int | Refusal:
        with disk.failing(self._folder, "claim what a task uses"), self._alone():
            claim = self._with_links_resolved(claim)
            starts = {limit: self._rates.read(limit) for limit in claim.rates}
            found = refusal(claim, self._page(), self._others(), starts, now)
            if found is not None:
                return found
            self._count += 1
            if claim.uses or claim.writes:
                self._holds[self._count] = hold_of(claim, now)
                try:
                    self._write()
                except BaseException:
                    del self._holds[self._count]
                    raise
            for limit, rate in claim.rates.items():
                self._rates.record(limit, rate, now.timestamp())
            return self._count

    def _free(self, hold: int) -> None:
        if self._holds.pop(hold, None) is None:
            return
        with suppress(OSError, StorageFailing), self._alone():  # else it stays in the page until the next claim
            self._write()
        if self._closed and not self._holds:
            self._leave()

    def _look(self, wants: tuple[Want, ...], now: datetime) -> tuple[Page, list[Page]]:
        self._open()
        with disk.failing(self._folder, "look who waits"), self._alone():
            if wants != self._wants or (wants and now.timestamp() - self._looked > 1):
                self._wants, self._looked = wants, now.timestamp()
                self._write()
            return self._page(), self._others()

    def _with_links_resolved(self, claim: Claim) -> Claim:
        if not claim.reads and not claim.writes:
            return claim
        reads, writes = (tuple(map(self._resolved, places)) for places in (claim.reads, claim.writes))
        return msgspec.structs.replace(claim, reads=reads, writes=writes)

    def _resolved(self, place: Place) -> Place:
        """The same place, whatever links lead there: of a glob, the folder in which it begins."""
        if place.glob:
            folder = folder_of(place.path)
            real = glob.escape(self._real_folder(folder))
            return Place(path=real + place.path[len(glob.escape(folder)) :], glob=True)
        folder, name = os.path.split(place.path)
        path = os.path.join(self._real_folder(folder), name)
        return Place(path=os.path.realpath(path) if os.path.islink(path) else path)

    def _real_folder(self, folder: str) -> str:
        real = self._real.get(folder)
        if real is None:
            if len(self._real) >= _MOST_FOLDERS:
                self._real.clear()
            real = self._real[folder] = os.path.realpath(folder)
        return real

    def _page(self) -> Page:
        return Page(pid=os.getpid(), holds=tuple(self._holds.values()), wants=self._wants, looked=self._looked)

    def _write(self) -> None:
        """Write the page over the one before: room is made first, so that a full disk leaves that as it was."""
        data = _encode(self._page())
        if self._file is None:
            self._file = disk.open_regular(self._folder / f"{self._name}{_PAGE}", os.O_WRONLY | os.O_CREAT)
        if len(data) > self._room:
            made, wanted = self._room, -(-len(data) // _BLOCK) * _BLOCK
            while made < wanted:  # after one that was cut short the next says why
                made += os.pwrite(self._file, b" " * (wanted - made), made)
            self._room = wanted
        os.pwrite(self._file, data.ljust(self._room), 0)

    def _others(self) -> list[Page]:
        return [page for _, page in _living(self._folder, but=self._name)]

    # --- locks ---------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._lock is not None:
            return
        with disk.failing(self._folder, "make the lock table"):
            self._folder.mkdir(disk.FOLDER_MODE, parents=True, exist_ok=True)
            self._table = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with self._alone():  # nobody may take it for a dead one's between its making and its locking
                lock = os.open(self._folder / f"{self._name}{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(lock, fcntl.LOCK_EX)  # one who only reads may have it for an instant
            self._lock = lock

    def _alone(self) -> AbstractContextManager[None]:
        assert self._table is not None
        return alone(self._table, self._folder)

    def _close(self) -> None:
        self._closed = True
        if not self._holds:
            self._leave()

    def _leave(self) -> None:
        if self._lock is None or self._table is None:
            return
        for suffix in (_PAGE, _LOCK):
            (self._folder / f"{self._name}{suffix}").unlink(missing_ok=True)
        for descriptor in (self._lock, self._table, self._file):
            if descriptor is not None:
                os.close(descriptor)
        self._lock = self._table = self._file = None


@contextmanager
def alone(table: int, folder: Path) -> Iterator[None]:
    """Hold the table for a moment; who has it for seconds is stopped, or its disk is."""
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(table, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > until:
                raise StorageFailing(
                    f"{folder} is held by another process for more than {_PATIENCE_S:g}s; "
                    "look for a stopped flowd (ps -ef | grep flowd)"
                ) from None
            time.sleep(_PAUSE_S)
        except OSError as error:
            raise StorageFailing(f"{folder}: its file system cannot lock ({cause(error)})") from error
    try:
        yield
    finally:
        fcntl.flock(table, fcntl.LOCK_UN)


def living_pages(state_dir: Path) -> list[Page]:
    """The pages of all living engines of a state directory, for one who only reads."""
    try:
        table = os.open(state_dir / FOLDER, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    try:
        with alone(table, state_dir / FOLDER):
            return [page for _, page in _living(state_dir / FOLDER, remove=False)]
    finally:
        os.close(table)


def _living(folder: Path, *, but: str = "", remove: bool = True) -> Iterator[tuple[str, Page]]:
    """Each living engine's name and page, but that of one; one who holds the table removes the files of dead ones."""
    try:
        files = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    for name in [file.removesuffix(_LOCK) for file in files if file.endswith(_LOCK)]:
        if name == but:
            continue
        if _is_held(folder / f"{name}{_LOCK}"):
            with suppress(FileNotFoundError):  # it has claimed nothing yet
                page = _page_in(folder / f"{name}{_PAGE}")
                if page is not None:
                    yield name, page
        elif remove:
            for file in files:
                if file.startswith(f"{name}.") and not file.endswith(_LOCK):
                    (folder / file).unlink(missing_ok=True)
            (folder / f"{name}{_LOCK}").unlink(missing_ok=True)


def _page_in(file: Path) -> Page | None:
    """A page; None where its first was not written, for want of room."""
    data = disk.read_regular(file)
    if not data.strip():
        return None
    try:
        return _decode(data)
    except msgspec.DecodeError as error:  # written by none of us: who writes is alone
        raise StateDamaged(f"{file}: {error}; end the flowd that is running here, then remove it") from error


def _is_held(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class MemoryLockTable:
    """The same for engines in one process that live and die together; two share what they hold if given one of it."""

    def __init__(self) -> None:
        self._rates = MemoryRateLog()
        self._holds: dict[int, Hold] = {}
        self._wants: tuple[Want, ...] = ()
        self._count = 0

    async def claim(self, claim: Claim, now: datetime) -> int | Refusal:
        """The number of the hold that is granted, or why not."""
        starts = {limit: self._rates.read(limit) for limit in claim.rates}
        found = refusal(claim, self._page(), (), starts, now)
        if found is not None:
            return found
        self._count += 1
        if claim.uses or claim.writes:
            self._holds[self._count] = hold_of(claim, now)
        for limit, rate in claim.rates.items():
            self._rates.record(limit, rate, now.timestamp())
        return self._count

    def free(self, hold: int) -> None:
        """End a hold."""
        self._holds.pop(hold, None)

    async def look(self, wants: Sequence[Want], now: datetime) -> tuple[Page, list[Page]]:  # noqa: ARG002  # the port's
        """Nobody else is there."""
        self._wants = tuple(wants)
        return self._page(), []

    async def starts(self, limit: str) -> list[float]:
        """The starts recorded under a rate."""
        return self._rates.read(limit)

    def _page(self) -> Page:
        return Page(pid=0, holds=tuple(self._holds.values()), wants=self._wants)
