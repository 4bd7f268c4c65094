"""What in-process attempts log and how they fail, written to the attempt's own file beside what commands print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from flowd.adapters import disk
from flowd.core.events import Envelope, TaskFailed, TaskRetryScheduled, TaskTimedOut
from flowd.ports.executor import log_path
from flowd.ports.follower import Signal

_encode = msgspec.json.Encoder(enc_hook=str).encode


class AttemptLog:
    """Appends each `ctx.log` line, as JSON, to `logs/<task>.<attempt>.log` of its run; and a failure's traceback."""

    def __init__(self, run_folder: Path) -> None:
        self._folder = run_folder

    def signal(self, signal: Signal) -> None:
        """Append a log line at once: it can be followed live, and outlives the process."""
        if signal.kind == "log":
            self._append(signal.task, signal.attempt, _encode(dict(signal.fields)) + b"\n")

    async def record(self, envelopes: Sequence[Envelope]) -> None:
        """Append the traceback of what failed; everything else about events is in the journal."""
        for envelope in envelopes:
            event = envelope.event
            if isinstance(event, TaskFailed | TaskTimedOut | TaskRetryScheduled) and event.error.traceback:
                self._append(event.task, event.attempt, event.error.traceback.encode("utf-8", "backslashreplace"))

    def _append(self, task: str, attempt: int, data: bytes) -> None:
        disk.append(log_path(self._folder, task, attempt), data)
