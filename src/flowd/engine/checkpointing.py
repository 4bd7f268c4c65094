"""A run's successes on their way to the checkpoints that later runs are judged against."""

from __future__ import annotations

from flowd.core import states as s
from flowd.core.events import Reason
from flowd.core.items import fan_of, name_of
from flowd.core.run import RunState
from flowd.core.spec import PipelineSpec
from flowd.engine.program import Program
from flowd.engine.services import Adapters
from flowd.ports.stores import Checkpoint


def keeps(spec: PipelineSpec) -> bool:
    """Whether any task of the pipeline leaves a checkpoint that a later run could look for."""
    return any(task.cache or task.outputs for task in spec.tasks)


async def load(adapters: Adapters, program: Program) -> dict[str, Checkpoint]:
    """The newest checkpoints of this pipeline."""
    if not keeps(program.spec):
        return {}
    return await adapters.checkpoints.load(adapters.key(program.spec.name, program.folder))


async def announce(adapters: Adapters, program: Program, run_id: str) -> None:
    """Say, durably, that this run may leave checkpoints, so that a crash hides none of them."""
    if keeps(program.spec):
        await adapters.checkpoints.announce(adapters.key(program.spec.name, program.folder), run_id)


async def merge(adapters: Adapters, program: Program, run: RunState) -> None:
    """Take in what succeeded in this run. Everything merged is durable in its journal before."""
    if keeps(program.spec):
        await adapters.checkpoints.merge(adapters.key(program.spec.name, program.folder), run.id, newest(run))


def newest(run: RunState) -> dict[str, Checkpoint]:
    """The checkpoints of the tasks that stand as succeeded in a run; refused ones where a gate has failed."""
    found = {}
    for number, (spec, task) in enumerate(zip(run.shape.specs, run.tasks, strict=True)):
        if task.state == s.FAILED and task.ended_at is not None and _gate_failed(task.reason):
            refused = Checkpoint(run=run.id, at=task.ended_at, attempt=task.attempt, refused=True)
            found[name_of(run, number)] = refused
        if task.ended_at is None or (task.state != s.SUCCEEDED and not _has_moved(run, number)):
            continue
        if not task.attempts and number not in run.fans and task.state != s.FRESH:  # a person said so
            continue
        if number >= run.declared and not (spec.cache or spec.outputs):
            continue  # there may be very many, and nobody would look for them
        began = task.attempts[-1].started_at if task.attempts else task.tried_at or task.ended_at
        found[name_of(run, number)] = Checkpoint(
            run=task.source or run.id,
            at=task.ended_at,
            attempt=task.attempt,
            duration_s=(task.ended_at - began).total_seconds(),
            result=task.result,
            outputs=task.outputs,
            metrics=task.metrics,
            parts=task.parts,
        )
    return found


def _has_moved(run: RunState, number: int) -> bool:
    """Whether a fresh item may have stood in another place of its list: what is kept under its place is another's."""
    fan, task = fan_of(run, number), run.tasks[number]
    if fan is None or fan.keys or fan.template.matrix or task.state != s.FRESH:
        return False
    return fan.template.fresh_for is None  # else it would seem younger than it is


def _gate_failed(reason: Reason | None) -> bool:
    return reason is not None and reason.code == "gate_failed"
