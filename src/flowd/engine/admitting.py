"""What must hold before a run starts: refused here, nothing has been written yet."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Hashable, Mapping, Sequence
from datetime import datetime

from flowd.core import events as e
from flowd.core.errors import BadPipeline, BadRequest, Problem
from flowd.core.expressions import ExpressionError
from flowd.core.graph import finds, is_pattern
from flowd.core.limits import Admission
from flowd.core.reasons import because
from flowd.core.run import RunState
from flowd.core.spec import PipelineSpec, TaskSpec, task_map
from flowd.core.stimuli import FoundFresh
from flowd.engine.files import Files
from flowd.engine.prepare import Resolver, referenced_tasks
from flowd.engine.program import Program
from flowd.ports.stores import Checkpoint


def files_of(program: Program) -> Files:
    """The files of a program's folder."""
    return Files(program.folder)


def check_request(
    spec: PipelineSpec, tasks: Collection[str], force_tasks: Collection[str], limits: Mapping[str, float]
) -> None:
    """BadRequest for a task that does not exist or can never fit the engine's limits."""
    known = task_map(spec)
    for name in (*tasks, *force_tasks):
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(list(known)[:10])}"
            raise BadRequest(f"pipeline {spec.name} has no task {name}; {hint}")
    for task in spec.tasks:
        for name, weight in task.uses.items():
            if name in limits and weight > limits[name]:
                raise BadRequest(
                    f"task {task.name} uses {weight:g} of {name}, but the engine's limit is {limits[name]:g}"
                )


def open_limits(
    admission: Admission[Hashable], limits: Mapping[str, float], living: Collection[PipelineSpec], ended: PipelineSpec
) -> None:
    """Make the limits of the living runs' pipelines known, those of one that `ended` no more.

    The engine's own win; of several declared the tightest holds.
    """
    for name in {*ended.limits, *(name for spec in living for name in spec.limits)} - limits.keys():
        declared = [spec.limits[name] for spec in living if name in spec.limits]
        admission.resize(name, min(declared, default=None))


def with_direct_needs(spec: PipelineSpec, tasks: Sequence[str]) -> tuple[str, ...]:
    """The named tasks with what they need directly or refer to, in written order."""
    known = task_map(spec)
    chosen = {*tasks, *(need for name in tasks for need in known[name].needs)}
    chosen |= {above for name in tasks for above in referenced_tasks(known[name])}
    return tuple(name for name in known if name in chosen)


def lent(tasks: Collection[str], selected: Collection[str], checkpoints: Mapping[str, Checkpoint]) -> list[FoundFresh]:
    """The needs that shall not run, each by its newest checkpoint; BadRequest where one has none."""
    found = []
    for name in selected:
        if name in tasks:
            continue
        checkpoint = checkpoints.get(name)
        if checkpoint is None:
            raise BadRequest(f"{name} has no checkpoint to stand in for it; run it first, or leave --only out")
        found.append(
            FoundFresh(
                task=name,
                source=checkpoint.run,
                result=checkpoint.result,
                outputs=checkpoint.outputs,
                metrics=checkpoint.metrics,
                parts=checkpoint.parts,
                reason=because("only", tasks=", ".join(tasks), run=checkpoint.run),
            )
        )
    return found


def check_inputs(program: Program, first: e.RunStarted, now: datetime) -> None:
    """BadPipeline (`input_missing`) for inputs that are not there and that no task writes."""
    spec = program.spec
    if not any(task.inputs for task in spec.tasks):
        return
    run = RunState("check", spec)
    run.apply(first, now)
    files = files_of(program)
    resolver = Resolver(run, files)
    written = {files.path(ref.path) for task in spec.tasks for ref in task.outputs if "{{" not in ref.path}
    patterns = [str(path) for path in written if is_pattern(str(path))]
    around = {above for path in written for above in path.parents}
    problems = []
    for task in run.shape.specs:
        for number, path in enumerate(_inputs_known_now(resolver, task)):
            place = files.path(path)
            found = files.matches(path)
            if any(finds(pattern, str(place)) for pattern in patterns):
                continue
            if place in around or not written.isdisjoint((place, *place.parents)):
                continue
            if (found and place.exists()) or (found and found != [path]):
                continue
            if found == [] and place.parent in {other.parent for other in written}:
                continue  # a glob over a folder that a task writes into
            line, column = program.place(("tasks", task.name, "inputs", number)) or (None, None)
            problems.append(
                Problem(
                    file=program.file,
                    line=line,
                    column=column,
                    key=f"tasks.{task.name}.inputs[{number}]",
                    code="input_missing",
                    message=f"{path} is not there, and no task writes it",
                    hint=f"put the file at {place}, or name the task that writes it in its outputs",
                )
            )
    if problems:
        raise BadPipeline(problems)


def _inputs_known_now(resolver: Resolver, task: TaskSpec) -> tuple[str, ...]:
    try:
        return resolver.inputs(task)
    except ExpressionError:
        return ()  # it depends on another task: looked at when its turn comes
