"""What one run's journal says of its tasks' successes: the checkpoints that are made anew from it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Protocol

from flowd.core.errors import NoSuchRun, StateDamaged
from flowd.core.events import Envelope, TaskExpanded, TaskFailed, TaskResolved, TaskStarted, TaskSucceeded
from flowd.core.fanout import base_name
from flowd.core.spec import Definition
from flowd.ports.stores import Checkpoint

_READ = ("task_started", "task_succeeded", "task_resolved", "task_failed", "task_expanded")


class Runs(Protocol):
    """What is asked of a journal: its runs, and some of their events."""

    def runs(self) -> list[str]:
        """The ids of all runs, newest first."""
        ...

    async def definition(self, run: str) -> Definition:
        """What a run was created with. NoSuchRun, StateDamaged."""
        ...

    def select(self, run: str, events: Sequence[str], after: int = 0) -> AsyncIterator[Envelope]:
        """The durable records of these events, in order. NoSuchRun, StateDamaged."""
        ...


async def successes(journal: Runs, run: str) -> tuple[dict[str, Checkpoint], str | None]:
    """The newest checkpoint of each task that one run's journal tells of, and what is damaged in it."""
    started: dict[str, tuple[datetime, TaskStarted]] = {}
    expanded = set[str]()
    found: dict[str, Checkpoint] = {}
    try:
        async for envelope in journal.select(run, _READ):
            event = envelope.event
            if isinstance(event, TaskStarted):
                started[event.task] = (envelope.at, event)
            elif isinstance(event, TaskSucceeded) or (isinstance(event, TaskResolved) and event.verdict == "succeeded"):
                if event.task in started or base_name(event.task) in expanded:  # else a person's answer was all of it
                    found[event.task] = _checkpoint(
                        run, envelope.at, event, *started.get(event.task, (envelope.at, None))
                    )
            elif isinstance(event, TaskExpanded):
                expanded.add(event.task)
            elif isinstance(event, TaskFailed) and event.reason is not None and event.reason.code == "gate_failed":
                found[event.task] = Checkpoint(run=run, at=envelope.at, attempt=event.attempt, refused=True)
    except NoSuchRun:
        return {}, None  # announced and never made, or pruned
    except StateDamaged as damage:
        return found, str(damage)
    return found, None


def _checkpoint(
    run: str, at: datetime, event: TaskSucceeded | TaskResolved, began: datetime, start: TaskStarted | None
) -> Checkpoint:
    common: dict[str, Any] = {"run": run, "at": at, "attempt": 0 if start is None else start.attempt}
    common |= {"result": event.result, "outputs": event.outputs, "parts": event.parts}
    if isinstance(event, TaskResolved):
        return Checkpoint(**common)  # how long it took nobody knows
    return Checkpoint(**common, duration_s=(at - began).total_seconds(), metrics=event.metrics)
