"""Which processes live: found by a text in their command line or their environment, never by flowd's own marks."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

LIFE = "FAULT_LIFE"
"""The variable that every command is given and its processes inherit."""


def bearing(text: str) -> set[int]:
    """The processes whose command line or environment has `text` in it; the dead do not count."""
    found = set()
    sought = text.encode()
    for pid in all_processes():
        words = _read(pid, "cmdline") + b"\0" + _read(pid, "environ")
        if sought in words and lives(pid):
            found.add(pid)
    return found - {os.getpid()}


def of_life(life: str) -> set[int]:
    """The processes that come of one command; a life's name is followed by nothing in the environment."""
    sought = f"{LIFE}={life}".encode()
    return {pid for pid in all_processes() if sought in _read(pid, "environ").split(b"\0") and lives(pid)}


def guardians(leader: int) -> set[int]:
    """The guardian processes that a leader has begun."""
    return {pid for pid in children(leader) if b"guardian/__main__.py" in _read(pid, "cmdline")}


def children(parent: int) -> set[int]:
    """The processes whose parent is this one."""
    return {pid for pid in all_processes() if (status := _status(pid)) and int(status[1]) == parent}


def lives(pid: int) -> bool:
    """Whether a process lives; a dead one that nobody has waited for yet does not."""
    status = _status(pid)
    return bool(status) and status[0] not in (b"Z", b"X")


def born(pid: int) -> bytes:
    """When a process started, in the kernel's ticks: its id may be used again, this not."""
    status = _status(pid)
    return status[19] if status else b""


def all_processes() -> list[int]:
    """The ids of all processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def kill(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    """Send a signal to those that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def kill_all(find: Callable[[], set[int]], patience: float = 5.0) -> None:
    """SIGKILL until `find` finds nobody: some fork while they die."""
    end = time.monotonic() + patience
    while (left := find()) and time.monotonic() < end:
        kill(left)


def within(seconds: float, condition: Callable[[], object]) -> bool:
    """Whether `condition` comes true before `seconds` are over."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def described(pids: Iterable[int]) -> str:
    """What processes are, in a few words each."""
    said = []
    for pid in sorted(pids)[:4]:
        words = " ".join(_read(pid, "cmdline").replace(b"\0", b" ").decode("utf-8", "replace").split())
        said.append(f"{pid} `{words[:80]}`")
    return ", ".join(said)


def _status(pid: int) -> list[bytes]:
    return _read(pid, "stat").rpartition(b")")[2].split()


def _read(pid: int, name: str) -> bytes:
    try:
        return Path("/proc", str(pid), name).read_bytes()
    except OSError:
        return b""
