"""Walks a run's journal from its first byte, a piece at a time, and says how far to believe it.

There are two legs. Up to the mark every record was acknowledged: whatever is wrong there is
damage. Beyond the mark, records are as good as their chain; what stands after the last of them
is a write cut short, unless a record of this run stands behind it. Nothing here changes a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from flowd.adapters.disk import open_regular
from flowd.adapters.journal.layout import segment_path, segments
from flowd.adapters.journal.mark import Mark
from flowd.core.codec import MAX_LINE, holds_record, is_torn, scan
from flowd.core.errors import StateDamaged
from flowd.core.events import Envelope

PIECE = 256 * 1024
"""Bytes read and decoded at once: some two thousand records."""

UNWANTED = 2**63
"""As `after`: check every record and decode none."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a record: its segment, the byte and lines up to it, its number and checksum."""

    segment: int = 1
    offset: int = 0
    line: int = 0
    seq: int = 0
    checksum: int = 0


class Walk:
    """One walk over a journal. After it, the fields say where the last good record ends.

    It begins at its start, or at `begin`, which an earlier walk has checked, where the mark is
    not before it. `segment`, `offset` and `line` are that place, `seq` and `checksum` the record's; `rest`
    counts the bytes after it in the same segment, and `damage` says what is wrong with them.
    """

    def __init__(
        self,
        folder: Path,
        run: str,
        mark: Mark | None,
        *,
        after: int = UNWANTED,
        only: Sequence[str] = (),
        begin: Place | None = None,
    ) -> None:
        if begin is None or mark is None or begin.seq > mark.seq:
            begin = Place()
        self.folder = folder
        self.run = run
        self.mark = mark
        self.segment = begin.segment
        self.offset = begin.offset
        self.line = begin.line
        self.seq = begin.seq
        self.checksum = begin.checksum
        self.rest = 0
        self.damage: str | None = None
        self._after = after
        self._only = only

    def acknowledged(self) -> Iterator[list[Envelope]]:
        """The records up to the mark, a piece at a time. StateDamaged where any of it is not as it was."""
        mark = self.mark
        if mark is None:
            return
        first, start = self.segment, self.offset
        for number in range(first, mark.segment + 1):
            last = number == mark.segment
            yield from self._leg(number, start if number == first else 0, mark.offset if last else None)
            if self.damage is not None:
                raise self.damaged(self.damage)
            if last and self.offset < mark.offset:
                raise self.damaged(f"acknowledged records are missing: the segment had {mark.offset} bytes")
            if self.rest:
                raise self.damaged("a record is cut off")
        if (self.seq, self.checksum) != (mark.seq, mark.checksum):
            raise self.damaged(f"record {mark.seq}, the last acknowledged, is not the one that stands here")

    def beyond(self) -> Iterator[list[Envelope]]:
        """The records after the mark, or all where there is none. StateDamaged as `judge` says."""
        first = 1 if self.mark is None else self.mark.segment
        numbers = [number for number in segments(self.folder) if number >= first]
        for number in numbers:
            yield from self._leg(number, self.offset if self.mark and number == first else 0, None)
            if self.rest:
                self.judge(last=number == numbers[-1])
                return

    def place(self) -> Place:
        """Where the walk stands: after the last record it believed."""
        return Place(segment=self.segment, offset=self.offset, line=self.line, seq=self.seq, checksum=self.checksum)

    def judge(self, *, last: bool) -> None:
        """Raise StateDamaged unless what is left of the segment is a write cut short."""
        if last and self.damage is None:
            return
        reason = self.damage or "a record is cut off"
        if not last:
            raise self.damaged(reason)
        descriptor = open_regular(segment_path(self.folder, self.segment))
        try:
            if self.mark is None:
                cut_short = self.rest <= 2 * MAX_LINE and is_torn(os.pread(descriptor, self.rest, self.offset))
            else:
                cut_short = not _record_behind(descriptor, self.offset, self.run, self.seq)
        finally:
            os.close(descriptor)
        if not cut_short:
            raise self.damaged(reason)

    def damaged(self, reason: str) -> StateDamaged:
        """An error that names the place of the first byte that cannot be believed."""
        path = segment_path(self.folder, self.segment)
        return StateDamaged(f"{path}: damaged at offset {self.offset}, line {self.line + 1}: {reason}")

    def _leg(self, number: int, start: int, end: int | None) -> Iterator[list[Envelope]]:
        """Walk a segment from `start` to `end` or as far as it can be believed."""
        path = segment_path(self.folder, number)
        if start == 0:
            self.line = 0
        self.segment, self.offset = number, start
        try:
            descriptor = open_regular(path)
        except FileNotFoundError:
            raise StateDamaged(f"{path}: the segment is missing") from None
        try:
            size = os.fstat(descriptor).st_size if end is None else end
            carry = b""
            while (position := self.offset + len(carry)) < size:
                piece = os.pread(descriptor, min(PIECE, size - position), position)
                if not piece:
                    size = position
                    break
                found = scan(carry + piece, self.run, self.seq, self.checksum, after=self._after, only=self._only)
                carry = (carry + piece)[found.good :]
                self.offset += found.good
                self.line += found.lines
                self.seq, self.checksum, self.damage = found.seq, found.previous, found.damage
                if self.damage is None and len(carry) > MAX_LINE:
                    self.damage = "a line too long for a record"
                if found.envelopes:
                    yield found.envelopes
                if self.damage is not None:
                    break
            self.rest = size - self.offset
        finally:
            os.close(descriptor)


def _record_behind(descriptor: int, offset: int, run: str, seq: int) -> bool:
    """Whether a record of the run with a number over `seq` stands anywhere after `offset`."""
    carry = b""
    while piece := os.pread(descriptor, PIECE, offset):
        offset += len(piece)
        lines, newline, carry = (carry + piece).rpartition(b"\n")
        if newline and holds_record(lines, run, seq):
            return True
        carry = carry[: 2 * MAX_LINE]
    return False
