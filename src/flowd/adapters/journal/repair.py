"""What an owner does before its first append: validate, set a torn tail aside, start on firm ground.

Where the last writer of the same boot left records beyond the mark, their sync may have failed,
and the system may hold in memory what is not on disk and call it clean. Nobody was told of
them. They are written again, into a new segment, and cut from the old one; so a segment whose
sync failed is never appended to. There are at most as many segments as owners that ended in
the middle of a commit, and one. After another boot, what can be read is what is on disk.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from flowd.adapters import disk
from flowd.adapters.journal import mark as marks
from flowd.adapters.journal.layout import segment_path
from flowd.adapters.journal.mark import Mark
from flowd.adapters.journal.reader import Walk


class Repair(msgspec.Struct, frozen=True, kw_only=True):
    """A torn tail: where it began, how long it was, why it was not believed, and where it is kept."""

    file: str
    offset: int
    bytes: int
    reason: str
    kept: str

    def __str__(self) -> str:
        """What was dropped, why, and where it is kept, in a sentence."""
        return f"{self.file}: {self.bytes} bytes at offset {self.offset} are set aside in {self.kept}: {self.reason}"


def inspect(folder: Path, run: str) -> Repair | None:
    """Check a whole journal and change nothing; what a new owner would set aside. Raises StateDamaged."""
    return _torn(_walk(folder, run))


def restore(folder: Path, run: str) -> tuple[Mark, list[Repair]]:
    """Make a locked run's journal ready for appending; the durable end of it, and what was set aside.

    Raises StateDamaged with file, offset and line, and leaves everything as it was.
    """
    boot = disk.boot_id()
    walk = _walk(folder, run)
    repairs = []
    for stray in folder.glob("*.tmp"):
        stray.unlink()
    torn = _torn(walk)
    if torn is not None:
        _set_aside(folder, walk, torn)
        repairs.append(torn)
    segment, offset, before = walk.segment, walk.offset, walk.mark
    if before is not None and before.segment == segment and before.offset < offset and before.boot == boot:
        offset -= before.offset
        _carry(folder, before, offset)
        segment += 1
    elif before is None or (before.segment, before.offset) != (segment, offset):
        _sync_file(segment_path(folder, segment))
        disk.sync_folder(folder)
    return Mark(segment=segment, seq=walk.seq, offset=offset, checksum=walk.checksum, boot=boot), repairs


def heal(folder: Path, run: str) -> list[Repair]:
    """`restore` a locked run's journal, and leave the mark that a writer would; what was set aside."""
    end, repairs = restore(folder, run)
    if marks.load(folder / "mark") != end:
        disk.write_atomic(folder / "mark", end.encoded())
    return repairs


def _walk(folder: Path, run: str) -> Walk:
    walk = Walk(folder, run, marks.load(folder / "mark"))
    for _ in walk.acknowledged():
        pass
    for _ in walk.beyond():
        pass
    return walk


def _torn(walk: Walk) -> Repair | None:
    if not walk.rest:
        return None
    path = segment_path(walk.folder, walk.segment)
    return Repair(
        file=str(path),
        offset=walk.offset,
        bytes=walk.rest,
        reason=walk.damage or "an unfinished line",
        kept=f"{path.with_suffix('')}.torn-{walk.offset}",
    )


def _set_aside(folder: Path, walk: Walk, torn: Repair) -> None:
    path = segment_path(folder, walk.segment)
    descriptor = disk.open_regular(path, os.O_RDWR)
    try:
        disk.write_atomic(Path(torn.kept), os.pread(descriptor, torn.bytes, torn.offset))
        os.ftruncate(descriptor, torn.offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _carry(folder: Path, mark: Mark, count: int) -> None:
    """Move the `count` bytes of good records after the mark into a new segment.

    They are cut from the old one first: a death between the two loses only what was never
    acknowledged, and no record ever stands in two segments.
    """
    descriptor = disk.open_regular(segment_path(folder, mark.segment), os.O_RDWR)
    try:
        records = os.pread(descriptor, count, mark.offset)
        os.ftruncate(descriptor, mark.offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    disk.write_atomic(segment_path(folder, mark.segment + 1), records)


def _sync_file(path: Path) -> None:
    descriptor = disk.open_regular(path, os.O_WRONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
