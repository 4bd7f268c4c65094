"""The port of everyone who only reads: what was recorded, and what was said in passing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from flowd.core.events import Envelope


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """Something said in passing: never journaled, ignored by the fold, lost in a crash.

    `kind` is `log`, `progress` or `metric`; `fields` hold what was said (a log line has
    `level` and `event`; progress has `done` and `total`; a metric `name` and `value`). `at` is
    when it was said.
    """

    run: str
    task: str
    attempt: int
    at: datetime
    kind: str
    fields: Mapping[str, Any]


class Follower(Protocol):
    """Reads one run's stream in order. A failing follower is dropped and said, never waited for."""

    async def record(self, envelopes: Sequence[Envelope]) -> None:
        """Durable events, each once, in order."""
        ...

    def signal(self, signal: Signal) -> None:
        """Something said in passing; called on the loop, must not block."""
        ...
