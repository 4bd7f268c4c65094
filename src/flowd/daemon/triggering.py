"""What all triggers do alike: which there are, what is known of each, and how one begins a run.

House rules of this room: those of `planner`. A happening has a name by its nature (a file with its size and
time, the run that has ended, the delivery of a webhook), and the run that it begins has an id made of that;
so it begins one run, however often it is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

import msgspec

from flowd.authoring.pipeline import Pipeline
from flowd.core import agenda as facts
from flowd.core.agenda import Entry
from flowd.core.declared import Trigger
from flowd.core.errors import FlowdError, StateLocked, StorageFailing
from flowd.core.firing import firing_id
from flowd.daemon.planner import OF_TRIGGER, Pipelines
from flowd.daemon.saying import say
from flowd.engine.engine import Engine
from flowd.ports.agenda import AgendaStore


class Armed(msgspec.Struct, frozen=True, kw_only=True):
    """A trigger that is declared, with its pipeline; `key` names it among all."""

    key: str
    pipeline: Pipeline
    trigger: Trigger

    @property
    def digest(self) -> str:
        """What its definition is told from another by."""
        return sha256(msgspec.json.encode(self.trigger)).hexdigest()[:16]


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """Something that begins a run: its `name`, when it was, and what the run is told of it."""

    name: str
    at: datetime
    trigger: Mapping[str, Any]
    params: Mapping[str, Any] = {}


class Triggering:
    """Begins runs of `engine` for happenings, and keeps in mind which were."""

    def __init__(self, engine: Engine, pipelines: Pipelines, store: AgendaStore) -> None:
        self._engine = engine
        self._pipelines = pipelines
        self._store = store

    def armed(self, kind: str) -> Iterator[Armed]:
        """The triggers of a kind: file, webhook or after."""
        for name, pipeline in self._pipelines.pipelines().items():
            for trigger in pipeline.definition().spec.trigger:
                if (what := getattr(trigger, kind)) is not None:
                    yield Armed(key=f"{name}{OF_TRIGGER}{kind}={what}", pipeline=pipeline, trigger=trigger)

    def entry(self, armed: Armed) -> Entry:
        """What is known of a trigger."""
        return self._store.agenda.entry(armed.key)

    async def see(self, armed: Armed, now: datetime, standing: tuple[str, ...] = ()) -> bool:
        """Take a new trigger in, with what stands there already; False where it was known."""
        if self.entry(armed).digest == armed.digest:
            return False
        seen = facts.Seen(source=armed.key, at=now, digest=armed.digest)
        await self._store.record([seen, facts.Known(source=armed.key, at=now, names=standing, anew=True)], now)
        return True

    async def begin(self, armed: Armed, happening: Happening, now: datetime) -> str:
        """Begin the run of a happening, and record that; the run's id.

        What refuses the run is recorded and raised. StorageFailing where nothing can be recorded.
        """
        run_id = firing_id(armed.key, happening.at, happening.name)
        known = facts.Known(source=armed.key, at=now, names=(happening.name,))
        try:
            run = await self._engine.start(
                armed.pipeline,
                params=happening.params,
                run_id=run_id,
                time=happening.at,
                trigger=happening.trigger,
            )
            await run.recorded()
        except StateLocked:
            say("trigger_fired_elsewhere", trigger=armed.key, run=run_id)
        except StorageFailing:
            raise
        except FlowdError as refused:
            skipped = facts.Skipped(
                source=armed.key, at=now, time=happening.at, last=happening.at, why="refused", sentence=str(refused)
            )
            await self._store.record([skipped, known], now)
            say("trigger_refused", level="error", trigger=armed.key, what=happening.name, sentence=str(refused))
            raise
        fired = facts.Fired(source=armed.key, at=now, time=happening.at, run=run_id, why=happening.name)
        await self._store.record([fired, known], now)
        say("trigger_fired", trigger=armed.key, run=run_id, what=happening.name)
        return run_id

    async def keep_only(self, armed: Armed, names: tuple[str, ...], now: datetime) -> None:
        """Forget all happenings but these: the others cannot come again."""
        await self._store.record([facts.Known(source=armed.key, at=now, names=names, anew=True)], now)
