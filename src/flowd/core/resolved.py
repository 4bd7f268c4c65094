"""A run's specification as a document in the words of a pipeline file: defaults and parameters filled in.

What only an attempt can know (the results of other tasks, the environment) stays as it is written.
Values under names that speak of a secret, and passwords in addresses, are never shown.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, Final

import msgspec

from flowd.core.commands import parse_command
from flowd.core.durations import format_duration
from flowd.core.expressions import Expression, ExpressionError, in_text, parse_template
from flowd.core.run import RunState
from flowd.core.spec import Ask, Call, Nested, Param, TaskSpec, Wait
from flowd.core.views import moment

HIDDEN: Final = "***"
_SECRET: Final = re.compile(
    r"secret|token|passw|passphrase|credential|(?:^|[_.-])pwd(?:$|[_.-])|(?:api|access|private|auth)[_-]?key",
    re.IGNORECASE,
)
_IN_ADDRESS: Final = re.compile(r"(?<=://)[^\s/@:]*:[^\s/@]+(?=@)")
_LATER: Final = frozenset({"state", "error", "failed"})  # of `run`: they change while it goes on


def resolved_document(run: RunState) -> dict[str, Any]:
    """The document of `show --resolved`: one key for each of the file's, and `run`."""
    spec = run.spec
    params = _hidden(run.params)
    scope: dict[str, Any] = {
        "params": params,
        "run": {
            "id": run.id,
            "name": spec.name,
            "time": run.trigger.get("time", moment(run.started_at)),
            "started": moment(run.started_at),
            "trigger": run.trigger,
            "params": params,
        },
    }
    document: dict[str, Any] = {"run": run.id, **_fields(spec, {"tasks", "params", "format"})}
    document["owners"], document["notify"] = _unaddressed(document["owners"]), _unaddressed(document["notify"])
    document["env"] = _hidden(_filled(spec.env, scope))
    document["params"] = {name: _param(name, param, params.get(name)) for name, param in spec.params.items()}
    document["tasks"] = {task.name: _task(task, scope) for task, _ in run.own() if not task.final}
    document["finally"] = {task.name: _task(task, scope) for task, _ in run.own() if task.final}
    return document


def _unaddressed(value: Any) -> Any:
    """What is told, with no more of a URL than its scheme: the rest may be a key; a mail's address is none."""
    if isinstance(value, Mapping):
        return {name: _unaddressed(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_unaddressed(item) for item in value]
    if not isinstance(value, str) or value.startswith("{{"):
        return value
    scheme, found, _ = value.partition("://")
    return _shown(value) if not found or scheme in {"mailto", "mailtos"} else f"{scheme}://{HIDDEN}"


def _param(name: str, param: Param, value: Any) -> dict[str, Any]:
    fields = {"value": value, **_shown(_fields(param, set()))}
    if _SECRET.search(name):
        fields |= dict.fromkeys(("value", "default", "choices"), HIDDEN)
    return fields


def _task(task: TaskSpec, scope: Mapping[str, Any]) -> dict[str, Any]:
    inputs = [_filled(ref.path, scope) for ref in task.inputs]
    outputs = [{**_fields(ref, set()), "path": _filled(ref.path, scope)} for ref in task.outputs]
    scope = {**scope, "inputs": inputs, "outputs": [output["path"] for output in outputs]}
    action = task.action
    document: dict[str, Any] = {}
    if isinstance(action, Call):
        document["call"] = f"{action.module}:{action.function}"
    elif isinstance(action, Wait):
        document["wait"] = {name: value for name, value in _fields(action, set()).items() if value is not None}
    elif isinstance(action, Ask):
        pass  # its `approve` is all of it
    elif isinstance(action, Nested):
        document["pipeline"] = action.source
    elif action.text is not None:
        document["run"] = _shown(_command(action.text, scope))
    else:
        document["run"] = _shown([_filled(item, scope) for item in action.argv or ()])
    document |= _fields(task, {"name", "axes", "action", "inputs", "outputs", "with_", "env", "reconcile"})
    asked = task.reconcile
    document |= {
        "with": _hidden(_filled(task.with_, scope)),
        "inputs": _shown(inputs),
        "outputs": _shown(outputs),
        "env": _hidden(_filled(task.env, scope)),
        "reconcile": None if asked is None else f"{asked.module}:{asked.function}",
    }
    return document


def _fields(part: msgspec.Struct, left_out: Collection[str]) -> dict[str, Any]:
    """Every field of a part of a specification, those at their defaults too."""
    return {name: _plain(getattr(part, name)) for name in part.__struct_fields__ if name not in left_out}


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, msgspec.Struct):
        return _fields(value, set())
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


# --- what can be filled in ---------------------------------------------------------------------------


def _filled(value: Any, scope: Mapping[str, Any]) -> Any:
    """`value` with every expression computed that can be, however deep it lies."""
    if isinstance(value, Mapping):
        return {key: _filled(item, scope) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, scope) for item in value]
    if not isinstance(value, str) or "{{" not in value:
        return value
    parts = parse_template(value).parts
    if len(parts) == 1 and isinstance(parts[0], Expression):
        return _value(parts[0], scope, lambda found, _text: found)
    return "".join(part if isinstance(part, str) else _value(part, scope, in_text) for part in parts)


def _command(text: str, scope: Mapping[str, Any]) -> str:
    """A text for the shell, each value as the word that it becomes there."""
    parts = parse_command(text).parts
    return "".join(part if isinstance(part, str) else _value(part, scope, _words) for part in parts)


def _words(value: Any, text: str) -> str:
    values = value if isinstance(value, list | tuple) else [value]
    return " ".join(shlex.quote(in_text(one, text)) for one in values)


def _value(part: Expression, scope: Mapping[str, Any], shape: Any) -> Any:
    """The value of an expression, or the expression as it is written where that is not known yet."""
    written = f"{{{{ {part.text.strip()} }}}}"
    for root, *rest in part.references:
        if root not in scope or (root == "run" and (not rest or rest[0] in _LATER)):
            return written
    try:
        value = part.evaluate(scope)
        open_ = "{{" in str(value)  # made of a path that is itself not known yet
        return written if open_ else shape(value, part.text)
    except ExpressionError:
        return written


# --- what is not shown -------------------------------------------------------------------------------


def _hidden(values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` without those whose name speaks of a secret, however deep."""
    return {
        name: HIDDEN if _SECRET.search(str(name)) and value not in (None, "") else _shown(value)
        for name, value in values.items()
    }


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _hidden(value)
    if isinstance(value, list | tuple):
        return [_shown(item) for item in value]
    return _IN_ADDRESS.sub(HIDDEN, value) if isinstance(value, str) else value
