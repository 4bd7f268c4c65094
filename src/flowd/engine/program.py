"""What an engine can execute: a definition with the living functions that it calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flowd.authoring.binding import Binding, item_names, reconcile_key
from flowd.authoring.pipeline import Pipeline
from flowd.core.errors import BadRequest
from flowd.core.fanout import base_name
from flowd.core.spec import Call, Definition, Nested, TaskSpec
from flowd.engine.retrying import Strategies


class Program:
    """A definition and its functions, by task name; `file` and `place` are how messages point into it."""

    def __init__(
        self,
        definition: Definition,
        functions: Mapping[str, Callable[..., Any]],
        bindings: Mapping[str, Binding],
        strategies: Mapping[str, Strategies],
        file: str = "",
        place: Callable[[tuple[str | int, ...]], tuple[int, int] | None] = lambda _path: None,
        inner: Callable[[str], Program] | None = None,
    ) -> None:
        self.definition = definition
        self.spec = definition.spec
        self.folder = Path(definition.folder)
        self.functions = functions
        self.bindings = bindings
        self.strategies = strategies
        self.file = file or definition.source or definition.spec.name
        self.place = place
        self._files: dict[int, Path | None] = {}
        self._inner = inner

    def inner(self, task: str, action: Nested) -> Program:
        """The program of a task that is a pipeline, as it was when this one was read.

        Raises BadRequest where its functions cannot be had.
        """
        if self._inner is None:
            return from_definition(action.definition)
        return self._inner(base_name(task)).within(action.definition)

    def within(self, definition: Definition) -> Program:
        """The same functions for a run that was recorded with `definition`, whatever was edited since."""
        if definition.spec == self.spec:
            return self
        return Program(definition, self.functions, self.bindings, self.strategies, self.file, self.place, self._inner)

    def function_file(self, task: str) -> Path | None:
        """The file that a task's function was written in, where there is one."""
        function = self.functions.get(base_name(task))
        if function is None:
            return None
        key = id(function)  # which lives as long as the program
        if key not in self._files:
            self._files[key] = _source_file(function)
        return self._files[key]


def _source_file(function: Callable[..., Any]) -> Path | None:
    import inspect

    try:
        found = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        return None
    return Path(found) if found and Path(found).is_file() else None


def from_pipeline(pipeline: Pipeline) -> Program:
    """The program of a pipeline as it stands; raises BadPipeline."""
    definition = pipeline.definition()
    return Program(
        definition,
        pipeline.functions,
        pipeline.bindings,
        pipeline.strategies,
        pipeline.file,
        pipeline.place,
        inner=lambda task: from_pipeline(pipeline.inner[task]),
    )


def from_definition(definition: Definition) -> Program:
    """The program of a recorded run: its functions are imported again from beside its file.

    Raises BadRequest where they cannot be.
    """
    from flowd.authoring.resolve import bind, bind_reconcile

    functions: dict[str, Callable[..., Any]] = {}
    bindings: dict[str, Binding] = {}
    for task in definition.spec.tasks:
        if isinstance(task.action, Call):
            function = functions[task.name] = _imported(definition, task, task.action)
            bindings[task.name] = bind(function, task.needs, task.with_, item_names(task))
        if task.reconcile is not None:
            key = reconcile_key(task.name)
            functions[key] = _imported(definition, task, task.reconcile)
            bindings[key] = bind_reconcile(functions[key], task.needs, task.with_, item_names(task))
    return Program(definition, functions, bindings, {})


def lives_in_its_program(call: Call) -> bool:
    """Whether nothing but the program that began the run has this function: a script's own, or a local one."""
    return call.module == "__main__" or "<" in call.function


def _imported(definition: Definition, task: TaskSpec, call: Call) -> Callable[..., Any]:
    if lives_in_its_program(call):
        raise BadRequest(
            f"task {task.name} calls {call.module}:{call.function}, which lives only in the program that started the "
            "run; go on with engine.resume(run_id, pipeline) there, or move the function into a module"
        )
    from flowd.authoring.resolve import resolve_call

    return resolve_call(Path(definition.folder), call.module, call.function)
