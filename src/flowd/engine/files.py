"""The files that tasks read and write: where they are, what is in them, that they are on disk.

Everything here blocks and is called in a thread of flowd's own, many files to a call. A file is
not read again while its status is that of an earlier look (`engine.looks` says which are believed).
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from flowd.core.errors import StorageFailing, cause
from flowd.core.events import Artifact
from flowd.core.patterns import Glob, finds, folder_of
from flowd.core.spec import Output
from flowd.engine.looks import Look, Looks, is_settled

ABSENT = "absent"
_PIECE = 1 << 20
_LARGE = 1 << 20
"""Bytes from which on files are read side by side: hashing gives up Python's lock, and waits for the disk."""


class Files:
    """Digests of files below one folder, each computed at most once while a file stays as it is.

    `looks` are kept from run to run, where given; `news`: some have come that are not kept yet.
    `keeps_times(path)` says whether the times of a file there tell of every change; it is asked once a file system.
    """

    def __init__(
        self, folder: Path, looks: Looks | None = None, keeps_times: Callable[[str], bool] = lambda _path: True
    ) -> None:
        self.folder = folder
        self._home = str(folder)
        self._places: dict[str, str] = {}
        self._looks: dict[str, Look] = {}
        self._on_disk: dict[str, str] = {}
        self._kept = looks
        self._keeps_times = keeps_times
        self._telling: dict[int, bool] = {}  # by device
        self._earlier: Mapping[str, Look] | None = None
        self._lock = threading.Lock()
        self.news = False

    def place(self, written: str) -> str:
        """The absolute path of one that is written relative to the folder, as text."""
        place = self._places.get(written)
        if place is None:
            place = self._places[written] = os.path.normpath(os.path.join(self._home, written))
        return place

    def path(self, written: str) -> Path:
        """The absolute path of one that is written relative to the folder."""
        return Path(self.place(written))

    def note_synced(self, artifacts: Iterable[Artifact]) -> None:
        """Remember that these contents are on disk: whoever recorded them has synced them before."""
        self._on_disk.update((self.place(artifact.path), artifact.digest) for artifact in artifacts)

    def is_on_disk(self, path: Path, look: Look) -> bool:
        """Whether this very content is known to have been synced."""
        return self._on_disk.get(str(path)) == look.digest

    def look(self, path: str | Path) -> Look | None:
        """The file or folder at `path` as it is now, or None where there is nothing to read."""
        name = os.fspath(path)
        try:
            status = os.stat(name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return self._known(name, status) or self._read(name, status)

    def digest(self, path: str | Path) -> str:
        """The content's digest, or `absent`."""
        look = self.look(path)
        return ABSENT if look is None else look.digest

    def glance(self, paths: Iterable[str]) -> dict[str, str]:
        """The digests of many files, with one status each; large ones that have to be read are read side by side."""
        found: dict[str, str] = {}
        large: list[tuple[str, os.stat_result]] = []
        for name in paths:
            try:
                status = os.stat(name)
            except (FileNotFoundError, NotADirectoryError):
                found[name] = ABSENT
                continue
            look = self._known(name, status)
            if look is None and status.st_size >= _LARGE:
                large.append((name, status))
                continue
            look = look or self._read(name, status)
            found[name] = ABSENT if look is None else look.digest
        if large:
            with ThreadPoolExecutor(min(len(large), os.cpu_count() or 1), "flowd-hash") as pool:
                for (name, _), look in zip(large, pool.map(lambda one: self._read(*one), large), strict=True):
                    found[name] = ABSENT if look is None else look.digest
        return found

    def note_code(self, path: str | Path, look: Look, code: str) -> None:
        """Remember the digest of the meaning of a file that is as `look` says."""
        if look.mtime_ns:
            self._looks[os.fspath(path)] = msgspec.structs.replace(look, code=code)
            self.news = True

    def keep(self, *, all_seen: bool) -> None:
        """Keep the looks for later runs; those of files that were not looked at only unless `all_seen`."""
        if self._kept is not None and self.news:
            earlier = {} if all_seen else self._recalled()
            self._kept.save({name: look for name, look in {**earlier, **self._looks}.items() if look.mtime_ns})
            self.news = False

    def _known(self, name: str, status: os.stat_result) -> Look | None:
        look = self._looks.get(name)
        if look is None:
            look = self._recalled().get(name)
            if look is not None and look.holds(status):
                self._looks[name] = look
                return look
            return None
        return look if look.holds(status) else None

    def _recalled(self) -> Mapping[str, Look]:
        if self._earlier is None:
            with self._lock:
                if self._earlier is None:
                    self._earlier = {} if self._kept is None else self._kept.load()
        return self._earlier

    def _read(self, name: str, status: os.stat_result) -> Look | None:
        now = time.time_ns()
        if stat.S_ISDIR(status.st_mode):
            look = Look(status.st_size, 0, 0, 0, False, self._tree_digest(Path(name)))
        elif stat.S_ISREG(status.st_mode):
            with open(name, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            settled = is_settled(status.st_ctime_ns, now) and self._tells(name, status.st_dev)
            look = Look(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, settled, digest)
            self.news = True
        else:
            return None
        self._looks[name] = look
        return look

    def _tells(self, name: str, device: int) -> bool:
        tells = self._telling.get(device)
        if tells is None:
            tells = self._telling[device] = self._keeps_times(name)
        return tells

    def pattern(self, named: Glob) -> str:
        """A glob from the root, for `finds` to look for places by."""
        return os.path.normpath(os.path.join(glob.escape(self._home), named.pattern))

    def matches(self, named: str) -> list[str]:
        """The paths, as they would be written, that an input names: itself, or what a glob finds."""
        if not isinstance(named, Glob):
            return [named]
        return sorted(glob.glob(named.pattern, root_dir=self.folder, recursive=True))

    def written_as(self, output: str) -> list[str]:
        """The paths that an output names: itself, or the files that its glob finds now."""
        if not isinstance(output, Glob):
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


class Declared:
    """Places that are named one by one or by globs."""

    def __init__(self, files: Files, named: Iterable[str]) -> None:
        every, self._files = list(named), files
        self.places = {files.place(one) for one in every}
        self.patterns = [files.pattern(one) for one in every if isinstance(one, Glob)]

    def __contains__(self, place: str) -> bool:
        return place in self.places or any(finds(pattern, place) for pattern in self.patterns)

    def meets(self, named: str) -> bool:
        """Whether what is named is declared, or may be: a glob that finds a place, or is found as it is written."""
        if self._files.place(named) in self:
            return True
        return isinstance(named, Glob) and any(finds(self._files.pattern(named), place) for place in self.places)


class MissingOutput(Exception):
    """A declared output is not there after its task said that it succeeded."""


def prepare_places(files: Files, outputs: Sequence[tuple[Output, str]]) -> dict[str, Look]:
    """Make the folders that outputs are written into; what is there already, by its path as it is written."""
    for _, written in outputs:
        make_folders(
            files.path(folder_of(written.pattern)) if isinstance(written, Glob) else files.path(written).parent
        )
    there = [found for _, written in outputs for found in files.written_as(written)]
    return {found: look for found in there if (look := files.look(files.path(found))) is not None}


def collect(
    files: Files, outputs: Sequence[tuple[Output, str]], before: Mapping[str, Look], began_ns: int = 0
) -> tuple[Artifact, ...]:
    """The outputs as the task left them, each synced with its folder's entry before this returns.

    `outputs` come with their resolved path; `before` holds what was there when the attempt began, at `began_ns`.
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
        if isinstance(named, Glob) and not output.optional and not files.written_as(named):
            hint = "; a file with [ in its name is written with [[]" if os.path.lexists(files.place(named)) else ""
            raise MissingOutput(f"its output {named} finds no file; write one, or mark it as optional{hint}")
    found: list[Artifact] = []
    for written, (output, look) in left.items():
        path, earlier = files.path(written), before.get(written)
        unchanged = earlier is not None and 0 != earlier.mtime_ns == look.mtime_ns and earlier.digest == look.digest
        if earlier is not None and not files.is_on_disk(path, look):
            write_again(path, before_ns=began_ns)
        sync(path, files.folder)  # an unchanged one, too: an attempt that was cut off may have written it
        found.append(
            Artifact(
                path=written,
                size=look.size,
                digest=look.digest,
                mtime_ns=look.mtime_ns,
                checkpoint=output.checkpoint,
                unchanged=unchanged,
            )
        )
    files.note_synced(found)
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
        if stat.S_ISREG(status.st_mode) and _booted_ns() <= status.st_ctime_ns < before_ns:
            try:
                _write_again(place, status)
            except OSError as error:
                raise StorageFailing(f"{place}: cannot write again: {cause(error)}") from error


def _write_again(path: Path, status: os.stat_result) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.EPERM, errno.ETXTBSY}:
            raise
        _put_a_copy(path)
        return
    try:
        at = 0
        while piece := os.pread(descriptor, _PIECE, at):
            at += os.pwrite(descriptor, piece, at)
        os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(descriptor)


def _put_a_copy(path: Path) -> None:
    """In the place of a file that cannot be opened for writing: it is read-only, or a program that runs."""
    copy = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        shutil.copy2(path, copy)
        copy.replace(path)
    except PermissionError:
        return  # who may not write here has not written it
    finally:
        copy.unlink(missing_ok=True)


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
