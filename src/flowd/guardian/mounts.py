"""What is mounted where, as the kernel lists it in `/proc/self/mountinfo`."""

from __future__ import annotations

import os
from collections.abc import Iterator

Row = tuple[str, str, str, str, str, str]
"""Root, point, options, kind of file system, source, and the options of the file system itself."""


def rows(text: str) -> Iterator[Row]:
    """What a whole mountinfo lists, in its order."""
    for line in text.split("\n"):  # a name may hold what else ends a line
        if (row := parsed(line)) is not None:
            yield row


def parsed(line: str) -> Row | None:
    """One line of mountinfo; None where it is none."""
    head, separator, tail = line.partition(" - ")
    fields, of = head.split(" "), tail.split(" ")
    if not separator or len(fields) < 6 or len(of) < 2:
        return None
    root, point, kind, source = map(_unescaped, (fields[3], fields[4], of[0], of[1]))
    return root, point, fields[5], kind, source, of[2] if len(of) > 2 else ""


def _unescaped(text: str) -> str:
    """mountinfo writes blanks, tabs, newlines and backslashes as octal numbers of bytes."""
    first, *rest = os.fsencode(text).split(b"\\")
    return os.fsdecode(first + b"".join(map(_octal, rest)))


def _octal(part: bytes) -> bytes:
    number = part[:3]
    if len(number) == 3 and b"000" <= number <= b"377" and not number.translate(None, b"01234567"):
        return bytes((int(number, 8),)) + part[3:]
    return b"\\" + part
