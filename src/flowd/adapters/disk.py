"""The few things that everything on disk is made of: whole writes, synced names, regular files.

This is the ground floor of the adapters that keep files, no adapter itself. The functions
block; `FileThreads` carries them off the loop, on threads that no user's work can fill.
Every OSError on the way to disk is the caller's to name (see `failing`).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import aiofiles.os
import anyio

from flowd.core.errors import StateDamaged, StorageFailing, cause

FOLDER_MODE = 0o700
FILE_MODE = 0o600

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _call(work: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    return work(*args, **kwargs)


_carried: Callable[..., Awaitable[Any]] = aiofiles.os.wrap(_call)  # once: wrapping takes longer than some of the calls


class _Pool(ThreadPoolExecutor):
    """Goes on with the threads that it has where the machine has no room for another."""

    def _adjust_thread_count(self) -> None:
        try:
            super()._adjust_thread_count()
        except RuntimeError:  # the work is queued by now
            if not self._threads:
                raise


class FileThreads:
    """Up to `count` threads for file work alone, the first at once: later, tasks may have left no room for it."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = _Pool(max_workers=count, thread_name_prefix=name)
        self._pool.submit(int)

    async def run(self, work: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do `work` in a thread, to its end: a scope that is cancelled meanwhile waits for it."""
        with anyio.CancelScope(shield=True):
            result: _T = await _carried(work, *args, executor=self._pool, **kwargs)
        return result

    def begin(self, work: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Have `work` done, after what was asked for before; nobody waits for it."""
        return self._pool.submit(work, *args, **kwargs)

    def close(self) -> None:
        """Take no more work; what was begun goes on to its end."""
        self._pool.shutdown(wait=False)


@contextmanager
def failing(path: Path, what: str) -> Iterator[None]:
    """Turn an OSError into a StorageFailing that names the file and the cause."""
    try:
        yield
    except OSError as error:
        raise StorageFailing(f"{path}: cannot {what}: {cause(error)}") from error


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a regular file, which nothing else at its place can delay or divert.

    Raises FileNotFoundError, and StateDamaged where a folder, link, pipe or device stands there.
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV, errno.ENOTDIR}:
            raise StateDamaged(f"{path}: not a regular file ({cause(error)})") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StateDamaged(f"{path}: not a regular file")
    return descriptor


def read_regular(path: Path) -> bytes:
    """All bytes of a regular file. Raises as `open_regular` does."""
    with open(open_regular(path), "rb") as file:
        return file.read()


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte: a system may take fewer at once, and say why only at the next try."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def sync_data(descriptor: int) -> None:
    """Bring a file's bytes and size to disk."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes, *, synced: bool = True) -> None:
    """Put a whole file in its place, seen by nobody half-written; `synced`: safe from power cuts too."""
    # the process's own name: two writers never share a half-written file
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{os.urandom(4).hex()}.tmp")
    descriptor = open_regular(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    with ExitStack() as undo:
        undo.callback(temporary.unlink, missing_ok=True)
        try:
            write_all(descriptor, data)
            if synced:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        undo.pop_all()
    if synced:
        sync_folder(path.parent)


def append(path: Path, data: bytes, *, private: bool = True) -> None:
    """Add to the end of a file, which is made where it is missing, as is its folder; `private`: for its owner alone."""
    flags, mode = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE if private else 0o666
    try:
        descriptor = os.open(path, flags, mode)
    except FileNotFoundError:
        path.parent.mkdir(mode=FOLDER_MODE if private else 0o777, parents=True, exist_ok=True)
        descriptor = os.open(path, flags, mode)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


def make_folders(folder: Path) -> set[Path]:
    """Make a folder and those above it that are missing, private; the folders whose new names were synced."""
    missing, synced = [], set()
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for below in reversed(missing):
        try:
            below.mkdir(FOLDER_MODE)
        except FileExistsError as error:
            if not below.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(below)) from error
        sync_folder(below.parent)
        synced.add(below.parent)
    return synced


class Folders:
    """Folders below `top`, made where they are missing, and sure to be there after a power cut.

    Whoever made one may have died before its name was synced; so each is made sure of once here.
    """

    def __init__(self, top: Path) -> None:
        self._top = top
        self._sure: set[Path] = set()

    def make(self, folder: Path) -> None:
        """Make a folder and those above it, their names synced up to `top`."""
        synced = make_folders(folder)
        if folder in self._sure:
            return
        for parent in folder.parents:
            if parent not in synced:
                sync_folder(parent)
            if parent == self._top:
                break
        self._sure.add(folder)


@cache
def boot_id() -> str:
    """Which start of this machine it is; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""
