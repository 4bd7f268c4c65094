"""Ends the task processes of owners that are dead, where their guardians have died with them."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from flowd.guardian import processes

_PATIENCE = 2.0
"""Seconds that a guardian has to do it itself: it writes down what they still say."""
_MOST = 10.0


async def end_leftovers(incarnations: Sequence[str]) -> None:
    """Return when no process lives that an engine of these incarnations began, or SIGKILL does not end it."""
    await anyio.to_thread.run_sync(end_at_once, incarnations)


def end_at_once(incarnations: Sequence[str]) -> None:
    """As `end_leftovers`, blocking."""
    # one that lives let go of this run in order, and has others
    dead = [incarnation for incarnation in incarnations if not process_state(incarnation)]
    began = time.monotonic()
    while left := set[int]().union(*map(processes.left_by, dead)):
        waited = time.monotonic() - began
        if waited > _MOST:
            return
        if waited > _PATIENCE:
            processes.end(left, kindly=False)
        time.sleep(0.02)


def survivors(incarnations: Collection[str]) -> dict[str, set[int]]:
    """The processes that engines of these incarnations began and that have outlived them."""
    left = processes.left_by_each([incarnation for incarnation in incarnations if not process_state(incarnation)])
    return {incarnation: found for incarnation, found in left.items() if found}


def process_state(incarnation: str) -> str:
    """The state, as the kernel's letter, of the process that took this name; empty where it runs no more.

    A reused process id has another start.
    """
    pid, started = [*incarnation.split("-"), "", ""][:2]
    try:
        fields = Path("/proc", pid, "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    lives = len(fields) > 19 and fields[19].decode() == started and fields[0] not in b"ZX"
    return fields[0].decode() if lives else ""
