"""One attempt's processes, from the first to the last of them.

An attempt is *running* until its main process has ended or someone wants it stopped; from then
on it is *ending*: what is left gets SIGTERM once, and after its grace SIGKILL again and again
until nothing is left.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from flowd.guardian import memory, processes
from flowd.guardian.output import TAIL_LINES, Log, Stream

LEFTOVER_GRACE = 0.5  # seconds for what a finished main process left behind
_MOST_SWEEPS = 20
_MOST_LINE = 1000
_RSS_UNIT = 1024 if sys.platform == "linux" else 1

Members = Callable[["Attempt"], set[int]]
"""Finds the living processes of an attempt, as they are now."""


class Attempt:
    """What the guardian knows of one attempt; `pid` is its main process, `tag` its mark.

    A `confidential` one knows secrets: its files may hold them.
    """

    def __init__(
        self, ident: int, pid: int, tag: int, log: Log, streams: tuple[Stream, Stream], files: Sequence[bytes] = ()
    ) -> None:
        self.ident = ident
        self.pid = pid
        self.tag = tag
        self.streams = streams
        self.leftovers = 0
        self.confidential = False
        self.signal: int = signal.SIGTERM
        self.kill_at: float | None = None
        self._log = log
        self._files = files
        self._status: int | None = None
        self._cpu = 0.0
        self._peak = 0
        self._asked: set[int] = set()
        self._stopped_at: float | None = None
        self._killed = False
        self._oom_kills = memory.oom_kills()
        self._oom = False

    @property
    def main_ended(self) -> bool:
        """Whether the main process is gone."""
        return self._status is not None

    @property
    def ending(self) -> bool:
        """Whether what is left is being ended."""
        return self.kill_at is not None

    def took(self, usage: resource.struct_rusage) -> None:
        """One of its processes was waited for: what it used, with those that it had waited for itself."""
        self._cpu += usage.ru_utime + usage.ru_stime
        self._peak = max(self._peak, usage.ru_maxrss * _RSS_UNIT)

    def ended(self, status: int) -> None:
        """The main process was waited for."""
        self._status = status
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and not self._killed:
            now = memory.oom_kills()
            self._oom = now is not None and self._oom_kills is not None and now > self._oom_kills

    def stop(self, now: float, grace: float) -> None:
        """End it: kindly at first, for good after `grace` seconds; a second call can only hasten that."""
        if self._stopped_at is None:
            self._stopped_at = now
        self.kill_at = now + grace if self.kill_at is None else min(self.kill_at, now + grace)

    def leave_nothing(self, now: float, left: int) -> None:
        """The main process has ended by itself and `left` others have not."""
        self.leftovers = left
        if self.kill_at is None:
            self.kill_at = now + LEFTOVER_GRACE

    def sweep(self, now: float, members: Members) -> bool:
        """One step of ending; True when nothing is left."""
        if not processes.LINUX:
            return self._sweep_group(now)
        living = members(self)
        if not self._asked or self.main_ended:
            # Later than the first time, only what lost its parent is new: the children that a
            # living main process begins now may be its own cleaning up.
            processes.end(living - self._asked, kindly=True, by=self.signal)
            self._asked |= living or {self.pid}
        if self.kill_at is not None and now >= self.kill_at:
            self._kill(living, members)
        return self.main_ended and not living

    def _kill(self, living: set[int], members: Members) -> None:
        """Kill, and look again at once as long as there are new ones: some fork while they die."""
        killed: set[int] = set()
        for _ in range(_MOST_SWEEPS):
            new = living - killed
            if not new:
                return
            self._killed = True
            processes.end(new, kindly=False)
            killed |= new
            living = members(self)

    def _sweep_group(self, now: float) -> bool:
        kill = self.kill_at is not None and now >= self.kill_at
        there = True
        if kill or not self._asked:
            there = processes.end_group(self.pid, kindly=not kill)
            self._killed = self._killed or (kill and there)
        self._asked.add(self.pid)
        return self.main_ended and not there

    def report(self, now: float) -> dict[str, Any]:
        """Drain what is there, close the file, and tell everything."""
        for stream in self.streams:
            stream.finish()
        self._log.close()
        status = self._status or 0
        died = os.WIFSIGNALED(status)
        stopped = self._stopped_at is not None
        return {
            "exit_code": None if died else os.WEXITSTATUS(status),
            "signal": _name(os.WTERMSIG(status)) if died else None,
            "cpu_s": self._cpu,
            "peak_rss": self._peak,
            "tail": _lines(self._log.tail)[-TAIL_LINES:],
            "last_line": self._last_line(),
            "dropped": sum(stream.dropped for stream in self.streams),
            "leftovers": self.leftovers,
            "stopped_by": ("SIGKILL" if self._killed else _name(self.signal)) if stopped else None,
            "stop_s": now - self._stopped_at if self._stopped_at is not None else None,
            "log_error": self._log.error,
            "oom": self._oom,
            "written": [_size(path) > 0 for path in self._files],
        }

    def forget(self) -> None:
        """Remove its files where they may hold a secret and nobody is left to read them."""
        for path in self._files if self.confidential else ():
            with contextlib.suppress(OSError):
                os.unlink(path)

    def _last_line(self) -> str:
        """The last line that is not empty: of stderr, else of stdout."""
        for stream in reversed(self.streams):
            for line in reversed(_lines(stream.tail)):
                if line.strip():
                    return line.strip()
        return ""


def _lines(data: bytes) -> list[str]:
    return [line[:_MOST_LINE] for line in data.decode("utf-8", "replace").splitlines()]


def _size(path: bytes) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
