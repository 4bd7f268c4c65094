"""What must hold before a run starts: refused here, nothing has been written yet."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from datetime import datetime

from flowd.core import events as e
from flowd.core.errors import BadPipeline, BadRequest, Problem
from flowd.core.expressions import ExpressionError
from flowd.core.keyed import EACH, declared
from flowd.core.limits import Admission
from flowd.core.patterns import Glob, folders_above, named
from flowd.core.reasons import because
from flowd.core.run import RunState
from flowd.core.shape import select
from flowd.core.spec import PipelineSpec, Rate, TaskSpec, section_of, task_map
from flowd.core.stimuli import FoundFresh
from flowd.engine.files import Declared, Files
from flowd.engine.prepare import Resolver
from flowd.engine.program import Program
from flowd.engine.references import referenced_tasks
from flowd.ports.stores import Checkpoint


def check_request(
    spec: PipelineSpec,
    tasks: Collection[str],
    force_tasks: Collection[str],
    limits: Mapping[str, float],
    *,
    patient: bool,
) -> None:
    """BadRequest for a task that does not exist, can never fit the engine's limits, or wants a patient engine."""
    known = task_map(spec)
    for name in (*tasks, *force_tasks):
        if name not in known:
            import difflib

            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(list(known)[:10])}"
            raise BadRequest(f"pipeline {spec.name} has no task {name}; {hint}")
    chosen = set(select(spec.tasks, tasks)) if tasks else known.keys()
    for task in spec.tasks:
        if not patient and task.name in chosen and task.service is not None and task.service.keep == "always":
            hint = "begin it by a schedule, a trigger or the API of `flowd serve`, or write `keep: run`"
            raise BadRequest(f"service {task.name} is kept always, which the daemon does; {hint}")
        for name, weight in task.uses.items():
            bound = declared(limits, name)
            if bound is not None and weight > bound:
                raise BadRequest(f"task {task.name} uses {weight:g} of {name}, but the engine's limit is {bound:g}")


def open_limits(
    admission: Admission[Hashable],
    rates: dict[str, Rate],
    limits: Mapping[str, float],
    living: Collection[PipelineSpec],
    changed: PipelineSpec,
) -> None:
    """Make known what is said of limits, once a run of `changed` has begun or ended: it counts where it is `living`.

    The engine's own win; of several declared the tightest holds, of rates the slowest.
    """
    of_keys = any(name.endswith(EACH) for name in (*changed.limits, *changed.rates))
    touched = (*living, changed) if of_keys else (changed,)  # keys that others use may be among what it says of each
    for name in {name for spec in touched for name in _limits_of(spec)}:
        if declared(limits, name) is None:
            found = [capacity for spec in living if (capacity := declared(spec.limits, name)) is not None]
            admission.resize(name, min(found, default=None))
        else:
            admission.resize(name, declared(limits, name))
        slow = [rate for spec in living if (rate := declared(spec.rates, name)) is not None]
        if slow:
            rates[name] = max(slow, key=lambda rate: rate.per / rate.count)
        else:
            rates.pop(name, None)


def _limits_of(spec: PipelineSpec) -> set[str]:
    """The names of all that a pipeline says or uses of limits; of those for each key, the keys that are used."""
    if not spec.limits and not spec.rates and not any(task.uses for task in spec.tasks):
        return set()
    said = {name for name in (*spec.limits, *spec.rates) if not name.endswith(EACH)}
    return said.union(*(task.uses for task in spec.tasks))


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
        if checkpoint is None or checkpoint.refused:
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


def check_inputs(program: Program, first: e.RunStarted, now: datetime, *, done: Collection[str] = ()) -> None:
    """BadPipeline (`input_missing`) for inputs that are not there and that no task writes.

    Nothing is asked of the tasks that are `done`, since they read no more.
    """
    spec = program.spec
    if not any(task.inputs for task in spec.tasks):
        return
    run = RunState("check", spec)
    run.apply(first, now)
    files = Files(program.folder)
    resolver = Resolver(run, files)
    written: _Written | None = None  # what is there needs no writer
    problems = []
    for task in [task for task in run.shape.specs if task.name not in done]:
        for number, path in enumerate(_inputs_known_now(resolver, task)):
            place = files.place(path)
            if not isinstance(path, Glob) and os.path.exists(place):
                continue
            if written is None:
                written = _Written(spec, files, resolver)
            if written.brings(place):
                continue
            if isinstance(path, Glob) and (files.matches(path) or written.meets(path)):
                continue
            line, column = program.place((section_of(task), task.name, "inputs", number)) or (None, None)
            problems.append(
                Problem(
                    file=program.file,
                    line=line,
                    column=column,
                    key=f"{section_of(task)}.{task.name}.inputs[{number}]",
                    code="input_missing",
                    message=f"{path} is not there, and no task writes it",
                    hint=f"put the file at {place}, or name the task that writes it in its outputs",
                )
            )
    if problems:
        raise BadPipeline(problems)


_OPEN = re.compile(r"\{\{.*?\}\}", re.DOTALL)


class _Written:
    """What the tasks of a pipeline write, as far as it is known before they run."""

    def __init__(self, spec: PipelineSpec, files: Files, resolver: Resolver) -> None:
        outputs = [path for task in spec.tasks for path in _outputs_known_now(resolver, task)]
        self._files = files
        self._declared = Declared(files, outputs)
        self._places = self._declared.places
        self._folders = {os.path.dirname(place) for place in self._places}
        self._around = {above for folder in self._folders for above in (folder, *folders_above(folder))}

    def brings(self, place: str) -> bool:
        """Whether a task writes this, something in it, or the folder that it is in."""
        if place in self._places or place in self._around or not self._places.isdisjoint(folders_above(place)):
            return True
        return place in self._declared

    def meets(self, named: Glob) -> bool:
        """Whether a task writes into the folder of a glob, or what it finds."""
        return os.path.dirname(self._files.place(named)) in self._folders or self._declared.meets(named)


def _inputs_known_now(resolver: Resolver, task: TaskSpec) -> tuple[str, ...]:
    try:
        return resolver.inputs(task)
    except ExpressionError:
        return ()  # it depends on another task: looked at when its turn comes


def _outputs_known_now(resolver: Resolver, task: TaskSpec) -> tuple[str, ...]:
    """What a task writes; where an expression waits for another task or an item, it stands for any text."""
    try:
        return tuple(path for _, path in resolver.outputs(task))
    except ExpressionError:
        return tuple(named(_OPEN.sub("*", ref.path)) for ref in task.outputs)
