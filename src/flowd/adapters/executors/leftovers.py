"""Ends the task processes of an owner that is dead, where its guardian has died with it."""

from __future__ import annotations

import time
from pathlib import Path

import anyio
import anyio.to_thread

from flowd.guardian import processes

_PATIENCE = 2.0
"""Seconds that a guardian has to do it itself: it writes down what they still say."""
_MOST = 10.0


async def end_leftovers(incarnation: str) -> None:
    """Return when no process lives that an engine of this incarnation began, or SIGKILL does not end it."""
    await anyio.to_thread.run_sync(_end, incarnation)


def _end(incarnation: str) -> None:
    if _lives(incarnation):
        return  # it let go of this run in order, and has others
    began = time.monotonic()
    while left := processes.left_by(incarnation):
        waited = time.monotonic() - began
        if waited > _MOST:
            return
        if waited > _PATIENCE:
            processes.end(left, kindly=False)
        time.sleep(0.02)


def _lives(incarnation: str) -> bool:
    """Whether the process that took this name still runs; a reused process id has another start."""
    pid, started = [*incarnation.split("-"), "", ""][:2]
    try:
        fields = Path("/proc", pid, "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return False
    return len(fields) > 19 and fields[19].decode() == started and fields[0] not in b"ZX"
