"""Where things stand in a state directory, and how it and a run's folder come to be."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from contextlib import nullcontext, suppress
from pathlib import Path

import msgspec

from flowd.adapters import disk
from flowd.adapters.journal import lock
from flowd.adapters.journal.mark import Mark
from flowd.core.codec import JOURNAL_FORMAT
from flowd.core.errors import BadRequest, NoSuchRun, StateDamaged
from flowd.core.spec import Definition

_RUN = re.compile(r"[A-Za-z0-9._-]{1,128}(\+[A-Za-z0-9._-]{1,160}){0,15}")
_BYTE = re.compile(r"\(byte (\d+)\)")
_SEGMENT = re.compile(r"journal\.(\d{4,8})\.jsonl")


class _SpecFile(msgspec.Struct, frozen=True):
    """What `spec.json` holds."""

    format: int
    definition: Definition


class _SpecFormat(msgspec.Struct, frozen=True):
    """What any version's `spec.json` holds."""

    format: int


class Layout:
    """The paths of one state directory. Nothing is made before the first run is."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.runs = state_dir / "runs"
        self._prepared = False

    def folder(self, run: str) -> Path:
        """The folder of a run, existing or not. BadRequest where `run` cannot be an id."""
        if not _RUN.fullmatch(run) or run in {".", "..", "last"}:
            raise BadRequest(f"{run!r} cannot be a run's id: 1 to 128 of A-Z a-z 0-9 . _ -, and not `last`, the newest")
        return self.runs / run

    def existing(self, run: str) -> Path:
        """The folder of a run that was made whole. NoSuchRun otherwise, StateDamaged where its definition is lost."""
        self.check_version()
        folder = self.folder(run)
        if not os.path.lexists(folder / "spec.json"):
            _refuse_lost(folder)
            raise NoSuchRun(f"there is no run {run} in {self.state_dir}")
        return folder

    def ids(self) -> list[str]:
        """The ids of all runs, newest first; those among them whose definition is lost."""
        found = []
        try:
            entries = list(os.scandir(self.runs))
        except (FileNotFoundError, NotADirectoryError):  # who would write there says what is in the way
            return []
        for entry in entries:
            try:
                # ten thousand of them, and Path is slow
                found.append((os.stat(f"{entry.path}/spec.json", follow_symlinks=False).st_mtime_ns, entry.name))
            except NotADirectoryError:
                continue
            except FileNotFoundError:
                written = _written_at(Path(entry.path))
                if written is not None:  # else half-made
                    found.append((written, entry.name))
        return [run for _, run in sorted(found, reverse=True)]

    def prepare(self) -> None:
        """Make the state directory where it is missing. StateDamaged where a newer flowd made it."""
        if self._prepared:
            return
        synced = disk.make_folders(self.runs)
        self.check_version()
        if not (self.state_dir / ".gitignore").exists():
            disk.write_atomic(self.state_dir / ".gitignore", b"*\n", synced=False)
        if not (self.state_dir / "version").exists():
            # whoever made these folders may have died before their names were synced; `version` says that they are
            for folder in self.runs.parents:
                if folder not in synced:
                    with nullcontext() if folder == self.state_dir else suppress(PermissionError):
                        disk.sync_folder(folder)
            disk.write_atomic(self.state_dir / "version", b"%d\n" % JOURNAL_FORMAT)
        self._prepared = True

    def check_version(self) -> None:
        """Refuse a state directory that a newer flowd has written. StateDamaged names both versions."""
        path = self.state_dir / "version"
        with disk.failing(path, "read"):
            try:
                text = disk.read_regular(path)[:64].decode(errors="replace").strip()
            except FileNotFoundError:
                return
        if not text.isdecimal():
            raise StateDamaged(f"{path}: {text!r} is no version")
        _refuse_newer(path, int(text))

    def make(self, run: str, definition: Definition) -> str:
        """Make a run's folder and what stands in it from the start; the digest of its `spec.json`.

        `spec.json` comes last: a folder without one was never a run, and is made anew. One of the
        same definition without a record has not begun, and may be begun. FileExistsError otherwise,
        StateDamaged where there are records whose definition is lost.
        """
        folder, spec = self.folder(run), _spec_file(definition)
        digest = hashlib.sha256(spec).hexdigest()
        self.prepare()
        with suppress(FileExistsError):
            folder.mkdir(disk.FOLDER_MODE)
        with lock.alone(folder, needless=lambda: os.path.lexists(folder / "spec.json")) as mine:
            if mine:
                _refuse_lost(folder)
                _fill(folder, spec)
        if not mine:
            if os.lstat(segment_path(folder, 1)).st_size or read_definition(folder)[1] != digest:
                raise FileExistsError(f"run {run} exists in {self.state_dir}")
            disk.sync_folder(folder)  # whoever made it may have died before this
        disk.sync_folder(self.runs)
        return digest


def segment_path(folder: Path, number: int) -> Path:
    """The file of a run's n-th journal segment."""
    return folder / f"journal.{number:04d}.jsonl"


