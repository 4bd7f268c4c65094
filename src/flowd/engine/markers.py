"""The files that stand while services serve. Whoever reads one finds where, and which process; the functions block."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import msgspec

from flowd.core.run import RunState
from flowd.core.spec import TaskSpec
from flowd.core.views import moment


def marker_of(spec: TaskSpec, folder: Path) -> Path | None:
    """Where a service's marker stands, if it wants one."""
    marker = spec.service.ready.marker if spec.service is not None else None
    return folder / marker if marker is not None else None


def put(marker: Path, url: str, pid: int, since: datetime) -> None:
    """Write it in one move: who reads it finds all of it."""
    marker.parent.mkdir(parents=True, exist_ok=True)
    unfinished = marker.with_name(f".{marker.name}.{os.getpid()}.tmp")
    unfinished.write_bytes(msgspec.json.encode({"url": url or None, "pid": pid, "since": moment(since)}) + b"\n")
    unfinished.replace(marker)


def remove(marker: Path, pid: int = 0) -> None:
    """Remove one of the process `pid`, or of any that lives no more; that of another instance stands."""
    try:
        said = msgspec.json.decode(marker.read_bytes())
    except FileNotFoundError:
        return
    except (msgspec.DecodeError, UnicodeDecodeError):  # no marker of ours: it says nothing of whom it is
        said = None
    whose = said.get("pid") if isinstance(said, dict) else None
    if whose == pid or not isinstance(whose, int) or not _lives(whose):
        marker.unlink(missing_ok=True)


def sweep(run: RunState, folder: Path) -> None:
    """Remove those that a dead owner of the run has left."""
    for number in run.shape.services:
        marker = marker_of(run.shape.specs[number], folder)
        if marker is not None:
            remove(marker)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
