"""How a driver comes to a run: one that begins, or one that another owner left.

What is on record of an existing run is read after its lock was taken and never before: whatever
another owner wrote until then is part of what is gone on with.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import msgspec

from flowd.authoring.pipeline import Pipeline
from flowd.core import events as e
from flowd.core import states as s
from flowd.core.errors import BadRequest
from flowd.core.run import RunState
from flowd.core.stimuli import Adopted, FoundFresh, Stimulus
from flowd.core.views import INTERRUPTED
from flowd.engine import checkpointing, markers, redefining, secrecy
from flowd.engine.program import Program, from_definition, from_pipeline
from flowd.engine.services import Adapters
from flowd.ports.journal import Writer
from flowd.ports.stores import Checkpoint

if TYPE_CHECKING:
    from flowd.engine.driver import Driver


class Entry(msgspec.Struct, kw_only=True, eq=False):
    """All that a driver needs: the program, the state after record `last`, and what happens first.

    `first` begins the run, or says what happened to one that exists; `lent` are checkpoints
    that stand in for tasks that shall not run. `ask` is awaited then, and what it raises ends it;
    without `go_on` nothing is started after that.
    """

    program: Program
    state: RunState
    last: int
    first: e.RunStarted | Sequence[Stimulus]
    checkpoints: Mapping[str, Checkpoint]
    lent: Sequence[FoundFresh] = ()
    ask: Callable[[Driver], Awaitable[None]] | None = None
    go_on: bool = True


class NeverBegan(BadRequest):
    """A run was made, and whoever made it died before anything was on record."""


def check_same(run: RunState, folder: str, program: Program, params: Mapping[str, Any]) -> None:
    """BadRequest unless the run is one of this pipeline (its name and folder) with these parameters."""
    if (run.spec.name, folder) != (program.spec.name, program.definition.folder) or dict(run.params) != dict(params):
        raise BadRequest(
            f"run {run.id} exists with another pipeline or other parameters; take another --run-id, or none"
        )


Enter = Callable[[Writer], Awaitable[Entry]]
"""Called once the run is locked."""


def beginning(
    program: Program,
    run_id: str,
    first: e.RunStarted,
    checkpoints: Mapping[str, Checkpoint],
    lent: Sequence[FoundFresh] = (),
) -> Enter:
    """A run that has just been made; FileExistsError where another process has begun it since."""

    async def enter(writer: Writer) -> Entry:
        if writer.durable_seq:
            raise FileExistsError(f"run {run_id} has begun")
        state = RunState(run_id, program.spec)
        return Entry(program=program, state=state, last=0, first=first, checkpoints=checkpoints, lent=lent)

    return enter


def adoption(
    adapters: Adapters,
    run_id: str,
    stimuli: Sequence[Stimulus] = (),
    *,
    pipeline: Pipeline | None = None,
    given: Program | None = None,
    params: Mapping[str, Any] | None = None,
    uncalled: bool = False,
    ask: Callable[[Driver], Awaitable[None]] | None = None,
    go_on: bool = True,
    anew: redefining.Ask | None = None,
) -> Enter:
    """A run that exists: adopted, and then told `stimuli`.

    Its functions are those of `pipeline` or `given`, else they are imported again; `uncalled`: none
    will be called. With `params`, it has to be a run of `given` with these. `anew`: it goes on with
    the definition that is given, told what this says. Raises NeverBegan where nothing of it is on
    record.
    """
    if pipeline is not None:
        given = from_pipeline(pipeline)

    async def enter(_writer: Writer) -> Entry:
        state, last, program = await read(adapters, run_id, given, uncalled=uncalled)
        if state.state == s.RUN_NEW:
            raise NeverBegan(
                f"run {run_id} was cut off before its first record: nothing of it is on record; run it anew"
            )
        if params is not None and given is not None:
            check_same(state, program.definition.folder, given, params)
        if state.shape.services:
            await anyio.to_thread.run_sync(markers.sweep, state, program.folder)
        first = [Adopted(adapters.owner), *stimuli]
        if anew is not None and given is not None:
            first += anew(state, program.definition, given, adapters.clock.now())
            program = given
        if program.spec.secrets and not uncalled:
            await secrecy.enter(adapters, program, state if go_on else None, run_id)
        checkpoints = {} if uncalled else await checkpointing.load(adapters, program)
        return Entry(
            program=program,
            state=state,
            last=last,
            first=first,
            checkpoints=checkpoints,
            ask=ask,
            go_on=go_on and not uncalled,
        )

    return enter


async def read(
    adapters: Adapters, run_id: str, given: Program | None = None, *, uncalled: bool = False
) -> tuple[RunState, int, Program]:
    """A run as it stands, the number of its last record, and what can execute it.

    Raises NoSuchRun, StateDamaged, and BadRequest where its functions cannot be had.
    """
    definition = await adapters.journal.definition(run_id)
    state, last = RunState(run_id, definition.spec), 0
    async for envelope in adapters.journal.read(run_id):
        state.apply(envelope.event, envelope.at)
        last = envelope.seq
    definition = msgspec.structs.replace(definition, spec=state.spec)  # as it goes on: it may have been redefined
    if uncalled:
        return state, last, Program(definition, {}, {}, {})
    return state, last, from_definition(definition) if given is None else given.within(definition)


async def is_paused(adapters: Adapters, run_id: str) -> bool:
    """Whether a run was paused, but not by a stop signal, and nobody has gone on with it since. Raises as `read`."""
    last: e.AnyEvent | None = None
    async for envelope in adapters.journal.select(run_id, ("run_paused", "run_adopted")):
        last = envelope.event
    return isinstance(last, e.RunPaused) and last.reason != INTERRUPTED


async def has_ended(adapters: Adapters, run_id: str) -> bool:
    """Whether a run has ended and was not asked for again: known without reading all of it. Raises as `read`."""
    last: e.AnyEvent | None = None
    async for envelope in adapters.journal.select(run_id, ("run_finished", "run_reopened")):
        last = envelope.event
    return isinstance(last, e.RunFinished)
