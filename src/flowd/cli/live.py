"""What runs now, drawn at the foot of a terminal below the transcript's lines.

rich is imported here, and this module only where a person looks at a terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import IO

import anyio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from flowd.cli.wording import duration_text, number_text
from flowd.core import states as s
from flowd.core.run import RunState
from flowd.ports.follower import Signal

MOST_ROWS = 30
PERIOD = 0.125
"""Seconds between two drawings."""

_BAR = 20


class LiveRegion:
    """Draws the running tasks of one run on `stream`; lines are written above it."""

    def __init__(self, stream: IO[str], *, unicode: bool, now: Callable[[], datetime]) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._unicode = unicode
        self._now = now
        self._run: RunState | None = None
        self._paused = False
        self._progress: dict[str, tuple[float, float | None]] = {}

    def begin(self, run: RunState) -> None:
        """There is a run to draw."""
        self._run = run

    def signal(self, signal: Signal) -> None:
        """A task told how far it is."""
        self._progress[signal.task] = (signal.fields["done"], signal.fields["total"])

    def write(self, text: str) -> None:
        """Write lines above what is drawn."""
        lines = [Text.from_ansi(line) for line in text.split("\n")]  # of several lines, rich 14 drops a last empty one
        self._console.print(Text("\n").join(lines), soft_wrap=True)

    async def draw(self) -> None:
        """Draw again and again, for ever; ended by cancellation, which clears what was drawn."""
        with self._live:
            while True:
                if not self._paused:
                    self._live.update(Text("\n".join(self.rows(self._console.height))), refresh=True)
                await anyio.sleep(PERIOD)

    def stop(self) -> None:
        """Leave the terminal as it was found."""
        self._live.stop()

    def pause(self, *, paused: bool) -> None:
        """Draw nothing for as long as a person is asked something."""
        self._paused = paused
        if paused:
            self._live.stop()
        else:
            self._live.start()

    def rows(self, height: int) -> list[str]:
        """The running tasks, the longest first, and how many of all are done."""
        run = self._run
        if run is None or not run.live:
            return []
        now, most = self._now(), max(min(MOST_ROWS, height - 3), 1)
        names = sorted(run.live, key=lambda number: (self._since(run, number), number))
        width = max(len(run.shape.specs[number].name) for number in names[:most])
        rows = [""]
        for number in names[:most]:
            name = run.shape.specs[number].name
            took = duration_text((now - self._since(run, number)).total_seconds())
            task = run.tasks[number]
            said = f"serving {task.service.url}" if task.state == s.SERVING and task.service else self._bar(name)
            rows.append(f"  {'▸' if self._unicode else '>'} {name:<{width}}   {took:<5}   {said}".rstrip())
        more = f", {len(names) - most} of them not shown" if len(names) > most else ""
        done = sum(task.state in s.ENDED for _, task in run.own())
        return [*rows, f"  {done} of {run.declared} done, {len(names)} running{more}"]

    @staticmethod
    def _since(run: RunState, number: int) -> datetime:
        attempts = run.tasks[number].attempts
        assert attempts  # a running task has one
        return attempts[-1].started_at

    def _bar(self, name: str) -> str:
        done, total = self._progress.get(name, (0.0, None))
        if name not in self._progress:
            return ""
        if not total:
            return number_text(done)
        full = round(_BAR * min(max(done / total, 0.0), 1.0))
        marks = ("━", "─") if self._unicode else ("#", ".")
        return f"{marks[0] * full}{marks[1] * (_BAR - full)}  {number_text(done)}/{number_text(total)}"
