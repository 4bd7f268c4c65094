"""What the daemon says of itself, as lines beside those of its runs: a handler for the standard library's loggers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from flowd.adapters.followers.log import LEVELS, Sink, moment, renderer


class DaemonLines(logging.Handler):
    """Writes records to `sinks`. One that fails says nothing more, and keeps no other from it."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        super().__init__()
        self._sinks = [(sink, renderer(sink), LEVELS[sink.level]) for sink in sinks]

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; those that hold no fields are a text."""
        own: dict[str, Any] | None = getattr(record, "fields", None)
        head = {"timestamp": moment(datetime.fromtimestamp(record.created, UTC)), "level": record.levelname.lower()}
        for sink, render, least in self._sinks:
            if record.levelno < least:
                continue
            text = record.getMessage()
            said = {"event": text, **own} if own is not None else {"event": "warning", "said": text}
            if record.exc_info:
                said["exception"] = logging.Formatter().formatException(record.exc_info)
            with suppress(OSError):
                sink.write([("", render({**head, **said}))])
