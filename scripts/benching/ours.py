"""flowd's side, as its users have it: defaults, durable, logs on, and a retry policy on every task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from benching.clock import Clock
from benching.graphs import Graph
from flowd import Engine, Pipeline, Retry
from flowd.adapters.disk import FileThreads
from flowd.adapters.followers.log import LogFollower, Sink, append_to
from flowd.core.spec import Definition

RETRY = Retry(attempts=3)


def pipeline(graph: Graph, work: Callable[[], Awaitable[None]], folder: Path, *, idempotent: bool = True) -> Pipeline:
    """The graph as a checked pipeline."""
    made = Pipeline("bench", folder=folder)
    for number, needs in enumerate(graph.needs):
        policies: dict[str, Any] = {"retry": RETRY, "idempotent": idempotent}
        made.task(name=f"t{number}", needs=[f"t{need}" for need in needs], **policies)(work)
    made.definition()
    return made


def engine(folder: Path, names: Sequence[str], width: int | None) -> Engine:
    """An engine whose state is in `folder`; a run's log lines go to its `run.log`, as the command line's do."""
    threads = FileThreads(1, "bench-log")

    def followers(_run: str, place: Path, _definition: Definition) -> Sequence[LogFollower]:
        sink = Sink(write=append_to(str(place / "run.log"), private=True), level="debug", threads=threads)
        return (LogFollower([sink], order=names),)

    return Engine(folder / ".flowd", max_concurrency=width, followers=followers)


async def timed_run(opened: Engine, made: Pipeline) -> dict[str, float]:
    """The time from asking for a run to having its result, as `Clock.read` tells it."""
    clock = Clock()
    result = await opened.run(made)
    taken = clock.read()
    if not result.ok:
        raise RuntimeError(f"the measured run ended {result.state}: {result.error}")
    return taken
