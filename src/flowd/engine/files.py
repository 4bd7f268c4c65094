"""The files that tasks read and write: where they are, what is in them, that they are on disk.

Everything here blocks and is called in a thread of flowd's own, many files to a call. A digest
is not computed again while a file's size and time are those it was recorded with, unless the
file was so young when it was read that a later write could carry the same time.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from flowd.core.errors import StorageFailing
from flowd.core.events import Artifact
from flowd.core.graph import is_pattern
from flowd.core.spec import Output

ABSENT = "absent"
_YOUNG_NS = 50_000_000
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

    def path(self, written: str) -> Path:
        """The absolute path of one that is written relative to the folder."""
        return Path(os.path.normpath(self.folder / written))

    def remember(self, artifacts: Iterable[Artifact]) -> None:
        """Trust recorded sizes and times of earlier looks."""
        for artifact in artifacts:
            if artifact.mtime_ns:
                look = Look(artifact.size, artifact.mtime_ns, artifact.hashed_at_ns, artifact.digest)
                self._looks.setdefault(str(self.path(artifact.path)), look)

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

    def written_as(self, output: str) -> list[str]:
        """The paths that an output names: itself, or the files that its glob finds now."""
        if not is_pattern(output):
            return [output]
        return [found for found in self.matches(output) if self.path(found).is_file()]

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


def prepare_places(files: Files, outputs: Sequence[tuple[Output, str]]) -> dict[str, Look]:
    """Make the folders that outputs are written into; what is there already, by its path as it is written."""
    for _, written in outputs:
        folder = files.path(written).parent
        while is_pattern(str(folder)):
            folder = folder.parent
        make_folders(folder)
    there = [found for _, written in outputs for found in files.written_as(written)]
    return {found: look for found in there if (look := files.look(files.path(found))) is not None}


def collect(files: Files, outputs: Sequence[tuple[Output, str]], before: Mapping[str, Look]) -> tuple[Artifact, ...]:
    """The outputs as the task left them, each synced with its folder's entry before this returns.

    `outputs` come with their resolved path; `before` holds what was there before the attempt.
    Raises MissingOutput, and StorageFailing where one cannot be synced.
    """
    left: dict[str, tuple[Output, Look]] = {}
    for output, named in outputs:
        for written in files.written_as(named):
            look = files.look(files.path(written))
            if look is not None:
                left.setdefault(written, (output, look))
            elif not output.optional:
                raise MissingOutput(f"its output {written} is not there; write it, or mark it as optional")
        if is_pattern(named) and not output.optional and not files.written_as(named):
            raise MissingOutput(f"its output {named} finds no file; write one, or mark it as optional")
    found = []
    for written, (output, look) in left.items():
        path, earlier = files.path(written), before.get(written)
        unchanged = earlier is not None and 0 != earlier.mtime_ns == look.mtime_ns and earlier.digest == look.digest
        sync(path, files.folder)  # an unchanged one, too: an attempt that was cut off may have written it
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
    folders = {path.parent, *(parent for parent in path.parents if parent.is_relative_to(top))}
    if path.is_dir():
        for parent, _, names in os.walk(path):
            folders.add(Path(parent))
            for name in names:
                _sync_one(Path(parent, name))
    else:
        _sync_one(path)
    for folder in folders:
        _sync_one(folder)


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
        name = errno.errorcode.get(error.errno or 0, "")
        raise StorageFailing(f"{path}: cannot sync: {error.strerror} ({name})") from error
    finally:
        os.close(descriptor)
