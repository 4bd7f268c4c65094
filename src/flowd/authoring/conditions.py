"""Readers of conditions: expressions that stand by themselves, without `{{ }}`; and what is wrong with them.

House rules of this room: those of `kinds`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from flowd.authoring import format as table
from flowd.authoring.findings import Findings, KeyPath, plain, quoted
from flowd.authoring.format import Key
from flowd.authoring.kinds import NONE, WRONG, items, text, wrong
from flowd.authoring.records import record
from flowd.core.expressions import ExpressionError, compile_expression
from flowd.core.spec import Repeat, TaskSpec

ROOTS: Final = frozenset({"params", "run", "tasks", "env"})
"""What a condition may refer to before its task begins."""

_OF_A_FAILURE: Final = frozenset({"exit_code", "error"})
_OF_A_ROUND: Final = frozenset({"result", "exit_code", "round", "metrics", "inputs", "outputs"})
_MOST_CODE: Final = 255


def condition(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """An expression as text; true and false stand for themselves."""
    if isinstance(value, bool):
        return str(value)
    found = text(findings, path, value, key)
    if found is WRONG:
        return WRONG
    if "{{" in found:
        bare = found.strip().removeprefix("{{").removesuffix("}}").strip()
        hint = f"write `{bare}`" if "{{" not in bare else "write one expression"
        findings.add(
            "bad_expression", path, f"{quoted(key.name)} is an expression by itself, without `{{{{ }}}}`", hint
        )
        return WRONG
    try:
        compile_expression(found)
    except ExpressionError as error:
        findings.add(error.code, path, error.message, error.hint)
        return WRONG
    return found.strip()


def allowed(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """True or false, an expression, or a list of exit codes."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return condition(findings, path, value, key)
    if not isinstance(value, list | tuple):
        return wrong(findings, path, "true, false, an expression or a list of exit codes", value, "write [3, 75]")
    found = []
    for place, item in items(findings, path, value, "[3, 75]"):
        if isinstance(item, bool) or not isinstance(item, int):
            wrong(findings, place, "an exit code", item)
        elif not 1 <= item <= _MOST_CODE:
            findings.add("bad_value", place, f"{quoted(item)} is no exit code of a failure", f"write 1 to {_MOST_CODE}")
        else:
            found.append(item)
    return tuple(found)


def repeat(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """Until what a task is carried out again and again."""
    if not isinstance(value, Mapping):
        hint = f"write {{until: {plain(value)}}}" if isinstance(value, str) else "{until: exit_code == 0, every: 30s}"
        return wrong(findings, path, "a mapping", value, hint)
    before = len(findings.problems)
    read = record(findings, path, value, table.REPEAT, "`repeat`")
    if len(findings.problems) > before:
        return WRONG
    return Repeat(**{name: item for name, item in read.items() if item is not NONE})


def of_task(task: TaskSpec) -> Iterator[tuple[tuple[str, ...], str, frozenset[str]]]:
    """The conditions of a task that are expressions: their keys, their text, and what they may refer to."""
    if task.when is not None:
        yield ("when",), task.when, ROOTS
    if isinstance(task.allow_failure, str):
        yield ("allow_failure",), task.allow_failure, ROOTS | _OF_A_FAILURE
    if task.repeat is not None:
        yield ("repeat", "until"), task.repeat.until, ROOTS | _OF_A_ROUND
