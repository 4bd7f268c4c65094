"""The high-water mark beside a journal: how far its records were acknowledged.

One record of fixed size, overwritten in place after each sync of the journal and without a
sync of its own: after a power cut it may lag, and it never leads. So records that were
acknowledged and are gone from the journal are noticed, and in the boot that wrote the mark a
reader knows what is durable. A mark that cannot be read counts as none.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from zlib import crc32

import msgspec

from flowd.adapters.disk import open_regular

_SHAPE = re.compile(rb"flowd-mark 1 (\d{8}) (\d{20}) (\d{20}) ([0-9a-f]{8}) (\S{40}) ([0-9a-f]{8})\n")


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """The last durable record: its segment and number, the byte after it, its checksum, and in which boot."""

    segment: int
    seq: int
    offset: int
    checksum: int
    boot: str

    def encoded(self) -> bytes:
        """The mark as it stands in its file, of the same size always."""
        boot = (self.boot or "-").ljust(40, "-")[:40].encode()
        text = b"flowd-mark 1 %08d %020d %020d %08x %b" % (self.segment, self.seq, self.offset, self.checksum, boot)
        return b"%b %08x\n" % (text, crc32(text))


def decoded(data: bytes) -> Mark | None:
    """The mark in `data`; None where it is none."""
    shape = _SHAPE.fullmatch(data)
    if shape is None or b"%08x" % crc32(data[: shape.start(6) - 1]) != shape[6]:
        return None
    segment, seq, offset, checksum, boot, _ = shape.groups()
    return Mark(
        segment=int(segment),
        seq=int(seq),
        offset=int(offset),
        checksum=int(checksum, 16),
        boot=boot.decode().rstrip("-"),
    )


def load(path: Path) -> Mark | None:
    """The mark in a file; None where there is none or it cannot be read as one."""
    try:
        descriptor = open_regular(path)
    except FileNotFoundError:
        return None
    try:
        return decoded(os.pread(descriptor, 256, 0))
    finally:
        os.close(descriptor)
