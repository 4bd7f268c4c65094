"""Who is the daemon of a state directory: a lock of the kernel on that folder's own descriptor, as of a run.

`daemon/owner.json` only informs: the pid, the host, since when, and where it listens.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import msgspec

from flowd.adapters import disk
from flowd.adapters.journal import lock
from flowd.core.errors import NoSuchRun, StateDamaged, StateLocked

FOLDER = "daemon"
_OWNER = "owner.json"


class DaemonOwner(msgspec.Struct, frozen=True, kw_only=True):
    """What a daemon wrote of itself; `url` is empty before it listens."""

    pid: int
    host: str
    started_at: datetime
    url: str = ""


@contextmanager
def owned(state_dir: Path) -> Iterator[Path]:
    """Be the one daemon of a state directory; the folder in which it keeps what it knows.

    Raises StateLocked with the daemon that there is.
    """
    with disk.failing(state_dir, "be made"):
        disk.make_folders(state_dir / FOLDER)
    try:
        descriptor = lock.take(state_dir)
    except StateLocked:
        raise StateLocked(f"{state_dir} has a daemon already{_named(read_owner(state_dir))}") from None
    try:
        yield state_dir / FOLDER
    finally:
        with suppress(OSError):
            (state_dir / FOLDER / _OWNER).unlink(missing_ok=True)
        os.close(descriptor)


def write_owner(state_dir: Path, owner: DaemonOwner) -> None:
    """Say who the daemon is, and where."""
    disk.write_atomic(state_dir / FOLDER / _OWNER, msgspec.json.encode(owner), synced=False)


def read_owner(state_dir: Path) -> DaemonOwner | None:
    """What the last daemon wrote of itself; None where there is nothing to be read."""
    try:
        return msgspec.json.decode(disk.read_regular(state_dir / FOLDER / _OWNER), type=DaemonOwner)
    except (OSError, StateDamaged, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def living(state_dir: Path) -> DaemonOwner | None:
    """The daemon that there is now; None where there is none. StateLocked where one has not said yet who it is."""
    try:
        if lock.holder(state_dir) is None:
            return None
    except NoSuchRun:
        return None
    owner = read_owner(state_dir)
    if owner is None:
        raise StateLocked(f"{state_dir} has a daemon that is starting; ask again in a moment")
    return owner


def _named(owner: DaemonOwner | None) -> str:
    if owner is None:
        return ""
    since = f"{owner.started_at:%Y-%m-%dT%H:%M:%SZ}"
    return f": pid {owner.pid} on {owner.host} since {since}" + (f", at {owner.url}" if owner.url else "")
