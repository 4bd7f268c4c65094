"""What in-process attempts log, written to the attempt's own file beside what commands print."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from flowd.core.events import Envelope
from flowd.ports.follower import Signal

_encode = msgspec.json.Encoder(enc_hook=str).encode


class AttemptLog:
    """Appends each `ctx.log` line, as JSON, to `logs/<task>.<attempt>.log` of its run."""

    def __init__(self, run_folder: Path) -> None:
        self._folder = run_folder / "logs"

    def signal(self, signal: Signal) -> None:
        """Append a log line at once: it can be followed live, and outlives the process."""
        if signal.kind == "log":
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with (self._folder / f"{signal.task}.{signal.attempt}.log").open("ab") as file:
                file.write(_encode(dict(signal.fields)) + b"\n")

    async def record(self, envelopes: Sequence[Envelope]) -> None:
        """Events are in the journal."""
