"""From a task as it is written to an attempt's work: every expression resolved, nothing begun."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from flowd.authoring.binding import Binding
from flowd.core import conditions
from flowd.core import states as s
from flowd.core.commands import parse_command, render_argv
from flowd.core.events import Error, Reason
from flowd.core.expressions import Expression, in_text, render_value, spans
from flowd.core.fanout import base_name
from flowd.core.items import owner
from flowd.core.patterns import Glob, is_pattern, named
from flowd.core.run import RunState
from flowd.core.spec import Ask, Call, Nested, Output, Param, Run, TaskSpec, Wait
from flowd.core.views import answer_scope, moment
from flowd.engine.files import Files
from flowd.engine.lifetimes import lifetime_of
from flowd.engine.read_params import ReadParams
from flowd.engine.references import is_literal, is_plain
from flowd.engine.secrecy import Unread
from flowd.ports.executor import Work

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_SHELLS = {"sh": ("sh", "-e", "-c"), "bash": ("bash", "-e", "-o", "pipefail", "-c")}

_NO_PARAMS: dict[str, Any] = {}
NO_SECRETS: Mapping[str, str] = {}
NO_BINDING = Binding(wants_ctx=False, result_parameters=())


class Prepared(msgspec.Struct, kw_only=True, eq=False, gc=False):
    """A task with its expressions resolved, paths as written (for the fingerprint) and absolute."""

    inputs: tuple[str, ...]
    outputs: tuple[tuple[Output, str], ...]
    with_: dict[str, Any]
    env: dict[str, str]
    action: Any


class Resolver:
    """Resolves the tasks of one run against its parameters and its tasks' ends.

    `values` holds the decoded results that expressions refer to, by task; the caller has
    loaded them, since loading may wait for the disk.
    """

    def __init__(self, run: RunState, files: Files) -> None:
        self._run = run
        self._files = files
        self.lists: dict[str, Sequence[Any]] = {}  # what tasks are carried out for; the caller has loaded them, too

    def own_scope(self, task: TaskSpec) -> dict[str, Any]:
        """What stands for an item in its expressions: `item` or `matrix`, and `index`; nothing for another task."""
        if "[" not in task.name:
            return {}
        name = base_name(task.name)
        fan = self._run.fans[self._run.shape.index[name]]
        place = self._run.shape.index[task.name] - fan.base
        return {"matrix" if fan.template.matrix else "item": self.lists[name][place], "index": place}

    def knows(self, task: TaskSpec) -> bool:
        """Whether the list that an item is of is at hand."""
        return base_name(task.name) in self.lists

    def scope(self, task: TaskSpec, values: Mapping[str, Any]) -> dict[str, Any]:
        """What the expressions of a task may refer to, paths as they are written."""
        return self._scope(task, values, lambda path: path)

    def given(self, task: TaskSpec, values: Mapping[str, Any]) -> dict[str, Any]:
        """What a task is given by `with`, with absolute paths. ExpressionError."""
        given: dict[str, Any] = render_value(task.with_, self._scope(task, values, self._absolute))
        return given

    def scope_of_run(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What an expression of the pipeline itself may speak of, with absolute paths."""
        return self._scope(None, values, self._absolute)

    def written(self, task: TaskSpec, values: Mapping[str, Any]) -> Prepared:
        """Resolved with paths as they are written. ExpressionError where that is not possible."""
        if self._is_plain(task):
            return Prepared(inputs=(), outputs=(), with_={}, env={}, action=self._action(task, {}))
        if is_literal(task, self._run.spec.env):
            return self._as_written(task)
        scope = self.scope(task, values) | {"secrets": Unread(), "port": 0} | self._answer(task)
        inputs, outputs = self._paths(task, scope)
        scope["inputs"], scope["outputs"] = [str(path) for path in inputs], [str(path) for _, path in outputs]
        return Prepared(
            inputs=inputs,
            outputs=outputs,
            with_=render_value(task.with_, scope),
            env=self._env(task, scope),
            action=self._action(task, scope),
        )

    def _is_plain(self, task: TaskSpec) -> bool:
        """Whether there is nothing in a task to resolve: a scope for it would be made in vain."""
        return not self._run.spec.env and is_plain(task)

    def _as_written(self, task: TaskSpec) -> Prepared:
        action = task.action
        return Prepared(
            inputs=tuple([named(ref.path) for ref in task.inputs]),
            outputs=tuple([(output, named(output.path)) for output in task.outputs]),
            with_=task.with_,
            env=self._env(task, {}) if task.env or self._run.spec.env else {},
            action=action.text or list(action.argv or ()) if isinstance(action, Run) else self._action(task, {}),
        )

    def when_false(self, task: TaskSpec, values: Mapping[str, Any]) -> Reason | None:
        """Why the task's `when` keeps it from running; None where it holds. ExpressionError."""
        return (
            conditions.when_false(task, self._scope(task, values, lambda path: path)) if task.when is not None else None
        )

    def is_allowed(self, task: TaskSpec, error: Error, values: Mapping[str, Any]) -> bool:
        """Whether the task may fail so. ExpressionError where its `allow_failure` cannot tell."""
        if not isinstance(task.allow_failure, str):
            return conditions.is_allowed(task, error, {})
        return conditions.is_allowed(task, error, self._scope(task, values, lambda path: path))

    def outputs(self, task: TaskSpec) -> tuple[tuple[Output, str], ...]:
        """The outputs that are known without any other task; ExpressionError where one is not."""
        if not any("{{" in ref.path for ref in task.outputs):
            return tuple([(output, named(output.path)) for output in task.outputs])
        return self._paths(task, self.scope(task, {}))[1]

    def outputs_of(self, task: TaskSpec, own: Mapping[str, Any]) -> tuple[tuple[Output, str], ...]:
        """As `outputs`, of an item that is not laid out yet and for which `own` stands."""
        scope = {**self._scope(None, {}, lambda path: path), **own}
        return tuple((output, _path(output.path, scope)) for output in task.outputs)

    def inputs(self, task: TaskSpec) -> tuple[str, ...]:
        """The inputs that are known without any other task; ExpressionError where one is not."""
        if not any("{{" in ref.path for ref in task.inputs):
            return tuple([named(ref.path) for ref in task.inputs])
        return self._paths(task, self.scope(task, {}))[0]

    def work(
        self,
        task: TaskSpec,
        prepared: Prepared,
        values: Mapping[str, Any],
        *,
        attempt: int,
        run_folder: Path,
        function: Callable[..., Any] | None,
        binding: Binding = NO_BINDING,
        secrets: Mapping[str, str] = NO_SECRETS,
        port: int = 0,
    ) -> Work:
        """The attempt's work, with absolute paths. ExpressionError where something does not resolve."""
        folder = self._files.folder
        work = Work(
            run_id=self._run.id,
            task=task,
            attempt=attempt,
            folder=folder,
            cwd=self._files.path(task.cwd) if task.cwd else folder,
            run_folder=run_folder,
            params=ReadParams(self._params(self._absolute)) if binding.wants_ctx else _NO_PARAMS,
            grace=task.grace if task.service is None else task.service.stop.grace or task.grace,
            function=function,
            wants_ctx=binding.wants_ctx,
            port=port,
        )
        if not self._is_plain(task) or task.service is not None:
            scope = self._scope(task, values, self._absolute) | {"secrets": secrets} | self._answer(task)
            scope["port"] = port
            self._resolve(work, prepared, scope)
        if isinstance(task.action, Call) and binding.result_parameters:
            taken = {name: values.get(name) for name in binding.result_parameters}
            work.arguments = {**taken, **work.arguments}
        if isinstance(task.action, Call) and binding.item_parameters:
            own = self.own_scope(task)
            work.arguments = {**{name: own[name] for name in binding.item_parameters}, **work.arguments}
        return work

    def _resolve(self, work: Work, prepared: Prepared, scope: dict[str, Any]) -> None:
        """Put everything into `work` that is written in its task, with absolute paths."""
        task, path = work.task, self._files.path
        work.inputs = tuple(path(name) for written in prepared.inputs for name in self._files.matches(written))
        work.outputs = tuple(path(written) for _, written in prepared.outputs)
        scope["inputs"], scope["outputs"] = [str(each) for each in work.inputs], [str(each) for each in work.outputs]
        work.env = self._env(task, scope)
        if work.port:
            work.env = {**work.env, "FLOWD_PORT": str(work.port)}
        if task.service is not None:
            work.lifetime = lifetime_of(task.service, scope)
        if isinstance(task.action, Call | Nested):
            work.arguments = render_value(task.with_, scope)
        else:
            action = self._action(task, scope)
            work.argv = (*_SHELLS[task.shell], action) if isinstance(action, str) else tuple(action)
            work.env = {**work.env, **self._reserved(work)}

    def _answer(self, task: TaskSpec) -> dict[str, Any]:
        """`approval`, where a person has said yes to its start; `rejection`, where one has sent it back here."""
        number = owner(self._run, self._run.shape.index[task.name])  # one answer lets all items of a task begin
        task, known, scope = self._run.shape.specs[number], self._run.tasks[number], dict[str, Any]()
        if task.approve is not None and known.approval is not None and known.approval.answered_at is not None:
            scope["approval"] = answer_scope(known.approval)
        if (sent := known.sent_back) is not None:
            scope["rejection"] = {"task": sent.task, "by": sent.by, "comment": sent.comment, "at": moment(sent.at)}
        return scope

    def asked(self, task: TaskSpec, values: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        """What a person is asked, and the paths that are shown, as written. ExpressionError."""
        assert task.approve is not None
        scope = self._scope(task, values, lambda path: path)
        inputs, outputs = self._paths(task, scope)
        scope["inputs"], scope["outputs"] = list(inputs), [path for _, path in outputs]
        message = _text(render_value(task.approve.message or f"Go on with {task.name}?", scope))
        return message, tuple(_path(written, scope) for written in task.approve.show)

    def gate_scope(
        self, task: TaskSpec, prepared: Prepared, values: Mapping[str, Any], metrics: Mapping[str, float], result: Any
    ) -> dict[str, Any]:
        """What a task's gates may speak of, with paths as they are written."""
        scope = self._scope(task, values, lambda path: path)
        scope["inputs"], scope["outputs"] = list(prepared.inputs), [path for _, path in prepared.outputs]
        return {**scope, "metrics": metrics, "result": result}

    def question(
        self,
        task: TaskSpec,
        values: Mapping[str, Any],
        *,
        attempt: int,
        run_folder: Path,
        function: Callable[..., Any],
        binding: Binding,
        secrets: Mapping[str, str] = NO_SECRETS,
    ) -> Work:
        """The work of asking a task's `reconcile` about an attempt: as the attempt's, with another function."""
        prepared = self.written(task, values)
        work = self.work(task, prepared, values, attempt=attempt, run_folder=run_folder, function=None, secrets=secrets)
        from flowd.authoring.resolve import parameters_of

        taken = parameters_of(function)
        work.argv, work.function, work.wants_ctx = (), function, binding.wants_ctx
        work.params = ReadParams(self._params(self._absolute))
        arguments = render_value(task.with_, self._scope(task, values, self._absolute) | {"secrets": secrets})
        work.arguments = {name: value for name, value in arguments.items() if name in taken}
        work.arguments |= {name: values.get(name) for name in binding.result_parameters}
        own = self.own_scope(task)
        work.arguments |= {name: own[name] for name in binding.item_parameters}
        return work

    def _reserved(self, work: Work) -> dict[str, str]:
        path = work.env.get("PATH", os.environ.get("PATH", os.defpath))
        env = {
            "PATH": os.pathsep.join((str(Path(sys.executable).parent), path)),
            "FLOWD_RUN_ID": work.run_id,
            "FLOWD_TASK": work.task.name,
            "FLOWD_ATTEMPT": str(work.attempt),
        }
        env |= {f"FLOWD_INPUT_{number}": str(path) for number, path in enumerate(work.inputs)}
        env |= {f"FLOWD_OUTPUT_{number}": str(path) for number, path in enumerate(work.outputs)}
        return env

    def _paths(
        self, task: TaskSpec, scope: Mapping[str, Any]
    ) -> tuple[tuple[str, ...], tuple[tuple[Output, str], ...]]:
        inputs = tuple(_path(ref.path, scope) for ref in task.inputs)
        return inputs, tuple((output, _path(output.path, scope)) for output in task.outputs)

    def _env(self, task: TaskSpec, scope: Mapping[str, Any]) -> dict[str, str]:
        return {name: _text(render_value(value, scope)) for name, value in (self._run.spec.env | task.env).items()}

    def _action(self, task: TaskSpec, scope: Mapping[str, Any]) -> Any:
        action = task.action
        if isinstance(action, Call):
            return [action.module, action.function]
        if isinstance(action, Ask | Wait):
            return []
        if isinstance(action, Nested):
            return [action.source]
        if action.text is not None:
            return parse_command(action.text).render(scope)
        return list(render_argv(action.argv or (), scope))

    def _absolute(self, path: str) -> str:
        return self._files.place(path)

    def _params(self, place: Callable[[str], str]) -> dict[str, Any]:
        """The run's parameters, those that are paths put in their place."""
        declared, given = self._run.spec.params, self._run.params
        return {
            name: place(value) if isinstance(value, str) and _is_path(declared.get(name), value) else value
            for name, value in given.items()
        }

    def _scope(self, task: TaskSpec | None, values: Mapping[str, Any], place: Callable[[str], str]) -> dict[str, Any]:
        run = self._run
        return {
            **({} if task is None else self.own_scope(task)),
            "params": self._params(place),
            "env": os.environ,
            "run": {
                "id": run.id,
                "name": run.spec.name,
                **_ending(run),
                "time": run.trigger.get("time", moment(run.started_at)),
                "started": moment(run.started_at),
                "trigger": run.trigger,
                "params": run.params,
            },
            "tasks": _Tasks(run, values, place),
        }


def _ending(run: RunState) -> dict[str, Any]:
    """How the run stands; once all its tasks have ended, how it ends and what made it so."""
    if run.closing is None:
        return {"state": run.state, "error": None, "failed": []}
    failed = list(run.closing.failed)
    found = [(name, error) for name in failed if (error := run.task(name).error) is not None]
    told = {"task": found[0][0], "type": found[0][1].type, "message": found[0][1].message} if found else None
    return {"state": run.closing.state, "error": told, "failed": failed}


class _Tasks(dict[str, Any]):
    """`tasks.NAME` of expressions, each made when it is first asked for."""

    def __init__(self, run: RunState, values: Mapping[str, Any], place: Callable[[str], str]) -> None:
        super().__init__()
        self._run = run
        self._values = values
        self._place = place

    def __contains__(self, name: object) -> bool:
        return name in self._run.shape.index

    def __missing__(self, name: str) -> dict[str, Any]:
        task = self._run.task(name)
        self[name] = {
            "ok": task.ok,
            "failed": task.state in s.BROKEN,
            "skipped": task.state == s.SKIPPED,
            "state": task.state,
            "result": self._values.get(name),
            "metrics": task.metrics,
            "outputs": [self._place(artifact.path) for artifact in task.outputs],
            "error": {"type": task.error.type, "message": task.error.message} if task.error else None,
            "reason": task.reason.code if task.reason else None,
            "url": (task.service.url or None) if task.service is not None else None,
        }
        return self[name]  # type: ignore[no-any-return]  # just put there


def _is_path(param: Param | None, value: str) -> bool:
    return param is not None and (param.type == "path" or (param.type == "uri" and not _SCHEME.match(value)))


def _path(written: str, scope: Mapping[str, Any]) -> str:
    if "{{" not in written:
        return named(written)
    shown = _text(render_value(written, scope))
    if not is_pattern(written):
        return shown
    return Glob(shown, "".join(_in_pattern(part, scope) for part in spans(written)))


def _in_pattern(part: str | tuple[int, int, Expression], scope: Mapping[str, Any]) -> str:
    """A part of a glob; a value is what it is, never a glob itself."""
    if isinstance(part, str):
        return part
    return glob.escape(in_text(part[2].evaluate(scope), part[2].text))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)
