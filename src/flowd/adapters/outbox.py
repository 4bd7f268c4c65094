"""The outbox on disk: `daemon/outbox.jsonl`, a line for each thing that became of a notice, synced before it counts.

The daemon's lock on its state directory makes it the one writer. What is in memory is the truth, and the file follows
it: after a write that failed nothing is appended any more, and the next write makes the file anew, whole.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from flowd.adapters import disk
from flowd.core.errors import StorageFailing
from flowd.core.lateness import KEPT
from flowd.core.notices import Notice
from flowd.ports.outbox import GivenUp, Seen, Waiting

REMEMBERED: Final = timedelta(days=30)
"""How long the ids of told notices, what was given up and ended runs are remembered."""

_GARBAGE: Final = 2_000
"""Lines that say nothing any more, before the file is made anew."""
_SHOWN: Final = 200


class _Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line: what it says is in one of its fields; `at` is when."""

    at: datetime
    born: bool = False
    added: Notice | None = None
    delivered: str = ""
    given_up: str = ""
    why: str = ""
    lost: Notice | None = None  # what was given up, once its line as an added one is gone
    known: str = ""  # the same of what was delivered
    seen: Seen | None = None
    used: str = ""
    until: datetime | None = None
    unused: str = ""


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Line).decode


class FileOutbox:
    """The outbox below `state_dir`, opened at once; `report` is told what was damaged. Raises StorageFailing."""

    def __init__(self, state_dir: Path, now: datetime, *, report: Callable[[str], object] = lambda _said: None) -> None:
        self.path = state_dir.absolute() / "daemon" / "outbox.jsonl"
        self._report = report
        self._born = now
        self._known: dict[str, datetime] = {}
        self._waiting: dict[str, Waiting] = {}
        self._given_up: dict[str, GivenUp] = {}
        self._seen: dict[str, Seen] = {}
        self._used: dict[str, datetime] = {}
        self._lines = 0
        self._whole = False  # whether the file says all that is known here, and may be appended to
        with disk.failing(self.path, "open the outbox"):
            disk.make_folders(self.path.parent)
            self._read()
            self._rewrite(now)
        self._threads = disk.FileThreads(1, "flowd-outbox")

    def close(self) -> None:
        """Let the thread go."""
        self._threads.close()

    @property
    def born(self) -> datetime:
        """When it was begun."""
        return self._born

    def knows(self, notice: str) -> bool:
        """Whether a notice was ever added."""
        return notice in self._known

    def waiting(self) -> Sequence[Waiting]:
        """What is to be delivered, in order."""
        return list(self._waiting.values())

    def given_up(self) -> Sequence[GivenUp]:
        """What could not be delivered lately."""
        return list(self._given_up.values())

    def seen(self) -> Mapping[str, Seen]:
        """How far each run was read."""
        return self._seen

    async def add(self, notices: Collection[Notice], seen: Seen | None, now: datetime) -> list[Notice]:
        """Take in those that are new, and how far a run was read."""
        new = [notice for notice in {one.id: one for one in notices}.values() if notice.id not in self._known]
        lines = [_Line(at=now, added=notice) for notice in new]
        if seen is not None and seen != self._seen.get(seen.run):
            lines.append(_Line(at=now, seen=seen))
        await self._say(lines, now)
        return new

    async def delivered(self, notice: str, now: datetime) -> None:
        """It has arrived."""
        await self._say([_Line(at=now, delivered=notice)], now)

    async def give_up(self, notice: str, why: str, now: datetime) -> None:
        """It is tried no more."""
        await self._say([_Line(at=now, given_up=notice, why=why)], now)

    def is_used(self, nonce: str) -> bool:
        """Whether a link was used."""
        return nonce in self._used

    async def claim(self, nonce: str, until: datetime, now: datetime) -> bool:
        """Use a link up; False where it was used before."""
        if nonce in self._used:
            return False
        try:
            await self._say([_Line(at=now, used=nonce, until=until)], now)
        except StorageFailing:
            self._used.pop(nonce, None)  # whoever used it is told that it has failed, and may try again
            raise
        return True

    async def release(self, nonce: str, now: datetime) -> None:
        """Let a link be used again."""
        if nonce in self._used:
            await self._say([_Line(at=now, unused=nonce)], now)

    # --- the file ----------------------------------------------------------------------------------------

    async def _say(self, lines: Sequence[_Line], now: datetime) -> None:
        """Let it be so, and have it on disk."""
        for line in lines:
            self._take(line)
        if lines or not self._whole:
            await self._threads.run(self._write, lines, now)

    def _write(self, lines: Sequence[_Line], now: datetime) -> None:
        with disk.failing(self.path, "write the outbox"):
            if not self._whole or self._lines + len(lines) > self._live() + _GARBAGE:
                self._rewrite(now)
                return
            self._whole = False
            descriptor = disk.open_regular(self.path, os.O_WRONLY | os.O_APPEND)
            try:
                disk.write_all(descriptor, b"".join(_encode(line) + b"\n" for line in lines))
                disk.sync_data(descriptor)
            finally:
                os.close(descriptor)
            self._whole = True
            self._lines += len(lines)

    def _rewrite(self, now: datetime) -> None:
        """Make the file anew, without what says nothing any more."""
        self._forget(now)
        lines = self._said()
        self._whole = False
        disk.write_atomic(self.path, b"".join(_encode(line) + b"\n" for line in lines))
        self._whole, self._lines = True, len(lines)

    def _live(self) -> int:
        return 1 + len(self._known) + len(self._seen) + len(self._used)

    def _said(self) -> list[_Line]:
        """All that is known, in as few lines as it takes."""
        waiting, lost = list(self._waiting.values()), list(self._given_up.values())
        here = {*self._waiting, *self._given_up}
        return [
            _Line(at=self._born, born=True),
            *(_Line(at=at, known=notice) for notice, at in list(self._known.items()) if notice not in here),
            *(_Line(at=one.at, lost=one.notice, why=one.why) for one in lost),
            *(_Line(at=one.added, added=one.notice) for one in waiting),
            *(_Line(at=self._born, seen=seen) for seen in list(self._seen.values())),
            *(_Line(at=self._born, used=nonce, until=until) for nonce, until in list(self._used.items())),
        ]

    def _forget(self, now: datetime) -> None:
        since = now - REMEMBERED
        self._given_up = dict([(i, one) for i, one in self._given_up.items() if one.at > since][-_SHOWN:])
        here = {*self._waiting, *self._given_up}
        self._known = {notice: at for notice, at in self._known.items() if at > since or notice in here}
        self._seen = _worth_keeping(self._seen, since)
        self._used = {nonce: until for nonce, until in self._used.items() if until > now}

    def _take(self, line: _Line) -> None:
        """Take in what one line says; saying it twice changes nothing."""
        if line.born:
            self._born = line.at
        if line.added is not None:
            self._known[line.added.id] = line.at
            self._waiting[line.added.id] = Waiting(notice=line.added, added=line.at)
        if line.lost is not None:
            self._known[line.lost.id] = line.at
            self._given_up[line.lost.id] = GivenUp(notice=line.lost, at=line.at, why=line.why)
        if line.known or line.delivered:
            self._known[line.known or line.delivered] = line.at
            self._waiting.pop(line.delivered, None)
        if line.given_up and (left := self._waiting.pop(line.given_up, None)) is not None:
            self._given_up[line.given_up] = GivenUp(notice=left.notice, at=line.at, why=line.why)
        if line.seen is not None:
            self._seen[line.seen.run] = line.seen
        if line.used and line.until is not None:
            self._used[line.used] = line.until
        self._used.pop(line.unused, None)

    def _read(self) -> None:
        """Take in what stands there; a line that was cut short is left out, and any other that is none is reported."""
        try:
            data = disk.read_regular(self.path)
        except FileNotFoundError:
            return
        *lines, rest = data.split(b"\n")
        offset, damaged = 0, list[str]()
        for number, line in enumerate(lines, 1):
            try:
                self._take(_decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                damaged.append(f"line {number} at offset {offset}: {error}")
            offset += len(line) + 1
        if rest.strip(b"\0"):
            self._report(f"{self.path}: {len(rest)} bytes at offset {offset} were cut short, and are left out")
        if damaged:
            self._set_aside(data, damaged)

    def _set_aside(self, data: bytes, damaged: Sequence[str]) -> None:
        aside = next(
            path for n in range(1, 10_000) if not (path := self.path.with_name(f"outbox.damaged-{n}.jsonl")).exists()
        )
        disk.write_atomic(aside, data)
        self._report(f"{self.path}: damaged: {'; '.join(damaged[:3])}; kept as {aside.name}, the other lines count")


def _worth_keeping(seen: Mapping[str, Seen], since: datetime) -> dict[str, Seen]:
    """The runs that go on or ended after `since`, and the newest of each pipeline, by which the next is judged."""
    kept, counts = set[str](), Counter[tuple[str, str]]()
    for run, one in sorted(seen.items(), key=lambda item: item[1].ended or since, reverse=True):
        counts[one.pipeline, one.folder] += 1
        if one.ended is None or one.ended > since or (one.outcomes and counts[one.pipeline, one.folder] <= KEPT):
            kept.add(run)
    return {run: one for run, one in seen.items() if run in kept}
