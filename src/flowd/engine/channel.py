"""What a running attempt says, on its way to the run's stream; any thread may speak."""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from flowd.core.events import Ending
from flowd.core.secrecy import Secrecy
from flowd.engine.stream import Stream
from flowd.ports.follower import Signal


class AttemptChannel:
    """One attempt's voice, each word stamped by `now` as it is said, and without any of the secrets.

    `metrics` is what it has told so far, `said` what of its log `plan` it has logged.

    An attempt that was abandoned may speak after its loop is gone: nobody listens then.
    """

    __slots__ = (
        "_attempt",
        "_now",
        "_plan",
        "_secrecy",
        "_stream",
        "_task",
        "ending",
        "metrics",
        "on_serving",
        "probe",
        "said",
    )

    def __init__(
        self,
        stream: Stream,
        task: str,
        attempt: int,
        now: Callable[[], datetime],
        secrecy: Secrecy,
        plan: Sequence[str] = (),
    ) -> None:
        self.metrics: dict[str, float] = {}
        self.said: set[str] = set()
        self.ending: Ending | None = None
        self.probe = ""
        self.on_serving: Callable[[str, int], Awaitable[None]] | None = None
        self._stream = stream
        self._task = task
        self._attempt = attempt
        self._now = now
        self._secrecy = secrecy
        self._plan = plan

    def log(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """A line for people, with its fields."""
        if self._plan:
            self.said.update(name for name in self._plan if name == event or name in fields)
        self._pass_on("log", {"level": level, "event": event, **fields})

    def metric(self, name: str, value: float) -> None:
        """A named finite number; ValueError otherwise."""
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(f"metric {name} is {number}, not a finite number")
        if self._secrecy:
            name = self._secrecy.hide(name)
            if self._secrecy.holds(f"{number:.17g}"):
                self.log("warning", "secret_redacted: a metric held a secret, and is not kept", {"metric": name})
                return
        self.metrics[name] = number
        self._pass_on("metric", {"name": name, "value": number})

    def progress(self, done: float, total: float | None) -> None:
        """How far the attempt is."""
        self._pass_on("progress", {"done": done, "total": total})

    def ended(self, ending: Ending) -> None:
        """How the attempt's process ended."""
        self.ending = ending

    def probed(self, wrong: str) -> None:
        """The attempt is a service, and what its probe said last: empty where it has passed."""
        self.probe = self._secrecy.hide(wrong)

    async def serves(self, url: str, pid: int) -> None:
        """The attempt is a service, and its probe has passed."""
        if self.on_serving is not None:
            await self.on_serving(url, pid)

    def _pass_on(self, kind: str, fields: Mapping[str, Any]) -> None:
        run, fields = self._stream.run_id, self._secrecy.hide_said(fields)
        signal = Signal(run=run, task=self._task, attempt=self._attempt, at=self._now(), kind=kind, fields=fields)
        if threading.get_ident() == self._stream.thread:
            self._stream.signal(signal)
        elif not self._stream.loop.is_closed():
            self._stream.loop.call_soon_threadsafe(self._stream.signal, signal)
