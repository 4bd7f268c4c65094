"""A scripted run: what a driver would make happen, by the core's own decisions and a clock set by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from flowd.core import events as e
from flowd.core import stimuli as st
from flowd.core.decide import begin, decide, start
from flowd.core.run import RunState
from flowd.core.spec import Call, PipelineSpec, Retry, TaskSpec

BEGAN = datetime(2026, 11, 22, 9, 14, tzinfo=UTC)


class ScriptedRun:
    """One run of a pipeline of the given tasks and needs, told step by step; `envelopes` is its journal."""

    def __init__(self, needs: dict[str, list[str]], run_id: str = "20261122-0914-k3f", **policies: Any) -> None:
        tasks = tuple(
            TaskSpec(
                name=name,
                action=Call(module="m", function=name),
                needs=tuple(wanted),
                executor="thread",
                cache=True,
                retry=Retry(attempts=3),
                **policies,
            )
            for name, wanted in needs.items()
        )
        self.spec = PipelineSpec(name="prices", tasks=tasks)
        self.now = BEGAN
        self.state = RunState(run_id, self.spec)
        self.envelopes: list[e.Envelope] = []
        self._keep(begin(self.state, e.RunStarted(pipeline="prices", spec="d"), self.now))

    def _keep(self, events: list[e.AnyEvent]) -> None:
        for event in events:
            self.envelopes.append(e.Envelope(self.state.id, len(self.envelopes) + 1, self.now, event))

    def tell(self, stimulus: st.Stimulus) -> None:
        """Something happens now."""
        self._keep(decide(self.state, stimulus, self.now))

    def start(self, task: str) -> None:
        """The next attempt of a task begins now."""
        self._keep([start(self.state, task, self.now)])

    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now += timedelta(seconds=seconds)

    def succeed(self, task: str, seconds: float, outputs: tuple[str, ...] = (), **more: Any) -> None:
        """A task runs for `seconds` and succeeds."""
        self.start(task)
        self.wait(seconds)
        artifacts = tuple(e.Artifact(path=path, size=1, digest="d") for path in outputs)
        self.end(task, st.Succeeded(outputs=artifacts, **more))

    def fail(self, task: str, seconds: float, message: str, delay: float | None = None, kind: str = "") -> None:
        """A task runs for `seconds` and fails; the next attempt comes after `delay`, if at all."""
        self.start(task)
        self.wait(seconds)
        error = e.Error(type=kind or "ConnectionError", message=message, where="steps/clean.py:44")
        again = None if delay is None else st.Again(timedelta(seconds=delay))
        self.end(task, st.Failed(error=error), again)
        self.wait(delay or 0)

    def end(self, task: str, outcome: st.Outcome, again: st.Again | None = None) -> None:
        """The current attempt of a task ends now."""
        self.tell(st.AttemptEnded(task, self.state.task(task).attempt, outcome, again))

    def fresh(self, task: str, source: str = "20261122-0913-abc") -> None:
        """A task is found fresh."""
        self.tell(st.FoundFresh(task=task, source=source))


def stored(value: object) -> e.Stored:
    """A result as the journal holds it."""
    data = msgspec.json.encode(value)
    return e.Stored(digest="d", size=len(data), inline=msgspec.Raw(data))


@pytest.fixture
def scripted() -> type[ScriptedRun]:
    """The class, since tests cannot import from here."""
    return ScriptedRun


@pytest.fixture
def keep():
    """`keep(value)`: a result as the journal holds it."""
    return stored
