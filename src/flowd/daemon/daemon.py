"""The daemon: everything that goes on for as long as it does, and the order in which it ends.

    async with engine:             runs; those that go on at the end are stopped, so that they can be resumed
        parts                      schedules, triggers, notices, keeping
            intake                 the API: leaves first, so that nothing new comes in

House rule of this room: it knows its parts by what they promise alone. Which there are is `wiring`'s to say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any

import anyio

from flowd.daemon.catalogue import Catalogue, Change
from flowd.daemon.parts import Part, keep_going
from flowd.daemon.saying import say
from flowd.engine.engine import Engine
from flowd.ports.clock import Clock

LOOK_S = 5.0
"""Seconds between two looks at the pipelines' files."""


class Daemon:
    """An engine that begins runs by itself. `changed` is told when the pipelines have, `intake` opens the API.

    `ready` is called once everything goes on, `alive` every `alive_every_s` seconds.
    """

    def __init__(
        self,
        engine: Engine,
        catalogue: Catalogue,
        clock: Clock,
        parts: Sequence[Part],
        *,
        changed: Callable[[], None] = lambda: None,
        intake: Callable[[], Any] | None = None,
        ready: Callable[[], None] = lambda: None,
        alive: Callable[[], None] = lambda: None,
        alive_every_s: float | None = None,
    ) -> None:
        self.parts = [Part(name="pipelines", run=self._watch), *parts]
        self.ready = False
        self.started_at: datetime | None = None
        self._engine = engine
        self._catalogue = catalogue
        self._clock = clock
        self._changed = changed
        self._intake = intake
        self._tell_ready = ready
        self._alive = alive
        self._alive_every_s = alive_every_s
        self._stop = anyio.Event()
        self._look_now = anyio.Event()

    def stop(self) -> None:
        """End, in order: nothing new comes in, and what runs is stopped within the engine's grace."""
        self.ready = False
        self._stop.set()

    def reload(self) -> None:
        """Look at the pipelines now."""
        self._look_now.set()

    async def run(self) -> None:
        """Go on until `stop`. Raises what keeps the engine or the API from opening."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._engine)
            await self._look()
            for run in await self._engine.recover():
                say("run_recovered", run=run.id)
            group = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(group.cancel_scope.cancel)
            for part in self.parts:
                group.start_soon(keep_going, part, self._clock, name=f"flowd daemon {part.name}")
            if self._alive_every_s is not None:
                group.start_soon(self._live, self._alive_every_s, name="flowd daemon alive")
            if self._intake is not None:
                await stack.enter_async_context(self._intake())
            self.ready, self.started_at = True, self._clock.now()
            self._tell_ready()
            await self._stop.wait()

    async def _watch(self) -> None:
        while True:
            self._look_now = anyio.Event()
            with anyio.move_on_after(LOOK_S):
                await self._look_now.wait()
            await self._look()

    async def _look(self) -> None:
        changes = await self._catalogue.look(self._clock.now())
        for change in changes:
            _say_change(change)
        if changes:
            self._changed()

    async def _live(self, every_s: float) -> None:
        """Say that the loop goes on; who watches learns from the silence that it does not."""
        while True:
            self._alive()
            await anyio.sleep(every_s)


def _say_change(change: Change) -> None:
    if change.what != "refused":
        say(f"pipeline_{change.what}", pipeline=change.name or None, file=change.file)
        return
    kept = f"the last good version of {change.name} stays" if change.name else "nothing of it can be run"
    for problem in change.problems:
        say("pipeline_refused", level="error", problem=str(problem), kept=kept)
