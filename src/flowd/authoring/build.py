"""The one way from what was written, in YAML or in Python, to a specification.

House rules of this room. It takes plain data and collects every problem; nothing stops it but
the end of the data. A value that was refused counts as not given, so that one mistake does not
call forth others. Defaults are merged here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import msgspec

from flowd.authoring import declarations, kinds, nested, records, services
from flowd.authoring.binding import item_names
from flowd.authoring.executors import chosen_executor, executor_misfit
from flowd.authoring.findings import Findings, KeyPath, listed, quoted
from flowd.authoring.fitting import ALONE, fits, unfit
from flowd.authoring.format import PIPELINE, POLICIES, TASK
from flowd.authoring.kinds import NONE, WRONG
from flowd.authoring.params import check_param
from flowd.authoring.resolve import Binding, CallError, bind, bind_reconcile, mismatches, reconcile_key
from flowd.core.expressions import ExpressionError, references_of
from flowd.core.graph import case_clashes, implied_needs
from flowd.core.spec import (
    Action,
    Ask,
    Call,
    LogSpec,
    Nested,
    Param,
    PipelineSpec,
    Retry,
    Run,
    TaskSpec,
    Wait,
    section_of,
)

Function = Callable[..., Any]
Resolve = Callable[[str, Call], Function]
"""The function of a task's call; raises CallError."""

ACTIONS = ("call", "run", "pipeline", "wait", "service")
_MERGED = "env"


class Draft(msgspec.Struct, eq=False):
    """A task while it is read: its typed values as far as they are sound."""

    name: str
    raw: Mapping[str, Any]
    values: dict[str, Any]
    needs: tuple[tuple[KeyPath, str], ...] = ()
    function: Function | None = None
    section: str = "tasks"

    @property
    def path(self) -> KeyPath:
        """Where the task stands."""
        return (self.section, self.name)

    @property
    def action(self) -> Action | None:
        """What it does."""
        found = (self.values.get(key) for key in ACTIONS)
        return next((action for action in found if action is not None), Ask() if self.is_alone else None)

    @property
    def is_alone(self) -> bool:
        """Whether a person's answer is all of it."""
        return ALONE in self.raw and not self.raw.keys() & ACTIONS

    @property
    def is_service(self) -> bool:
        """Whether its action goes on while it serves."""
        return "service" in self.raw

    @property
    def kind(self) -> str:
        """call, text, argv, pipeline, wait, approve, or nothing where the action was refused."""
        action = self.action
        if isinstance(action, Call):
            return "call"
        if isinstance(action, Ask | Wait):
            return ALONE if isinstance(action, Ask) else "wait"
        if isinstance(action, Nested):
            return "pipeline"
        return "" if action is None else "text" if action.text is not None else "argv"


class Built(msgspec.Struct, eq=False):
    """A specification with its functions, and the drafts that the checks report against."""

    spec: PipelineSpec
    functions: dict[str, Function]
    bindings: dict[str, Binding]
    drafts: dict[str, Draft]
    top: dict[str, Any]
    defaults: dict[str, Any]
    implied: dict[str, tuple[tuple[str, str], ...]]
    raw: Mapping[str, Any]


def build(
    raw: Mapping[str, Any], findings: Findings, *, folder: str, resolve: Resolve, load: nested.Load | None = None
) -> Built:
    """The specification that `raw` says, complete where `findings` stay empty.

    `folder` is where relative paths start; `resolve` finds functions, `load` the pipelines that are tasks.
    """
    top = _pipeline(raw, findings)
    defaults = _defaults(raw, findings)
    drafts = _drafts(raw, findings)
    for draft in drafts.values():
        if isinstance(draft.action, Call):
            try:
                draft.function = resolve(draft.name, draft.action)
            except CallError as error:
                findings.add(error.code, (*draft.path, "call"), error.message, error.hint)
    nested.read(drafts.values(), findings, load)
    shared: dict[Any, Any] = {}
    tasks = [nested.with_files(_task(draft, top, defaults, findings, shared), folder) for draft in drafts.values()]
    implied = implied_needs([task for task in tasks if not task.final], folder)
    implied |= implied_needs([task for task in tasks if task.final], folder)
    tasks = services.kept([_with_needs(task, implied.get(task.name, ())) for task in tasks])
    bindings = {}
    for task in tasks:
        draft = drafts[task.name]
        if draft.function is not None:
            passed = draft.raw.get("with", {})  # as written: a value that was refused is passed none the less
            if not isinstance(passed, Mapping):
                continue
            own = item_names(task)
            misfits = list(mismatches(draft.function, [*task.needs, *own], passed, drafts))
            for code, message, hint in misfits:
                findings.add(code, (*draft.path, "call"), message, hint)
            if not misfits:
                bindings[task.name] = bind(draft.function, task.needs, passed, own)
    spec = PipelineSpec(
        name=top.get("name", ""),
        tasks=tuple(tasks),
        description=top.get("description", ""),
        params=_params(raw, findings),
        secrets=top.get("secrets", {}),
        max_concurrency=top.get("max_concurrency"),
        limits={name: said["capacity"] for name, said in top.get("limits", {}).items() if "capacity" in said},
        rates={name: said["rate"] for name, said in top.get("limits", {}).items() if "rate" in said},
        deadline=top.get("deadline"),
        fail_fast=top.get("fail_fast", False),
        stop_after_failures=top.get("stop_after_failures"),
        env=top.get("env", {}),
        log=top.get("log", LogSpec()),
        result=top.get("result"),
        targets={
            name: tuple(dict.fromkeys(task for _, task in group)) for name, group in top.get("targets", {}).items()
        },
        **declarations.fields(top, top.get("name", "")),
    )
    functions = {name: draft.function for name, draft in drafts.items() if draft.function is not None}
    for task in tasks:
        if task.reconcile is not None:
            _add_reconcile(task, task.reconcile, resolve, findings, functions, bindings)
    return Built(spec, functions, bindings, drafts, top, defaults, implied, raw)


