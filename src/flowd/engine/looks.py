"""What files were like when they were read, kept from run to run, so that none is read again in vain."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import msgspec

from flowd.ports.stores import Shelf

_TICK_NS = 50_000_000
"""Longer than the ticks in which kernels count file times."""
_SECONDS_NS = 2_000_000_000
"""The coarsest ticks of file systems that count whole seconds."""


class Look(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A file as it was read: bytes, times in ns, inode, sha256 of its content; of code, a digest of its meaning.

    `settled`: it had been left alone for so long by then that whoever writes to it later gives it
    another time. False where it is not the kernel alone that sets times (network and shared folders).
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    settled: bool
    digest: str
    code: str = ""

    def holds(self, status: os.stat_result) -> bool:
        """Whether a file with this status still has the content that was read.

        Where the kernel alone sets it, the time of the last change of its inode tells of content
        that was put in place under an old time, by a rename or by setting the time back.
        """
        return (
            self.settled
            and self.ctime_ns == status.st_ctime_ns
            and self.mtime_ns == status.st_mtime_ns
            and self.size == status.st_size
            and self.inode == status.st_ino
        )


def is_settled(ctime_ns: int, now_ns: int) -> bool:
    """Whether a change after `now_ns` would carry another time than `ctime_ns`."""
    tick = _TICK_NS if ctime_ns % 1_000_000_000 else _SECONDS_NS
    return now_ns - ctime_ns > tick


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    by: str  # digests of code differ between Pythons
    looks: dict[str, Look]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Kept).decode


class Looks:
    """The looks of one pipeline on a shelf. Where none are kept files are read."""

    def __init__(self, shelf: Shelf, name: str) -> None:
        self._shelf = shelf
        self._name = name

    def load(self) -> Mapping[str, Look]:
        """The looks by absolute path."""
        data = self._shelf.get(self._name)
        if data is None:
            return {}
        try:
            kept = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # another flowd's
            return {}
        return kept.looks if kept.by == sys.version else {}

    def save(self, looks: Mapping[str, Look]) -> None:
        """Keep these and no others."""
        self._shelf.put(self._name, _encode(_Kept(sys.version, dict(looks))))
        self._shelf.write()
