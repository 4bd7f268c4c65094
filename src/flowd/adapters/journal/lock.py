"""Who owns a run: a lock of the kernel on the run folder's own descriptor.

The kernel frees it when its holder dies, whatever becomes of files and ids; it is the folder
itself that is locked, so no name can be removed or doubled to get a second lock. `owner.json`
only informs. Whoever merely looks holds the lock for an instant; so one who wants it for good
asks a few times.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

import msgspec

from flowd.adapters import disk, filesystem
from flowd.core.errors import NoSuchRun, StateDamaged, StateLocked, StorageFailing, cause
from flowd.guardian import processes

_TRIES = 6
_PAUSE_S = 0.01
_MOMENTS = 500


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds a run, as it wrote of itself; `pid` 0 where it has not written yet.

    `before` are the incarnations of earlier owners whose processes it has not ended yet.
    """

    pid: int = 0
    host: str = ""
    boot_id: str = ""
    started_at: datetime | None = None
    incarnation: str = ""
    before: tuple[str, ...] = ()

    def __str__(self) -> str:
        since = f" since {self.started_at:%Y-%m-%dT%H:%M:%SZ}" if self.started_at else ""
        return f"pid {self.pid} on {self.host}{since}" if self.pid else "another process"


def this_process(now: datetime, incarnation: str = "") -> Owner:
    """Name the present process as an owner; `incarnation` marks the processes of its tasks."""
    return Owner(
        pid=os.getpid(),
        host=socket.gethostname(),
        boot_id=disk.boot_id(),
        started_at=now,
        incarnation=incarnation or new_incarnation(),
    )


def new_incarnation() -> str:
    """A name that no other owner ever has: pid, start of the process and of the machine, chance, PID namespace."""
    try:
        started = Path("/proc/self/stat").read_text("ascii", errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        started = "0"
    return f"{os.getpid()}-{started}-{disk.boot_id()[:8]}-{secrets.token_hex(4)}-{processes.namespace()}"


def last_here(folder: Path, recorded: Callable[[], Iterable[str]] = tuple) -> tuple[str, ...]:
    """The incarnations of the owners before, if in this start of this machine: no other has processes here.

    More than one where owners died before they had ended what those before them left. Where the
    file does not say, they are those that are `recorded` of this start.
    """
    last, boot = read_owner(folder), disk.boot_id()
    if last.incarnation:
        named = (*last.before, last.incarnation) if last.boot_id == boot else ()
    else:
        named = tuple(owner for owner in recorded() if owner.split("-")[2:3] == [boot[:8]])
    return tuple(dict.fromkeys(filter(None, named)))


def take(folder: Path) -> int:
    """Lock a run's folder; closing the descriptor frees it. Raises StateLocked, NoSuchRun, StateDamaged."""
    with ExitStack() as undo:
        descriptor = _open(folder)
        undo.callback(os.close, descriptor)
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(_PAUSE_S)
            if _try(descriptor, folder, fcntl.LOCK_EX):
                undo.pop_all()
                return descriptor
    raise StateLocked(f"{folder} is held by {read_owner(folder)}")


@contextmanager
def alone(folder: Path, needless: Callable[[], bool]) -> Iterator[bool]:
    """Hold a folder for a moment, waiting for whoever else does; False once that is `needless`.

    Nobody is waited for longer than that: who made a run's folder may be the run's owner next.
    """
    descriptor = _open(folder)
    try:
        for _ in range(_MOMENTS):
            if needless() or _try(descriptor, folder, fcntl.LOCK_EX):
                break
            time.sleep(_PAUSE_S)
        else:
            raise StateLocked(f"{folder} is held by {read_owner(folder)}")
        yield not needless()
    finally:
        os.close(descriptor)


def holder(folder: Path) -> Owner | None:
    """The living owner of a run; None where nobody holds it."""
    descriptor = _open(folder)
    try:
        return None if _try(descriptor, folder, fcntl.LOCK_SH) else read_owner(folder)
    finally:
        os.close(descriptor)


def check(folder: Path) -> None:
    """Lock a folder that nobody else locks, for an instant. StorageFailing where its file system cannot."""
    descriptor = _open(folder)
    try:
        _try(descriptor, folder, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def write_owner(folder: Path, owner: Owner) -> None:
    """Leave word of who holds the run."""
    disk.write_atomic(folder / "owner.json", msgspec.json.encode(owner), synced=False)


def read_owner(folder: Path) -> Owner:
    """What the last owner wrote of itself; an empty one where it did not or it cannot be read."""
    try:
        return msgspec.json.decode(disk.read_regular(folder / "owner.json"), type=Owner)
    except (OSError, StateDamaged, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Owner()


def _open(folder: Path) -> int:
    try:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NoSuchRun(f"{folder} does not exist") from error
    except OSError as error:
        raise StateDamaged(f"{folder}: not a folder ({cause(error)})") from error


def _try(descriptor: int, folder: Path, mode: int) -> bool:
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StorageFailing(
            f"{folder}: its file system, {filesystem.kind_of(folder)}, cannot lock ({cause(error)}); "
            "use a state directory on a local disk"
        ) from error
    return True
