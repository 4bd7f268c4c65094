"""What is counted and measured, for Prometheus: a registry of the daemon's own, and nothing labelled by run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from flowd.core import agenda as facts
from flowd.core import events as e
from flowd.core.events import Envelope
from flowd.core.spec import PipelineSpec
from flowd.ports.clock import Clock
from flowd.ports.follower import Signal

_SECONDS: Final = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 1800, 7200, float("inf"))
_ENDS: Final[Mapping[type[e.Event], str]] = {
    e.TaskSucceeded: "succeeded",
    e.TaskFresh: "fresh",
    e.TaskSkipped: "skipped",
    e.TaskFailed: "failed",
    e.TaskTimedOut: "timed_out",
    e.TaskCancelled: "cancelled",
    e.TaskAbandoned: "abandoned",
    e.TaskUpstreamFailed: "upstream_failed",
    e.TaskRejected: "rejected",
}


class Metrics:
    """All that `/metrics` shows. `limits` gives the engine's limits as they are now."""

    def __init__(self, clock: Clock, limits: Callable[[], Mapping[str, Any]]) -> None:
        self._clock = clock
        self._limits = limits
        registry = self._registry = CollectorRegistry()
        names: dict[str, Any] = {"registry": registry, "namespace": "flowd"}
        self.runs = Counter("runs", "Runs that ended.", ["pipeline", "state"], **names)
        self.started = Counter("runs_started", "Runs that began, by what began them.", ["pipeline", "trigger"], **names)
        self.tasks = Counter("tasks", "Tasks that ended.", ["pipeline", "state"], **names)
        self.retries = Counter("retries", "Attempts that are tried again.", ["pipeline"], **names)
        self.run_seconds = Histogram("run_seconds", "How long runs took.", ["pipeline"], buckets=_SECONDS, **names)
        self.task_seconds = Histogram(
            "task_seconds", "How long attempts took.", ["pipeline"], buckets=_SECONDS, **names
        )
        self.firings = Counter("firings", "Times at which schedules were due.", ["schedule", "outcome"], **names)
        self.lag = Gauge("loop_lag_seconds", "How late the event loop was last.", **names)
        self.used = Gauge("limit_used", "How much of a limit is in use.", ["limit"], **names)
        self.capacity = Gauge("limit_capacity", "How much of a limit there is.", ["limit"], **names)
        self.waiting = Gauge("limit_waiting", "How many tasks wait for a limit.", ["limit"], **names)

    def follower(self, spec: PipelineSpec) -> OfRun:
        """What counts the events of a run."""
        return OfRun(self, spec.name)

    def decided(self, fact: facts.AnyFact) -> None:
        """Count what was decided about a schedule's times."""
        if isinstance(fact, facts.Fired):
            self.firings.labels(fact.source, "fired").inc()
        elif isinstance(fact, facts.Skipped):
            self.firings.labels(fact.source, fact.why).inc(fact.count)

    async def run(self) -> None:
        """Measure how late the loop is, for ever."""
        while True:
            due = self._clock.monotonic() + 1.0
            await self._clock.sleep_until(due)
            self.lag.set(max(self._clock.monotonic() - due, 0.0))

    def text(self) -> bytes:
        """All of it as it is now."""
        for gauge in (self.used, self.capacity, self.waiting):
            gauge.clear()
        for name, limit in self._limits().items():
            if " of " in name:
                continue  # the bound of a single run
            self.used.labels(name).set(limit["used"])
            self.waiting.labels(name).set(len(limit["waiters"]))
            if limit["capacity"] is not None:
                self.capacity.labels(name).set(limit["capacity"])
        return generate_latest(self._registry)


class OfRun:
    """A follower of one run."""

    def __init__(self, metrics: Metrics, pipeline: str) -> None:
        self._metrics = metrics
        self._pipeline = pipeline
        self._began: datetime | None = None
        self._attempts: dict[str, datetime] = {}

    async def record(self, envelopes: Sequence[Envelope]) -> None:
        """Count durable events."""
        for envelope in envelopes:
            self._count(envelope.event, envelope.at)

    def signal(self, signal: Signal) -> None:
        """Events only."""

    def _count(self, event: e.AnyEvent, at: datetime) -> None:
        metrics, pipeline = self._metrics, self._pipeline
        if isinstance(event, e.RunStarted):
            self._began = at
            metrics.started.labels(pipeline, str(event.trigger.get("kind", "hand"))).inc()
        elif isinstance(event, e.RunFinished):
            metrics.runs.labels(pipeline, event.state).inc()
            if self._began is not None:
                metrics.run_seconds.labels(pipeline).observe((at - self._began).total_seconds())
        elif isinstance(event, e.TaskStarted):
            self._attempts[event.task] = at
        elif isinstance(event, e.TaskRetryScheduled):
            self._ended(event.task, at)
            metrics.retries.labels(pipeline).inc()
        elif (state := _ENDS.get(type(event))) is not None:
            assert isinstance(event, e.TaskEvent)
            self._ended(event.task, at)
            metrics.tasks.labels(pipeline, state).inc()

    def _ended(self, task: str, at: datetime) -> None:
        began = self._attempts.pop(task, None)
        if began is not None:
            self._metrics.task_seconds.labels(self._pipeline).observe((at - began).total_seconds())