def _add_reconcile(
    task: TaskSpec,
    call: Call,
    resolve: Resolve,
    findings: Findings,
    functions: dict[str, Function],
    bindings: dict[str, Binding],
) -> None:
    path, key = (section_of(task), task.name, "reconcile"), reconcile_key(task.name)
    if task.idempotent:
        hint = "write `idempotent: false`, or remove it"
        findings.add("unfit_key", path, "`reconcile` has no meaning for an idempotent task", hint, at_key=True)
    try:
        functions[key] = resolve(key, call)
        bindings[key] = bind_reconcile(functions[key], task.needs, task.with_, item_names(task))
    except CallError as error:
        findings.add(error.code, path, error.message, error.hint)


def _pipeline(raw: Mapping[str, Any], findings: Findings) -> dict[str, Any]:
    """The pipeline's own values, but for those that have a reader here."""
    plain = {name: key for name, key in PIPELINE.items() if key.kind not in {"params", "defaults", "tasks"}}
    own = {name: value for name, value in raw.items() if name in plain or name not in PIPELINE}
    others = [name for name in PIPELINE if name not in plain]
    read = records.record(findings, (), own, plain, "a pipeline", others)
    return {name: value for name, value in read.items() if value is not NONE}


def _defaults(raw: Mapping[str, Any], findings: Findings) -> dict[str, Any]:
    if "defaults" not in raw:
        return {}
    given = raw["defaults"]
    if isinstance(given, Mapping):
        for name in given:
            key = TASK.get(name)
            if key is not None and not key.policy and not key.later:
                hint = f"defaults are {listed(POLICIES, 30)}"
                findings.add("unknown_key", ("defaults", name), f"{quoted(name)} belongs to a task", hint, at_key=True)
        given = {
            name: value for name, value in given.items() if name not in TASK or TASK[name].policy or TASK[name].later
        }
    later = {name: key for name, key in TASK.items() if key.later}
    read = records.record(findings, ("defaults",), given, POLICIES | later, "`defaults`")
    return {name: value for name, value in read.items() if value is not NONE}


def _params(raw: Mapping[str, Any], findings: Findings) -> dict[str, Param]:
    if "params" not in raw:
        return {}
    found = {}
    written = kinds.pairs(findings, ("params",), raw["params"], "{name: {type: str, default: …}}")
    for path, name, value in written:
        if not kinds.check_name(findings, path, name, at_key=True) or kinds.surprises(findings, path, value):
            continue
        param = check_param(name, value, findings, path)
        if param is not None:
            found[name] = param
    for first, second in case_clashes(name for _, name, _ in written):
        findings.add("name_case", ("params", second), _case(first, second), "rename one of them", at_key=True)
    return found


def _case(first: str, second: str) -> str:
    return f"{quoted(second)} and {quoted(first)} differ only in case"


# --- tasks -------------------------------------------------------------------------------------------


def _drafts(raw: Mapping[str, Any], findings: Findings) -> dict[str, Draft]:
    if "tasks" not in raw:
        findings.add(
            "missing_key", (), "a pipeline needs the key `tasks`", "write `tasks:` and the tasks by name under it"
        )
        return {}
    drafts: dict[str, Draft] = {}
    for section in ("tasks", "finally"):
        if section in raw:
            _read_section(section, raw[section], drafts, findings)
    for first, second in case_clashes(drafts):
        findings.add("name_case", drafts[second].path, _case(first, second), "rename one of them", at_key=True)
    return drafts


