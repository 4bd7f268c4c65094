"""Loaded by Python itself into `python -m flowd` through PYTHONPATH: a disk that fails, or a death, on demand.

`FAULT_PLAN` is a JSON object; all of its keys may be left out:
`log`: a file that is told of every sync, `kill`: [n, "before" or "after"], the sync at which the
process dies, `fail`: [n, last, errno], the syncs that fail, `boot`: another boot id than the machine's.

Only the process that runs flowd itself is counted; what it starts sees the other boot alone.
"""

import json
import os
import pathlib
import pickle
import signal
import stat
import sys
import threading
from collections.abc import Callable
from typing import Any

BOOT = "/proc/sys/kernel/random/boot_id"


class Syncs:
    """Counts the syncs of this process, and notes what each of them made durable."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._kill, self._when = plan.get("kill", (0, ""))
        self._fail = plan.get("fail", (0, 0, 0))
        self._log = os.open(plan["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self._held: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._lost: dict[int, list[tuple[int, int]]] = {}
        self._count = 0
        self._order = threading.Lock()

    def note(self, real: Callable[[int], None]) -> Callable[[int], None]:
        """`real` with all of this around it."""

        def sync(descriptor: int) -> None:
            with self._order:
                self._count += 1
                number = self._count
                self._die(number, "before")
                found = self._without_lost(seen(descriptor))
                if self._fail[0] <= number <= self._fail[1]:
                    self._lose(found)
                    raise OSError(self._fail[2], os.strerror(self._fail[2]))
                real(descriptor)
                self._hold(descriptor, found[1])
                self._sizes[found[1]] = len(found[2])
                os.write(self._log, pickle.dumps(found))
                self._die(number, "after")

        return sync

    def _lose(self, found: tuple[str, int, Any]) -> None:
        """What a failed sync was to bring to disk counts as clean from now on, and never comes there."""
        kind, inode, content = found
        if kind == "file":
            self._lost.setdefault(inode, []).append((self._sizes.get(inode, 0), len(content)))

    def _without_lost(self, found: tuple[str, int, Any]) -> tuple[str, int, Any]:
        kind, inode, content = found
        if kind == "folder":
            return found
        changed = bytearray(content)
        for start, end in self._lost.get(inode, ()):
            changed[start:end] = bytes(len(changed[start:end]))
        return kind, inode, bytes(changed)

    def _hold(self, descriptor: int, inode: int) -> None:
        """Keep what was synced open, so that no later file gets its number."""
        if inode not in self._held:
            self._held[inode] = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)

    def _die(self, number: int, when: str) -> None:
        if (number, when) == (self._kill, self._when):
            os.kill(os.getpid(), signal.SIGKILL)


def seen(descriptor: int) -> tuple[str, int, Any]:
    """What a sync that begins now makes durable: kind, inode, and the names or the bytes."""
    found = os.fstat(descriptor)
    if stat.S_ISDIR(found.st_mode):
        with os.scandir(descriptor) as entries:
            return "folder", found.st_ino, {entry.name: entry.inode() for entry in entries}
    reader = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return "file", found.st_ino, os.pread(reader, found.st_size, 0)
    finally:
        os.close(reader)


def boot_as(boot: str) -> None:
    """Let everybody here read another boot id."""
    real = pathlib.Path.read_text

    def read_text(path: pathlib.Path, *arguments: Any, **more: Any) -> str:
        return f"{boot}\n" if str(path) == BOOT else real(path, *arguments, **more)

    setattr(pathlib.Path, "read_text", read_text)  # noqa: B010  # it takes what the real one takes


def begin() -> None:
    """Do what the plan says, where there is one."""
    plan = json.loads(os.environ.get("FAULT_PLAN", "{}"))
    if "boot" in plan:
        boot_as(plan["boot"])
    if "log" in plan and sys.orig_argv[1:3] == ["-m", "flowd"]:
        syncs = Syncs(plan)
        for name in ("fsync", "fdatasync"):
            setattr(os, name, syncs.note(getattr(os, name)))


begin()
