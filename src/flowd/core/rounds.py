"""Rounds of a task that is repeated: whether what it waits for holds, and in words why it does not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flowd.core.durations import format_duration
from flowd.core.expressions import ExpressionError, compile_expression
from flowd.core.facts import Error, Reason
from flowd.core.gates import explained
from flowd.core.reasons import because
from flowd.core.spec import Repeat


def asks_exit_code(repeat: Repeat) -> bool:
    """Whether the exit code of a round decides: then a command that ends badly has failed nothing yet."""
    return any(access[0] == "exit_code" for access in compile_expression(repeat.until).references)


def reads_result(repeat: Repeat) -> bool:
    """Whether the result of a round decides."""
    return any(access[0] == "result" for access in compile_expression(repeat.until).references)


def why_not(repeat: Repeat, scope: Mapping[str, Any]) -> str:
    """What keeps `until` from holding in `scope`; empty where it holds. ExpressionError."""
    expression = compile_expression(repeat.until)
    try:
        return "" if expression.evaluate(scope) else explained(expression, scope)
    except ExpressionError as error:
        raise ExpressionError(error.code, f"`until`: {error.message}", error.hint) from error


def is_over(repeat: Repeat, since: datetime | None, moment: datetime) -> bool:
    """Whether no round may go on at `moment`, if the first began at `since`."""
    return repeat.timeout is not None and since is not None and moment - since >= repeat.timeout


def exhausted(repeat: Repeat, why: str) -> tuple[Error, Reason]:
    """What is said of a task that has been repeated as often as it may."""
    reason = because("repeat_exhausted", until=repeat.until, max=repeat.max, why=why)
    return Error(type="RepeatExhausted", message=reason.sentence), reason


def timed_out(repeat: Repeat, rounds: int, why: str = "") -> tuple[Error, Reason]:
    """What is said of a task that has been repeated for as long as it may."""
    assert repeat.timeout is not None
    said = f": {why}" if why else ""
    timeout = format_duration(repeat.timeout)
    reason = because("repeat_timed_out", until=repeat.until, timeout=timeout, rounds=rounds, why=said)
    return Error(type="RepeatTimedOut", message=reason.sentence), reason
