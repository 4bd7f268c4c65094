"""The ways in which a run's files can be damaged: each changes a folder that is a copy of a good one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from random import Random

from flowd.core.codec import encode, scan
from flowd.core.events import Envelope

JOURNAL = "journal.0001.jsonl"
SECTOR = 512

Damage = Callable[[Path, Random], str]
"""Changes a run's folder and says how."""


def lines_of(folder: Path) -> list[bytes]:
    """The lines of the journal."""
    return (folder / JOURNAL).read_bytes().splitlines(keepends=True)


def truncated(folder: Path, chance: Random) -> str:
    """Cut anywhere."""
    data = (folder / JOURNAL).read_bytes()
    at = chance.randrange(len(data))
    (folder / JOURNAL).write_bytes(data[:at])
    return f"cut at byte {at}"


def flipped(folder: Path, chance: Random) -> str:
    """One bit is another."""
    return _flip(folder / JOURNAL, chance)


def zeroed(folder: Path, chance: Random) -> str:
    """A sector of zeros."""
    data = bytearray((folder / JOURNAL).read_bytes())
    start = chance.randrange(0, len(data), SECTOR)
    data[start : start + SECTOR] = bytes(len(data[start : start + SECTOR]))
    (folder / JOURNAL).write_bytes(data)
    return f"zeros from byte {start}"


def rearranged(folder: Path, chance: Random) -> str:
    """Lines doubled, missing or swapped."""
    lines = lines_of(folder)
    at = chance.randrange(len(lines) - 1)
    how = chance.choice(("doubled", "missing", "swapped"))
    if how == "doubled":
        lines.insert(at, lines[at])
    elif how == "missing":
        del lines[at]
    else:
        lines[at], lines[at + 1] = lines[at + 1], lines[at]
    (folder / JOURNAL).write_bytes(b"".join(lines))
    return f"line {at + 1} {how}"


def foreign(folder: Path, chance: Random) -> str:
    """From one line on, the records are another run's, numbered, chained and checked as they must be."""
    data = (folder / JOURNAL).read_bytes()
    envelopes = scan(data, folder.name).envelopes
    at = chance.randrange(len(envelopes))
    previous, lines = 0, []
    for number, envelope in enumerate(envelopes):
        run = f"{folder.name}2" if number >= at else folder.name
        line, previous = encode(Envelope(run, envelope.seq, envelope.at, envelope.event), previous)
        lines.append(line)
    (folder / JOURNAL).write_bytes(b"".join(lines))
    return f"records of another run from line {at + 1}"


def edited(folder: Path, chance: Random) -> str:
    """As another program would leave it after somebody looked into it."""
    data = (folder / JOURNAL).read_bytes()
    how = chance.choice(("BOM", "CRLF", "blank", "case", "empty"))
    first = data.index(b'"sum":"') + len(b'"sum":"')
    changed = {
        "BOM": b"\xef\xbb\xbf" + data,
        "CRLF": data.replace(b"\n", b"\r\n"),
        "blank": data.replace(b'"seq":', b'"seq": ', 1),
        "case": data[:first] + data[first : first + 8].swapcase() + data[first + 8 :],
        "empty": b"",
    }[how]
    (folder / JOURNAL).write_bytes(changed)
    return how if changed != data else "nothing"


def appended(folder: Path, chance: Random) -> str:
    """Something that is no record stands at the end."""
    lines = lines_of(folder)
    how = chance.choice(("zeros", "garbage", "half a line", "last line", "deep JSON", "bytes"))
    tail = {
        "zeros": bytes(chance.randint(1, 2_000)),
        "garbage": b"garbage\n" * chance.randint(1, 5),
        "half a line": lines[-1][: chance.randrange(1, len(lines[-1]))],
        "last line": lines[-1],
        "deep JSON": b"[" * 100_000 + b"\n",
        "bytes": chance.randbytes(chance.randint(1, 3_000)),
    }[how]
    with (folder / JOURNAL).open("ab") as file:
        file.write(tail)
    return f"{how} appended"


def long_line(folder: Path, chance: Random) -> str:
    """A line of many megabytes at the end."""
    size = chance.choice((8, 40)) << 20
    with (folder / JOURNAL).open("ab") as file:
        file.write(b'{"seq":' + b"1" * size + b"\n")
    return f"a line of {size} bytes appended"


def odd(folder: Path, chance: Random) -> str:
    """Something else stands in the place of a file, or nothing."""
    name = chance.choice((JOURNAL, "spec.json", "mark"))
    how = chance.choice(("missing", "folder", "fifo", "link", "endless", "loop"))
    path = folder / name
    path.rename(folder / "aside")
    if how == "folder":
        path.mkdir()
    elif how == "fifo":
        os.mkfifo(path)
    elif how != "missing":
        path.symlink_to({"link": folder / "aside", "endless": Path("/dev/zero"), "loop": path}[how])
    return f"{name}: {how}"


def definition(folder: Path, chance: Random) -> str:
    """Another definition than the run began with."""
    path = folder / "spec.json"
    how = chance.choice(("flipped", "cut", "other", "deep", "newer"))
    if how == "flipped":
        return _flip(path, chance)
    text = path.read_text(encoding="utf-8")
    changed = {
        "cut": text[: chance.randrange(len(text))],
        "other": text.replace('"name":"', '"name":"x', 1),
        "deep": "[" * 100_000,
        "newer": json.dumps(json.loads(text) | {"format": 99}),
    }[how]
    path.write_text(changed, encoding="utf-8")
    return f"spec.json {how}"


def mark(folder: Path, chance: Random) -> str:
    """The mark is no mark."""
    path = folder / "mark"
    how = chance.choice(("flipped", "cut", "bytes"))
    if how == "flipped":
        return _flip(path, chance)
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))] if how == "cut" else chance.randbytes(len(data)))
    return f"mark {how}"


def owner(folder: Path, chance: Random) -> str:
    """What the last owner wrote of itself is nonsense."""
    path = folder / "owner.json"
    how = chance.choice(("flipped", "bytes", "deep", "types"))
    if how == "flipped":
        return _flip(path, chance)
    nonsense = {"bytes": chance.randbytes(200), "deep": b"[" * 100_000, "types": b'{"pid":"x","host":[],"boot_id":1}'}
    path.write_bytes(nonsense[how])
    return f"owner.json {how}"


def _flip(path: Path, chance: Random) -> str:
    data = bytearray(path.read_bytes())
    at, bit = chance.randrange(len(data)), chance.randrange(8)
    data[at] ^= 1 << bit
    path.write_bytes(data)
    return f"{path.name}: bit {bit} of byte {at} flipped"


DAMAGES: tuple[tuple[Damage, int], ...] = (
    (truncated, 300),
    (flipped, 400),
    (zeroed, 30),
    (rearranged, 50),
    (foreign, 30),
    (edited, 15),
    (appended, 60),
    (long_line, 1),
    (odd, 30),
    (definition, 40),
    (mark, 30),
    (owner, 14),
)
"""Every damage, and how many of a thousand it is."""

HARMLESS = frozenset({owner, mark})
"""Those after which the run must read as it did."""
TAILS = frozenset({appended, long_line})
"""Those that leave all records as they were."""
