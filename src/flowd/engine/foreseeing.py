"""What a run would do with each task, told and not done: the pass over the graph as `plan` shows it."""

from __future__ import annotations

import anyio
import anyio.to_thread

from flowd.core.events import RunStarted
from flowd.core.reasons import because
from flowd.core.run import RunState
from flowd.core.spec import TaskSpec
from flowd.engine import checkpointing
from flowd.engine.program import Program
from flowd.engine.services import Adapters
from flowd.engine.survey import RUN, WAIT, Standing, Survey, files_of


async def foresee(
    adapters: Adapters, program: Program, first: RunStarted, threads: anyio.CapacityLimiter | None
) -> dict[str, Standing]:
    """What a run that began with `first` would do with each task; nothing is written."""
    _, standings = await foreseen(adapters, program, first, threads)
    return standings


async def foreseen(
    adapters: Adapters, program: Program, first: RunStarted, threads: anyio.CapacityLimiter | None
) -> tuple[RunState, dict[str, Standing]]:
    """As `foresee`, with the run as it would be once what is fresh is settled."""
    state, now = RunState("plan", program.spec), adapters.clock.now()
    state.apply(first, now)
    known = await checkpointing.load(adapters, program)
    survey = Survey(
        state,
        files_of(adapters, program),
        known,
        function_file=program.function_file,
        bindings=program.bindings,
        hide=adapters.secrecy.hide,
    )
    standings, _ = await anyio.to_thread.run_sync(survey.pass_over, now, limiter=threads)
    specs = state.shape.specs
    told = {specs[number].name: _for_a_plan(specs[number], standing) for number, standing in standings.items()}
    return state, told


def _for_a_plan(spec: TaskSpec, standing: Standing) -> Standing:
    """What would run waits first, where a person is asked."""
    return Standing(WAIT, because("approval.plan")) if spec.approve is not None and standing.action == RUN else standing
