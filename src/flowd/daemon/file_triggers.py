"""Runs that files begin: each file that is new or has changed, once it was left alone for a while.

What stands there when a trigger is first seen begins nothing; what comes while no daemon runs does, later.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import anyio.to_thread

from flowd.core.errors import FlowdError, StorageFailing
from flowd.daemon.saying import say
from flowd.daemon.triggering import Armed, Happening, Triggering
from flowd.ports.clock import Clock

_PERIOD_S: Final = 1.0
_IDLE_S: Final = 5.0
_SETTLE: Final = timedelta(seconds=1)
MOST_FILES: Final = 10_000


class _File(NamedTuple):
    """A file as it is: its path relative to the pipeline's folder, and when it was written."""

    path: str
    written_at: datetime


class FileTriggers:
    """Looks for files, again and again."""

    def __init__(self, triggering: Triggering, clock: Clock) -> None:
        self._triggering = triggering
        self._clock = clock
        self._waiting: dict[str, dict[str, float]] = {}
        self._complained: set[str] = set()

    async def run(self) -> None:
        """Take a turn every second, or less often where no pipeline waits for files."""
        while True:
            looked = await self.turn(self._clock.now())
            await self._clock.sleep_until(self._clock.monotonic() + (_PERIOD_S if looked else _IDLE_S))

    async def turn(self, now: datetime) -> int:
        """Look once, and begin runs for what was left alone long enough; how many triggers there are."""
        armed = list(self._triggering.armed("file"))
        for one in armed:
            found = await anyio.to_thread.run_sync(_found, one)
            if found is None:
                self._complain(one)
            else:
                await self._look(one, found, now)
        for key in self._waiting.keys() - {one.key for one in armed}:
            del self._waiting[key]
        return len(armed)

    async def _look(self, armed: Armed, found: Mapping[str, _File], now: datetime) -> None:
        if await self._triggering.see(armed, now, tuple(found)):
            return
        entry, awake = self._triggering.entry(armed), self._clock.monotonic()
        waiting = self._waiting.setdefault(armed.key, {})
        for name in waiting.keys() - found.keys():
            del waiting[name]  # it went away, or was written again
        settle = (armed.trigger.settle or _SETTLE).total_seconds()
        for name, file in sorted(found.items(), key=lambda item: (item[1].written_at, item[0])):
            if name in entry.known or entry.paused:
                continue
            if awake - waiting.setdefault(name, awake) >= settle:
                await self._begin(armed, name, file, now)
                waiting.pop(name, None)
        if len(entry.known) > 2 * len(found) + 1000:
            await self._triggering.keep_only(armed, tuple(name for name in entry.known if name in found), now)

    async def _begin(self, armed: Armed, name: str, file: _File, now: datetime) -> None:
        trigger = {"kind": "file", "file": file.path}
        try:
            await self._triggering.begin(armed, Happening(name=name, at=file.written_at, trigger=trigger), now)
        except StorageFailing:
            raise
        except FlowdError:
            return  # it is on record, and said

    def _complain(self, armed: Armed) -> None:
        if armed.key not in self._complained:
            self._complained.add(armed.key)
            hint = f"move files away that are done with: {armed.trigger.file} finds more than {MOST_FILES}"
            say("trigger_too_wide", level="error", trigger=armed.key, hint=hint)


def _found(armed: Armed) -> dict[str, _File] | None:
    """The files that there are, by names which change with them; None where there are too many."""
    pattern = armed.trigger.file
    assert pattern is not None
    folder = Path(armed.pipeline.definition().folder)
    found = {}
    for number, path in enumerate(glob.iglob(str(Path(glob.escape(str(folder)), pattern)), recursive=True)):
        if number == MOST_FILES:
            return None
        with suppress(OSError):  # gone in this very moment
            seen = os.stat(path)
            if stat.S_ISREG(seen.st_mode):
                shown = os.path.relpath(path, folder) if not os.path.isabs(pattern) else path
                written = datetime.fromtimestamp(seen.st_mtime, UTC)
                found[f"{shown} {seen.st_size} {seen.st_mtime_ns}"] = _File(shown, written)
    return found
