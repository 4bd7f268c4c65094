"""Past slots of a schedule are filled: a run each, some at a time, begun, gone on with or tried again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import anyio
import msgspec

from flowd.authoring.pipeline import Pipeline
from flowd.core.declared import Schedule
from flowd.core.errors import FlowdError, StateDamaged, StateLocked, StorageFailing
from flowd.core.slots import KIND, OPEN, Slot, Step
from flowd.core.views import WAITING, exit_code
from flowd.engine.engine import Engine
from flowd.engine.handle import Run
from flowd.ports.clock import Clock

INTERRUPTED = 130
REFUSED = "refused"
TO_GO = "to go"

_AS_FOUND = {
    Step.GOOD: ("succeeded", 0),
    Step.LEFT: ("cancelled", 1),
    Step.HELD: ("running", StateLocked.exit_code),
    Step.DAMAGED: ("", StateDamaged.exit_code),
}


class Filled(msgspec.Struct, frozen=True, kw_only=True):
    """What was done about a slot (a `Step`, `refused`, or nothing yet: `to go`), and how it stands then.

    `state` is its run's, where there is one, and `code` the exit code that belongs to that; `error` says why it
    did not end well; `seconds` is what this took here.
    """

    slot: Slot
    did: str
    state: str
    code: int
    error: str = ""
    seconds: float = 0.0


class Backfill:
    """Fills slots of one schedule by runs of `engine`, with these parameters. Where `force`, what is begun is all run.

    A run that was left unfinished goes on as it began; one that failed is tried again as the pipeline is now.
    """

    def __init__(
        self,
        engine: Engine,
        pipeline: Pipeline,
        schedule: Schedule,
        clock: Clock,
        *,
        params: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> None:
        self._engine = engine
        self._pipeline = pipeline
        self._schedule = schedule
        self._params = schedule.params if params is None else params
        self._clock = clock
        self._force = force
        self._living: dict[str, Run] = {}
        self.stopping = False

    def stop(self) -> None:
        """Begin nothing more, and interrupt what runs, so that the same slots can be gone on with."""
        self.stopping = True
        for run in self._living.values():
            _stop(run)

    async def carry_out(
        self, slots: Sequence[Slot], tell: Callable[[Filled], None], *, at_once: int = 1
    ) -> list[Filled]:
        """Fill the slots, so many at once, the oldest first; `tell` hears of each as it is done. In their order.

        What becomes of one keeps no other from being filled, but for a disk that fails: then no more is begun.
        """
        found: dict[str, Filled] = {}
        waiting = iter(slots)

        async def fill() -> None:
            for slot in self._open(waiting):
                found[slot.run] = await self._fill(slot)
                tell(found[slot.run])

        async with anyio.create_task_group() as group:
            for number in range(at_once):
                group.start_soon(fill, name=f"flowd backfill {number}")
        return [found.get(slot.run) or _as_found(slot) for slot in slots]

    def _open(self, waiting: Iterator[Slot]) -> Iterator[Slot]:
        for slot in waiting:
            if self.stopping:
                return
            if slot.step in OPEN:
                yield slot

    async def _fill(self, slot: Slot) -> Filled:
        since = self._clock.monotonic()
        try:
            run = self._living[slot.run] = await self._enter(slot)
            if self.stopping:
                _stop(run)
            result = await run.wait()
        except FlowdError as error:
            if isinstance(error, StorageFailing):
                self.stop()
            did = Step.HELD if isinstance(error, StateLocked) else REFUSED
            return Filled(slot=slot, did=did, state="", code=error.exit_code, error=str(error))
        finally:
            self._living.pop(slot.run, None)
        code = exit_code(result.state)
        if self.stopping and result.state == WAITING:
            code = INTERRUPTED
        error_text = f"{result.error['task']}: {result.error['message']}" if result.error else ""
        seconds = self._clock.monotonic() - since
        return Filled(slot=slot, did=slot.step, state=result.state, code=code, error=error_text, seconds=seconds)

    async def _enter(self, slot: Slot) -> Run:
        if slot.step is Step.RETRIED:
            return await self._engine.retry(slot.run, by=KIND, pipeline=self._pipeline, with_new_definition=True)
        if slot.step is Step.RESUMED:
            return await self._engine.resume(slot.run, self._pipeline)
        targets = self._pipeline.definition().spec.targets
        return await self._engine.start(
            self._pipeline,
            *(task for name in self._schedule.tasks for task in targets.get(name, (name,))),
            params=self._params,
            run_id=slot.run,
            force=self._force,
            time=slot.at,
            trigger={"kind": KIND, "schedule": self._schedule.name},
        )


def _stop(run: Run) -> None:
    """As the first Ctrl-C does to a run in the foreground."""
    if not run.stop_services():
        run.interrupt()


def _as_found(slot: Slot) -> Filled:
    """A slot about which nothing was done."""
    if slot.step in OPEN:
        return Filled(slot=slot, did=TO_GO, state="", code=INTERRUPTED)
    state, code = _AS_FOUND[slot.step]
    return Filled(slot=slot, did=slot.step, state=state, code=code, error=slot.note)
