"""Runs for past times of a schedule: which have to be begun, gone on with or tried again, and that done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import anyio
import msgspec

from flowd.authoring.pipeline import Pipeline
from flowd.core.declared import Schedule
from flowd.core.errors import FlowdError, NoSuchRun, StateLocked, StorageFailing
from flowd.core.firing import firing_id, source_key
from flowd.engine.engine import Engine
from flowd.engine.handle import Run

KIND: Final = "backfill"
GOOD: Final = frozenset({"succeeded"})
_LEFT: Final = frozenset({"waiting", "cancelled"})
"""What a person has said, or has still to say, about: not this command's to change."""


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """A time, and what was done about it.

    `did` is good (a run of it succeeded before), begun, resumed, retried, left (a person's affair), held (another
    process has it) or refused; `state` is the run's, as it stands then.
    """

    at: datetime
    did: str
    run: str
    state: str = ""
    error: str = ""


class Backfilling:
    """Fills times of `schedule` with runs of `pipeline` by `engine`."""

    def __init__(
        self, engine: Engine, pipeline: Pipeline, schedule: Schedule, params: Mapping[str, Any], *, force: bool
    ) -> None:
        self._engine = engine
        self._pipeline = pipeline
        self._schedule = schedule
        self._params = params
        self._force = force
        self._source = source_key(pipeline.definition().spec.name, schedule.name)
        self._living: dict[str, Run] = {}
        self._stopped = False

    async def stop(self) -> None:
        """Begin nothing more, and stop what runs so that it can be gone on with."""
        self._stopped = True
        for run in list(self._living.values()):
            run.interrupt()

    async def look(self, at: datetime) -> Slot:
        """What is to be done about a time; nothing is."""
        fired, own = firing_id(self._source, at), firing_id(self._source, at, KIND)
        if (state := await self._status(fired)) in GOOD:
            return Slot(at=at, did="good", run=fired, state=str(state))
        state = await self._status(own)
        if state is None or state == "new":
            return Slot(at=at, did="begun", run=own)
        if state in GOOD:
            return Slot(at=at, did="good", run=own, state=state)
        if state in _LEFT:
            return Slot(at=at, did="left", run=own, state=state)
        return Slot(at=at, did="retried" if state in {"failed", "partial"} else "resumed", run=own, state=state)

    async def fill(self, times: Sequence[datetime], width: int) -> AsyncIterator[Slot]:
        """Do it, in order, `width` at a time; each once it is done with."""
        done, receive = anyio.create_memory_object_stream[Slot](len(times))
        room = anyio.CapacityLimiter(width)

        async def one(at: datetime) -> None:
            async with room:
                if not self._stopped:
                    await done.send(await self._fill(at))

        async with done, receive, anyio.create_task_group() as group:

            async def all_of_them() -> None:
                async with anyio.create_task_group() as inner:
                    for at in times:
                        inner.start_soon(one, at)
                        await anyio.lowlevel.checkpoint()  # so that they come in their order
                await done.aclose()

            group.start_soon(all_of_them)
            async for slot in receive:
                yield slot

    async def _fill(self, at: datetime) -> Slot:
        slot = await self.look(at)
        if slot.did in {"good", "left"}:
            return slot
        try:
            run = await self._begin(slot)
        except StateLocked as held:
            return msgspec.structs.replace(slot, did="held", error=str(held))
        except StorageFailing:
            raise
        except FlowdError as refused:
            return msgspec.structs.replace(slot, did="refused", state="failed", error=str(refused))
        self._living[run.id] = run
        try:
            result = await run.wait()
        finally:
            del self._living[run.id]
        return msgspec.structs.replace(slot, state=result.state)

    async def _begin(self, slot: Slot) -> Run:
        if slot.did == "retried":
            return await self._engine.retry(slot.run, by=KIND, pipeline=self._pipeline)
        spec = self._pipeline.definition().spec
        tasks = [task for name in self._schedule.tasks for task in spec.targets.get(name, (name,))]
        return await self._engine.start(
            self._pipeline,
            *tasks,
            params=self._params,
            run_id=slot.run,
            force=self._force,
            time=slot.at,
            trigger={"kind": KIND, "schedule": self._schedule.name},
        )

    async def _status(self, run: str) -> str | None:
        try:
            handle = await self._engine.get(run)
        except NoSuchRun:
            return None
        return await handle.status()