def _read_section(section: str, given: Any, drafts: dict[str, Draft], findings: Findings) -> None:
    written = kinds.pairs(findings, (section,), given, "tasks by name: {ingest: {run: …}}")
    if not written and isinstance(given, Mapping):
        findings.add("no_tasks", (section,), "there is no task", "a pipeline has at least one", at_key=True)
    for path, name, value in written:
        kinds.check_name(findings, path, name, at_key=True)
        if name in drafts:
            findings.add("duplicate_task", path, f"{quoted(name)} is a task already", "rename it", at_key=True)
            continue
        if not isinstance(value, Mapping):
            kinds.wrong(
                findings, path, "a mapping of the task's keys", value, "write {run: command} or {call: module:function}"
            )
            value = {"run": "true"}  # noqa: PLW2901  # so that its needs and followers are still judged
        drafts[name] = _draft(section, name, value, findings)


def _draft(section: str, name: str, raw: Mapping[str, Any], findings: Findings) -> Draft:
    path = (section, name)
    values = records.record(findings, path, raw, TASK, "a task")
    actions = [key for key in ACTIONS if key in raw]
    if not actions and ALONE not in raw:
        hint = "write `run: command`, `call: module:function`, or `approve:` for a person's answer"
        findings.add("no_action", path, f"task {quoted(name)} does nothing", hint, at_key=True)
    elif len(actions) > 1:
        findings.add(
            "two_actions",
            (*path, actions[1]),
            f"a task has one action, and this has {listed(actions)}",
            "make two tasks",
            at_key=True,
        )
    draft = Draft(name, raw, values, needs=values.pop("needs", ()), section=section)
    if "foreach" in raw and "matrix" in raw:
        hint = "write the combinations as a matrix, or a list of them as foreach"
        findings.add("unfit_key", (*path, "matrix"), "a task has `foreach` or `matrix`, not both", hint, at_key=True)
    for given in values:
        key = TASK[given]
        if draft.kind and not fits(draft, key):
            unfit(findings, draft, key)
    if draft.is_service:
        services.check(draft, findings)
    return draft


_ALIKE = (Retry, Call, timedelta)
"""Values that many tasks have alike: each of them is kept once, since there may be a million tasks."""
_NOTHING: dict[str, Any] = {}


def _task(
    draft: Draft, top: Mapping[str, Any], defaults: Mapping[str, Any], findings: Findings, shared: dict[Any, Any]
) -> TaskSpec:
    """The task's specification, defaults merged; its needs are those that were written."""
    values = _merged(draft, top, defaults)
    own = {*ACTIONS, *services.KEYS, "with", "executor"}
    fields = {name: value for name, value in values.items() if name not in own}
    if "matrix" in fields:
        fields["matrix"], fields["axes"] = fields["matrix"]
    outputs = fields.get("outputs", ())
    if draft.is_service:
        fields["service"] = services.made(values)
    fields.setdefault("cache", (bool(outputs) or draft.kind == "pipeline") and not reads_answer(draft.raw))
    if draft.section == "finally":  # it has to run, whatever it left before
        fields |= {"cache": False, "final": True}
    fields = {"uses": _NOTHING, "env": _NOTHING, **fields}
    fields |= {name: shared.setdefault(value, value) for name, value in fields.items() if isinstance(value, _ALIKE)}
    action = draft.action or Run(text="true")
    return TaskSpec(
        name=draft.name,
        action=shared.setdefault(action, action) if isinstance(action, _ALIKE) else action,
        needs=tuple(dict.fromkeys(need for _, need in draft.needs)),
        with_=values.get("with", _NOTHING),
        executor=chosen_executor(draft, values.get("executor"), findings),
        **fields,
    )


def _merged(draft: Draft, top: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The task's values over the defaults over the pipeline's own `shell`, `workdir` and `grace`."""
    values = dict(draft.values)
    fallen = {"shell": top.get("shell"), "cwd": top.get("workdir"), "grace": top.get("grace"), **defaults}
    idempotent = values.get("idempotent", defaults.get("idempotent", True))
    for name, value in fallen.items():
        if value is None or name in values:
            continue
        if not fits(draft, TASK[name]) or (name == "retry" and not idempotent):
            continue
        if name == "executor" and executor_misfit(draft, value):
            continue
        values[name] = value
    if _MERGED in draft.values and _MERGED in defaults:
        values[_MERGED] = defaults[_MERGED] | draft.values[_MERGED]
    return {name: value for name, value in values.items() if value is not NONE}


def reads_answer(raw: Mapping[str, Any]) -> bool:
    """Whether what a task is given depends on the answer that its own start waits for."""
    try:
        return raw.get("approve") is not None and any(
            access[0] == "approval" for access in references_of([raw.get(key) for key in ("with", "env", "run")])
        )
    except ExpressionError:
        return False  # reported where it stands


def _with_needs(task: TaskSpec, implied: tuple[tuple[str, str], ...]) -> TaskSpec:
    more = tuple(need for need, _ in implied if need not in task.needs)
    return msgspec.structs.replace(task, needs=(*task.needs, *more)) if more else task


__all__ = ["NONE", "WRONG", "Built", "Draft", "Resolve", "build"]
