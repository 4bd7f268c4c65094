"""`Pipeline`: the one model of a pipeline, built in Python or loaded from a file.

House rules of this room. A pipeline holds what was written, and nothing is judged before it is
asked for: `definition()` reads and checks all of it at once, in the same way as a file, and the
answer is kept until something is added. Only a function's parameters are judged when it is
decorated, since there the mistake is on the screen. What reads and checks is imported when it
is needed: a file that was checked before is run without it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, overload

from flowd.authoring.binding import Binding, Checked, reconcile_key
from flowd.authoring.findings import Findings, FunctionLines, KeyPath, Source
from flowd.authoring.given import Needs, call_of, file_of, listed, names, not_callable, written
from flowd.authoring.importing import CallError
from flowd.authoring.retry import Retry, Strategy
from flowd.authoring.task import Task, plain_function
from flowd.core.errors import BadPipeline, Problem
from flowd.core.spec import Call, Definition, PipelineSpec, section_of

P = ParamSpec("P")
R = TypeVar("R")


class Pipeline:
    """A named graph of tasks.

    `folder` is where relative paths start: the folder of the module that makes the pipeline,
    where it is not given. `params`, `limits`, `max_concurrency`, `defaults` and `more` are the
    keys of a pipeline file under the same names.
    """

    def __init__(
        self,
        name: str,
        *,
        folder: str | Path | None = None,
        params: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
        max_concurrency: int | None = None,
        defaults: Mapping[str, Any] | None = None,
        schedule: Mapping[str, Any] | Sequence[Any] | None = None,
        **more: Any,
    ) -> None:
        if "tasks" in more:
            raise TypeError("Pipeline() takes no tasks: add them with `task` and `shell`")
        if "include" in more:
            raise TypeError("Pipeline() includes no files: share values as Python does, from a module")
        made_in = file_of(sys._getframe(1).f_globals)  # noqa: SLF001  # whoever makes the pipeline
        self.name = name
        self._folder = Path(folder if folder is not None else made_in.parent if made_in else Path.cwd()).absolute()
        given: dict[str, Any] = {
            "params": params,
            "limits": limits,
            "max_concurrency": max_concurrency,
            "defaults": defaults,
        }
        given |= {"schedule": schedule, **{key.removesuffix("_"): value for key, value in more.items()}}
        self._raw: dict[str, Any] = {"name": name, **{key: item for key, item in given.items() if item is not None}}
        self._raw["tasks"] = {}
        self._own: dict[str, Callable[..., Any]] = {}
        self._source: Source = FunctionLines(str(made_in) if made_in else name)
        self._named: str | None = None
        self._inner: dict[str, Pipeline] = {}
        self._built: Checked | None = None
        self._again: Callable[[], dict[str, Any]] | None = None  # reads what stands in a file that was not parsed
        self._found: dict[tuple[str, str], Callable[..., Any] | CallError] = {}

    def __repr__(self) -> str:
        return f"<Pipeline {self.name}>"

    @classmethod
    def load(cls, path: str | Path) -> Pipeline:
        """The pipeline in a YAML file, in `file.py[:name]` or in `module:name`.

        Raises BadPipeline with every problem.
        """
        from flowd.authoring.loading import load

        return load(str(path))

    # --- adding tasks ------------------------------------------------------------------------------

    @overload
    def task(self, fn: Callable[P, R], /, **policies: Any) -> Task[P, R]: ...

    @overload
    def task(
        self,
        fn: None = None,
        /,
        *,
        name: str | None = None,
        needs: Needs = (),
        foreach: Any = None,
        matrix: Mapping[str, Any] | None = None,
        replace: bool = False,
        **policies: Any,
    ) -> Callable[[Callable[P, R]], Task[P, R]]: ...

    def task(
        self,
        fn: Callable[P, R] | None = None,
        /,
        *,
        name: str | None = None,
        needs: Needs = (),
        foreach: Any = None,
        matrix: Mapping[str, Any] | None = None,
        replace: bool = False,
        **policies: Any,
    ) -> Task[P, R] | Callable[[Callable[P, R]], Task[P, R]]:
        """Make a function a task; `policies` are the keys of a task in a file (`with_` for `with`).

        A parameter that is named after an earlier task is a need and receives its result; `ctx`
        is the attempt's context. With `foreach` (a task stands for its result) the function is called
        for each item of a list, with `matrix` for each combination of its axes; a parameter `item`,
        `index` or `matrix` receives which. With `finally_=True` it stands under `finally`. Raises
        BadPipeline for a parameter that nothing is passed for, and for a name that is taken unless `replace`.
        """

        def decorate(function: Callable[P, R]) -> Task[P, R]:
            plain: Any = function.function if isinstance(function, Task) else function
            chosen = name if name is not None else str(getattr(plain, "__name__", ""))
            raw = {"call": call_of(plain), **written({**policies, "foreach": foreach, "matrix": matrix})}
            self._add(chosen, raw, needs, replace=replace, function=plain)
            return Task(chosen, plain)

        return decorate if fn is None else decorate(fn)

    def shell(
        self,
        name: str,
        command: str | Sequence[str],
        *,
        needs: Needs = (),
        replace: bool = False,
        **policies: Any,
    ) -> Task[[], None]:
        """Add a command: a text for the shell, or an argument vector without one."""
        raw = {"run": command, **written(policies)}
        self._add(name, raw, [*names(needs), *listed(raw.get("foreach"))], replace=replace)
        return Task(name, not_callable)

    def service(
        self,
        name: str,
        action: str | Sequence[str] | Callable[..., Any],
        *,
        needs: Needs = (),
        replace: bool = False,
        **policies: Any,
    ) -> Task[[], None]:
        """Add a service: a command, or a function of a module, that goes on for as long as it is needed.

        `policies` are those of any task, and `port`, `ready`, `restart`, `keep`, `lifetime` and `stop`, as in a file.
        """
        function = action if callable(action) else None
        raw = {"service": action if function is None else {"call": call_of(function)}, **written(policies)}
        self._add(name, raw, needs, replace=replace, function=function)
        return Task(name, not_callable)

    def include(
        self,
        name: str,
        pipeline: Pipeline | str | Path,
        *,
        needs: Needs = (),
        with_: Mapping[str, Any] | None = None,
        replace: bool = False,
        **policies: Any,
    ) -> Task[[], None]:
        """Add another pipeline (or a file, or a name) as a task, with `with_` as its parameters.

        It has a run of its own; the task's result is what its `result` gives.
        """
        raw = {"pipeline": pipeline, **written({"with": with_, **policies})}
        self._add(name, raw, [*names(needs), *listed(raw.get("foreach"))], replace=replace)
        return Task(name, not_callable)

    def approve(
        self,
        name: str,
        message: str | None = None,
        *,
        by: Sequence[str] = (),
        form: Mapping[str, Any] | None = None,
        show: Sequence[str | Path] = (),
        timeout: Any = None,
        then: str | None = None,
        needs: Needs = (),
        replace: bool = False,
        **policies: Any,
    ) -> Task[[], None]:
        """Add a person's answer as a task of its own; its result has `comment`, `by`, `at` and the fields of `form`."""
        asked = {"message": message, "form": form, "timeout": timeout, "then": then}
        asked |= {"by": list(by) or None, "show": [str(path) for path in show] or None}
        raw = {"approve": written(asked), **written(policies)}
        self._add(name, raw, needs, replace=replace)
        return Task(name, not_callable)

    def wait(
        self,
        name: str,
        duration: Any = None,
        *,
        until: Any = None,
        timezone: str | None = None,
        needs: Needs = (),
        replace: bool = False,
        **policies: Any,
    ) -> Task[[], None]:
        """Add a task that waits: for a `duration` once its turn has come, or `until` a moment in `timezone`."""
        waited = duration if duration is not None else written({"until": until, "timezone": timezone})
        self._add(name, {"wait": waited, **written(policies)}, needs, replace=replace)
        return Task(name, not_callable)

    def _add(
        self,
        name: str,
        raw: dict[str, Any],
        needs: Needs,
        *,
        replace: bool,
        function: Callable[..., Any] | None = None,
    ) -> None:
        from flowd.authoring.resolve import mismatches, parameters_of

        if self._again is not None:
            self._raw, self._again = self._again(), None
        section = "finally" if raw.pop("finally", False) else "tasks"
        tasks = self._raw.setdefault(section, {})
        if name in tasks and not replace:
            hint = "give it another `name`, or say `replace=True`"
            raise BadPipeline([self._problem((section, name), "duplicate_task", f"`{name}` is a task already", hint)])
        wanted = names(needs)
        with_ = raw.get("with")
        passed = with_ if isinstance(with_, Mapping) else {}
        if function is not None:
            if isinstance(self._source, FunctionLines):
                self._source.note(name, function)
            taken = parameters_of(function)
            wanted += [one for one in taken if one in tasks and one != name and one not in (*wanted, *passed, "ctx")]
            later = {"item", "index"} if "foreach" in raw else {"matrix", "index"} if "matrix" in raw else set()
            wanted += [one for one in listed(raw.get("foreach")) if one not in wanted]
            misfits = mismatches(function, [*wanted, *later], passed, tasks)
            problems = [self._problem((section, name), code, message, hint) for code, message, hint in misfits]
            if problems:
                raise BadPipeline(problems)
            self._own[name] = function
        else:
            self._own.pop(name, None)
        self._own.pop(reconcile_key(name), None)
        if callable(asked := plain_function(raw.get("reconcile"))):
            self._own[reconcile_key(name)], raw["reconcile"] = asked, call_of(asked)
        if wanted:
            raw["needs"] = wanted
        tasks[name] = raw
        self._built = None

    def _problem(self, path: KeyPath, code: str, message: str, hint: str) -> Problem:
        findings = Findings(self._source)
        findings.add(code, path, message, hint)
        return findings.problems[0]

    # --- what it is --------------------------------------------------------------------------------

    def definition(self) -> Definition:
        """The whole specification and where it came from. Raises BadPipeline with every problem."""
        return Definition(spec=self.spec, folder=str(self._folder), source=self._named)

    @property
    def spec(self) -> PipelineSpec:
        """The specification, checked. Raises BadPipeline."""
        return self._checked().spec

    @property
    def functions(self) -> Mapping[str, Callable[..., Any]]:
        """The function of each task that calls one."""
        return self._checked().functions

    @property
    def bindings(self) -> Mapping[str, Binding]:
        """How each of these functions is called."""
        return self._checked().bindings

    @property
    def strategies(self) -> dict[str, tuple[Strategy | None, Strategy | None, Strategy | None]]:
        """tenacity's own objects (stop, wait, retry), for the tasks whose retry has any."""
        raw, found = self._raw, {}
        fallback = raw.get("defaults", {}).get("retry") if isinstance(raw.get("defaults"), Mapping) else None
        for task in self.spec.tasks:
            if task.retry is None:
                continue
            given = raw.get(section_of(task), {}).get(task.name, {}).get("retry", fallback)
            own = given.strategies() if isinstance(given, Retry) else None
            if own is not None:
                found[task.name] = own
        return found

    @property
    def file(self) -> str:
        """The file as messages name it; the pipeline's name where there is none."""
        return self._source.name

    def place(self, path: KeyPath) -> tuple[int, int] | None:
        """Line and column, from 1, of what stands under a key path, where that is known."""
        return self._source.place(path, key=False)

    def _checked(self) -> Checked:
        if self._built is None:
            from flowd.authoring.build import build
            from flowd.authoring.checks import check
            from flowd.authoring.nested import reading

            findings = Findings(self._source)
            with reading(self, self._named):
                built = build(
                    self._raw, findings, folder=str(self._folder), resolve=self._resolve, load=self._load_inner
                )
            check(built, findings, str(self._folder))
            if findings.problems:
                raise BadPipeline(findings.sorted())
            self._built = Checked(built.spec, built.functions, built.bindings)
        return self._built

    def _load_inner(self, task: str, written: Any) -> Pipeline:
        """The pipeline that a task is. BadPipeline, CallError."""
        from flowd.authoring.nested import found

        inner = written if isinstance(written, Pipeline) else found(self._folder, str(written))
        self._inner[task] = inner
        return inner

    @property
    def inner(self) -> Mapping[str, Pipeline]:
        """The pipeline of each task that is one."""
        self._checked()
        return self._inner

    def _resolve(self, name: str, call: Call) -> Callable[..., Any]:
        own = self._own.get(name)
        return own if own is not None else self.resolve(call)

    def resolve(self, call: Call) -> Callable[..., Any]:
        """The function that a call names, looked for once. CallError says why there is none."""
        from flowd.authoring.resolve import resolve_call

        key = (call.module, call.function)
        found = self._found.get(key)
        if found is None:
            try:
                found = resolve_call(self._folder, call.module, call.function)
            except CallError as error:
                found = error
            self._found[key] = found
        if isinstance(found, CallError):
            raise found
        return found

    @classmethod
    def of_document(cls, raw: dict[str, Any], source: Source, folder: Path, named: str) -> Pipeline:
        """The pipeline that a file says; `named` is what loads it again, `source` knows its lines."""
        made = cls(str(raw.get("name", "")), folder=folder)
        made._raw, made._source, made._named = raw, source, named
        return made

    @property
    def includes(self) -> tuple[str, ...]:
        """The files that the pipeline's file includes, as it names them."""
        return tuple(self._raw.get("include", ()))

    def settle(self, checked: Checked, again: Callable[[], dict[str, Any]]) -> None:
        """Take what is known to be sound as this pipeline's meaning; `again` reads it, should more be added."""
        self._built, self._again = checked, again

    def loaded_as(self, named: str) -> Pipeline:
        """The same pipeline; `named` is what loads it again."""
        self._named = named
        return self
