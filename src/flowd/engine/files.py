"""The files that tasks read and write: where they are, what is in them, that they are on disk.

Everything here blocks and is called in a thread of flowd's own, many files to a call. A digest
is not computed again while a file's size and time are those it was recorded with, unless the
file was so young when it was read that a later write could carry the same time.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from flowd.core.errors import StorageFailing, cause
from flowd.core.events import Artifact
from flowd.core.spec import Output

ABSENT = "absent"
_YOUNG_NS = 50_000_000
_PIECE = 1 << 20
_MAGIC = frozenset("*?[")


class Look(msgspec.Struct, frozen=True, gc=False):
    """What a file was like when it was read: bytes, times in ns, sha256 of its content."""

    size: int
    mtime_ns: int
    hashed_at_ns: int
    digest: str


class Files:
    """Digests of files below one folder, each computed at most once while a file stays as it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._looks: dict[str, Look] = {}
        self._on_disk: dict[str, str] = {}

    def path(self, written: str) -> Path:
        """The absolute path of one that is written relative to the folder."""
        return Path(os.path.normpath(self.folder / written))

    def remember(self, artifacts: Iterable[Artifact]) -> None:
        """Trust recorded sizes and times of earlier looks."""
        for artifact in artifacts:
            name = str(self.path(artifact.path))
            self._on_disk[name] = artifact.digest
            if artifact.mtime_ns:
                look = Look(artifact.size, artifact.mtime_ns, artifact.hashed_at_ns, artifact.digest)
                self._looks.setdefault(name, look)

    def is_on_disk(self, path: Path, look: Look) -> bool:
        """Whether this very content is known to have been synced, here or by whoever recorded it."""
        return self._on_disk.get(str(path)) == look.digest

    def synced(self, path: Path, look: Look) -> None:
        """Note that this content is on disk."""
        self._on_disk[str(path)] = look.digest

    def look(self, path: Path) -> Look | None:
        """The file or folder at `path` as it is now, or None where there is nothing to read."""
        name = str(path)
        try:
            status = os.stat(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        known = self._looks.get(name)
        if (
            known is not None
            and known.size == status.st_size
            and known.mtime_ns == status.st_mtime_ns
            and known.hashed_at_ns - known.mtime_ns > _YOUNG_NS
        ):
            return known
        now = time.time_ns()
        if stat.S_ISDIR(status.st_mode):
            look = Look(status.st_size, 0, now, self._tree_digest(path))
        elif stat.S_ISREG(status.st_mode):
            with open(name, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            look = Look(status.st_size, status.st_mtime_ns, now, digest)
        else:
            return None
        self._looks[name] = look
        return look

    def digest(self, path: Path) -> str:
        """The content's digest, or `absent`."""
        look = self.look(path)
        return ABSENT if look is None else look.digest

    def matches(self, pattern: str) -> list[str]:
        """The paths, as they would be written, that an input names: itself, or what a glob finds."""
        if not _MAGIC.intersection(pattern):
            return [pattern]
        return sorted(glob.glob(pattern, root_dir=self.folder, recursive=True))

    def _tree_digest(self, folder: Path) -> str:
        total = hashlib.sha256()
        for parent, folders, names in os.walk(folder):
            folders.sort()
            for name in sorted(names):
                path = Path(parent, name)
                total.update(f"{path.relative_to(folder).as_posix()}\0{self.digest(path)}\n".encode())
        return total.hexdigest()


class MissingOutput(Exception):
    """A declared output is not there after its task said that it succeeded."""


def collect(files: Files, outputs: Sequence[tuple[Output, str]], before: Sequence[Look | None]) -> tuple[Artifact, ...]:
    """The outputs as the task left them, each synced with its folder's entry before this returns.

    `outputs` come with their resolved path, `before` with how each was before the attempt.
    Raises MissingOutput, and StorageFailing where one cannot be synced.
    """
    found = []
    for (output, written), earlier in zip(outputs, before, strict=True):
        path = files.path(written)
        look = files.look(path)
        if look is None:
            if output.optional:
                continue
            raise MissingOutput(f"its output {written} is not there; write it, or mark it as optional")
        unchanged = earlier is not None and 0 != earlier.mtime_ns == look.mtime_ns and earlier.digest == look.digest
        if earlier is not None and not files.is_on_disk(path, look):
            write_again(path, before_ns=earlier.hashed_at_ns)
        sync(path, files.folder)  # an unchanged one, too: an attempt that was cut off may have written it
        files.synced(path, look)
        found.append(
            Artifact(
                path=written,
                size=look.size,
                digest=look.digest,
                mtime_ns=look.mtime_ns,
                hashed_at_ns=look.hashed_at_ns,
                checkpoint=output.checkpoint,
                unchanged=unchanged,
            )
        )
    return tuple(found)


def sync(path: Path, top: Path) -> None:
    """Put a file, or all files of a folder, on disk, with the entries of their folders up to `top`."""
    inside = path.is_relative_to(top)
    folders = {parent for parent in path.parents if not inside or parent.is_relative_to(top)}
    if path.is_dir():
        for parent, _, names in os.walk(path):
            folders.add(Path(parent))
            for name in names:
                _sync_one(Path(parent, name))
    else:
        _sync_one(path)
    for folder in folders:
        if inside or folder == path.parent or os.access(folder, os.R_OK):  # high above, some are not ours to open
            _sync_one(folder)


def write_again(path: Path, *, before_ns: int) -> None:
    """Write what is in a file, or in all files of a folder, once more, where this attempt has not written it.

    An attempt whose sync failed may have left it: Linux then calls the pages clean, and the next sync
    succeeds although they never got to disk. What is older than the start of this machine is on disk.
    """
    places = [Path(parent, name) for parent, _, names in os.walk(path) for name in names] or [path]
    for place in places:
        status = place.lstat()
        if stat.S_ISREG(status.st_mode) and _booted_ns() <= status.st_mtime_ns < before_ns:
            _write_again(place, status)


def _write_again(path: Path, status: os.stat_result) -> None:
    readonly = not os.access(path, os.W_OK)
    if readonly:
        path.chmod(stat.S_IMODE(status.st_mode) | stat.S_IWUSR)
    try:
        with path.open("r+b", buffering=0) as file:
            at = 0
            while piece := os.pread(file.fileno(), _PIECE, at):
                at += os.pwrite(file.fileno(), piece, at)
            os.utime(file.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
    except OSError as error:
        raise StorageFailing(f"{path}: cannot write again: {cause(error)}") from error
    finally:
        if readonly:
            path.chmod(stat.S_IMODE(status.st_mode))


def _booted_ns() -> int:
    """When this machine was started, in ns of the wall clock; the beginning of time where it does not say."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return 0 if boottime is None else time.time_ns() - time.clock_gettime_ns(boottime)


def make_folders(folder: Path) -> None:
    """Make a folder and those above it that are missing, their names synced."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for below in reversed(missing):
        below.mkdir(exist_ok=True)
        _sync_one(below.parent)


def _sync_one(path: Path) -> None:
    if not stat.S_ISREG(mode := os.lstat(path).st_mode) and not stat.S_ISDIR(mode):
        return  # a pipe would block, and a link's target is synced under its own name if it is an output
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise StorageFailing(f"{path}: cannot sync: {cause(error)}") from error
    finally:
        os.close(descriptor)
