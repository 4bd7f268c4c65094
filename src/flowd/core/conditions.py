"""Conditions of tasks, judged: `when`, before a task starts, and `allow_failure`, once it has failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from flowd.core.events import Error, Reason
from flowd.core.expressions import Access, Expression, ExpressionError, compile_expression
from flowd.core.reasons import because
from flowd.core.spec import TaskSpec

_SHOWN: Final = 60
"""Characters of a value that a reason shows."""


def expressions(task: TaskSpec) -> Iterator[Expression]:
    """The conditions of a task that are expressions."""
    if task.when is not None:
        yield compile_expression(task.when)
    if isinstance(task.allow_failure, str):
        yield compile_expression(task.allow_failure)
    if task.repeat is not None:
        yield compile_expression(task.repeat.until)


def when_false(task: TaskSpec, scope: Mapping[str, Any]) -> Reason | None:
    """Why a task is skipped: its `when` with what it was judged by; None where it holds. ExpressionError."""
    if task.when is None:
        return None
    expression = compile_expression(task.when)
    try:
        if expression.evaluate(scope):
            return None
    except ExpressionError as error:
        raise ExpressionError(error.code, f"`when`: {error.message}", error.hint) from error
    return because("when_false", expression=expression.text, values=_values(expression, scope))


def is_allowed(task: TaskSpec, error: Error, scope: Mapping[str, Any]) -> bool:
    """Whether a task may fail so. ExpressionError where its expression cannot tell."""
    said = task.allow_failure
    if isinstance(said, bool):
        return said
    if isinstance(said, tuple):
        return error.exit_code in said
    known = {"type": error.type, "message": error.message, "exit_code": error.exit_code}
    own = {"exit_code": error.exit_code, "error": known}
    return bool(compile_expression(said).evaluate({**scope, **own}))


def _values(expression: Expression, scope: Mapping[str, Any]) -> str:
    """What the expression refers to, as it stands now: `: tasks.a.result = 2, params.n = 3`."""
    told = []
    for access in sorted(expression.references):
        found, value = _look(access, scope)
        if found:
            text = msgspec.json.encode(value, enc_hook=str).decode()
            told.append(f"{'.'.join(access)} = {text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}")
    return f": {', '.join(told)}" if told else ""


def _look(access: Access, scope: Mapping[str, Any]) -> tuple[bool, Any]:
    value: Any = scope
    for key in access:
        if not isinstance(value, Mapping) or key not in value:
            return False, None
        value = value[key]
    return True, value
