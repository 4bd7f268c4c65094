"""What a run would do with each task, told and not done: the pass over the graph as `plan` shows it."""

from __future__ import annotations

import anyio
import anyio.to_thread

from flowd.authoring.params import resolve_params
from flowd.core import states as s
from flowd.core.errors import BadParameters
from flowd.core.events import RunStarted
from flowd.core.expressions import ExpressionError
from flowd.core.reasons import because
from flowd.core.run import RunState
from flowd.core.spec import Nested, TaskSpec
from flowd.engine import checkpointing, results
from flowd.engine.prepare import Resolver
from flowd.engine.program import Program
from flowd.engine.references import referenced_results
from flowd.engine.services import Adapters
from flowd.engine.survey import FRESH, RUN, SKIP, WAIT, Standing, Survey, files_of


async def foresee(
    adapters: Adapters, program: Program, first: RunStarted, threads: anyio.CapacityLimiter | None
) -> dict[str, Standing]:
    """What a run that began with `first` would do with each task; nothing is written."""
    state, standings = await foreseen(adapters, program, first, threads)
    for spec, task in state.own():
        standing = standings.get(spec.name)
        if standing is not None and standing.reason.code == "pipeline" and task.state == s.PENDING:
            standings[spec.name] = await _within(adapters, program, state, spec, threads) or standing
    return standings


async def _within(
    adapters: Adapters, program: Program, state: RunState, spec: TaskSpec, threads: anyio.CapacityLimiter | None
) -> Standing | None:
    """What becomes of a task that is a pipeline, by what becomes of its tasks; None where that cannot be told yet."""
    assert isinstance(spec.action, Nested)
    inner = program.inner(spec.name, spec.action)
    named = sorted(referenced_results(spec) & {*state.shape.index})
    values = {name: await results.load(state.task(name).result, adapters.results) for name in named}
    try:
        given = Resolver(state, files_of(adapters, program)).given(spec, values)
        params = resolve_params(inner.spec.params, given, text=False)
    except (ExpressionError, BadParameters):
        return None  # said when its turn comes
    first = RunStarted(pipeline=inner.spec.name, spec="", params=params)
    found = await foresee(adapters, inner, first, threads)
    stale = {name: one for name, one in found.items() if one.action not in {FRESH, SKIP}}
    if not stale:
        return Standing(FRESH, because("fresh.within"))
    name, one = next(iter(stale.items()))
    reason = because("tasks_stale", stale=len(stale), total=len(found), task=name, why=one.reason.sentence)
    return Standing(RUN, reason)


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
