"""Whether a run may go on with its pipeline as it is written now, and what is asked of it then."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from datetime import datetime

import msgspec

from flowd.authoring.params import resolve_params
from flowd.core import states as s
from flowd.core.codec import MAX_LINE
from flowd.core.deciding.anew import still_chosen
from flowd.core.errors import BadRequest
from flowd.core.events import RunStarted
from flowd.core.fanout import base_name
from flowd.core.run import RunState
from flowd.core.shape import Shape
from flowd.core.spec import Definition, PipelineSpec
from flowd.core.stimuli import Redefined, RetryAsked, Stimulus
from flowd.engine import admitting
from flowd.engine.program import Program

Ask = Callable[[RunState, Definition, Program, datetime], list[Stimulus]]
"""What a run that stands so, recorded with this definition, is told before it goes on with another program."""


def asking(by: str = "", again: RetryAsked | None = None) -> Ask:
    """Let the run go on with the other program, and have some of its tasks `again`."""

    def ask(run: RunState, recorded: Definition, program: Program, now: datetime) -> list[Stimulus]:
        spec = program.spec
        _refuse(run, recorded, program, again)
        if spec == run.spec:
            return [again] if again is not None else []
        params = resolve_params(spec.params, {k: v for k, v in run.params.items() if k in spec.params}, text=False)
        chosen = still_chosen(run, spec)
        if again is not None:
            there = chosen or tuple(task.name for task in spec.tasks)
            refuse_unknown(again.tasks, there, f"run {run.id}, as it is written now,")
        first = RunStarted(pipeline=spec.name, spec="", params=params, tasks=chosen)
        admitting.check_inputs(program, first, now, done=_done(run, spec, again))
        return [Redefined(definition=spec, spec=_digest(spec), params=params, by=by, again=again)]

    return ask


def _done(run: RunState, spec: PipelineSpec, again: RetryAsked | None) -> set[str]:
    """The tasks that have ended well and are not asked for again: what they read may be gone."""
    well = {task.name for task, state in run.own() if state.ok}
    if again is None:
        return well
    well.difference_update(again.tasks)
    if again.downstream:
        shape = Shape(spec.tasks)
        chosen = [shape.index[name] for name in again.tasks or shape.index if name in shape.index and name not in well]
        well.difference_update(shape.specs[number].name for number in shape.reach(chosen, down=True))
    return well


def refuse_unknown(tasks: tuple[str, ...], known: Collection[str], where: str) -> None:
    """BadRequest for the first of `tasks` that is not among the `known`."""
    for name in tasks:
        if name not in known:
            raise BadRequest(f"{where} has no task {name}")


def _refuse(run: RunState, recorded: Definition, program: Program, again: RetryAsked | None) -> None:
    """BadRequest for a run that cannot be mapped to the program."""
    spec = program.spec
    if (spec.name, program.definition.folder) != (recorded.spec.name, recorded.folder):
        raise BadRequest(
            f"run {run.id} is one of pipeline {recorded.spec.name} in {recorded.folder}; "
            f"it cannot go on as {spec.name} in {program.definition.folder}: start a new run"
        )
    if run.state == s.RUN_CANCELLING:
        raise BadRequest(f"run {run.id} is being cancelled: it goes on with nothing")
    if again is None and run.state in s.RUN_ENDED:
        hint = (
            "start a new run" if run.state == s.RUN_SUCCEEDED else "ask for what failed again, with the new definition"
        )
        word = {s.RUN_CANCELLED: "was", s.RUN_PARTIAL: "is"}.get(run.state, "has")
        raise BadRequest(f"run {run.id} {word} {run.state}, so there is nothing to go on with; {hint}")
    there = {task.name: (task.foreach, task.matrix) for task in spec.tasks}
    for task, state in zip(run.shape.specs, run.tasks, strict=True):
        unknown = state.state == s.UNCERTAIN or (state.state == s.RUNNING and not task.idempotent)  # its owner died
        name = base_name(task.name)
        before = None if name == task.name else run.shape.specs[run.shape.index[name]]
        if before is not None and there.get(name) != (before.foreach, before.matrix) and unknown:
            raise BadRequest(
                f"{task.name} is uncertain, and what {name} is carried out for has changed: resolve it first "
                f"(flowd resolve {run.id} '{task.name}' --as VERDICT), or put that back"
            )
        if name not in there and unknown:
            raise BadRequest(
                f"task {task.name} is uncertain, and is no longer in the pipeline: nobody could say what became of it; "
                f"resolve it first (flowd resolve {run.id} {task.name} --as VERDICT), or put it back"
            )


def _digest(spec: PipelineSpec) -> str:
    """What the event calls the specification by; BadRequest where it would fit no record."""
    data = msgspec.json.encode(spec)
    if len(data) > MAX_LINE // 2:
        raise BadRequest(
            f"the pipeline is {len(data)} bytes as a record, too long for a run to go on with: start a new run"
        )
    return hashlib.sha256(data).hexdigest()