def segments(folder: Path) -> list[int]:
    """The numbers of a run's segments. StateDamaged where they are not 1, 2, 3 and so on."""
    found = sorted(int(match[1]) for name in os.listdir(folder) if (match := _SEGMENT.fullmatch(name)))
    for due, number in enumerate(found, 1):
        if due != number:
            raise StateDamaged(f"{segment_path(folder, due)}: the segment is missing")
    if not found:
        raise StateDamaged(f"{segment_path(folder, 1)}: the journal is missing")
    return found


def _written_at(folder: Path) -> int | None:
    """When a journal was last written, in nanoseconds; None where it has no record, or is none."""
    try:
        found = [os.lstat(folder / name) for name in os.listdir(folder) if _SEGMENT.fullmatch(name)]
    except (FileNotFoundError, NotADirectoryError):
        return None  # removed meanwhile
    return max((one.st_mtime_ns for one in found if stat.S_ISREG(one.st_mode) and one.st_size), default=None)


def _refuse_lost(folder: Path) -> None:
    """StateDamaged for a folder that has records and no definition: it was a run, and is not to be taken for none."""
    if _written_at(folder) is not None:
        raise StateDamaged(
            f"{folder / 'spec.json'}: the definition is missing, so the run's journal cannot be understood; "
            "restore it from a backup"
        )


def read_definition(folder: Path) -> tuple[Definition, str]:
    """A run's definition and the digest of its file. StateDamaged where it is not what was written."""
    path = folder / "spec.json"
    data = disk.read_regular(path)
    try:
        found = msgspec.json.decode(data, type=_SpecFile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # a newer one may hold what none knows
            _refuse_newer(path, msgspec.json.decode(data, type=_SpecFormat).format)
        place = _BYTE.search(str(error))
        raise StateDamaged(f"{path}: damaged at offset {place[1] if place else 0}: {error}") from error
    _refuse_newer(path, found.format)
    return found.definition, hashlib.sha256(data).hexdigest()


def _refuse_newer(path: Path, found: int) -> None:
    if found > JOURNAL_FORMAT:
        raise StateDamaged(
            f"{path}: written by a newer flowd, in format {found}; this one reads up to format {JOURNAL_FORMAT}: "
            "upgrade flowd, or use another state directory"
        )


def _spec_file(definition: Definition) -> bytes:
    return msgspec.json.encode(_SpecFile(format=JOURNAL_FORMAT, definition=definition))


def _fill(folder: Path, spec: bytes) -> None:
    """Put into a new run's folder what stands there from the start."""
    for name in ("inbox", "logs"):
        (folder / name).mkdir(disk.FOLDER_MODE, exist_ok=True)
    os.close(disk.open_regular(segment_path(folder, 1), os.O_WRONLY | os.O_CREAT))
    descriptor = disk.open_regular(folder / "mark", os.O_WRONLY | os.O_CREAT)
    try:
        disk.write_all(descriptor, Mark(segment=1, seq=0, offset=0, checksum=0, boot=disk.boot_id()).encoded())
    finally:
        os.close(descriptor)
    disk.write_atomic(folder / "spec.json", spec)
