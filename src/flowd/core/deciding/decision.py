"""The events of one decision, each applied before the next is thought of."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from flowd.core import events as e
from flowd.core.run import RunState


class Decision:
    """Collects events, each applied before the next is thought of."""

    __slots__ = ("events", "now", "run")

    def __init__(self, run: RunState, now: datetime) -> None:
        self.run = run
        self.now = now
        self.events: list[e.AnyEvent] = []

    def say(self, event: e.AnyEvent) -> None:
        """Apply `event`, and keep it for the journal."""
        self.run.apply(event, self.now)
        self.events.append(event)


def named(run: RunState, states: Collection[str], left_out: Collection[int] = ()) -> str:
    """The tasks in one of `states`, but for failures that are allowed, in words."""
    names = [
        spec.name
        for number, (spec, task) in enumerate(run.own())
        if task.state in states and not task.allowed and number not in left_out
    ]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
