"""Readers of what a task is carried out for, and what is wrong with it before anything runs.

House rules of this room: those of `kinds`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from flowd.authoring import format as table
from flowd.authoring import kinds, records
from flowd.authoring.findings import Findings, KeyPath, listed, quoted
from flowd.authoring.format import Key
from flowd.authoring.kinds import WRONG, check_name, items, pairs, wrong
from flowd.authoring.task import Task
from flowd.core.expressions import ExpressionError, compile_expression, in_text, parse_template
from flowd.core.fanout import MOST_CELLS, cell_keys, cells
from flowd.core.graph import normal_path
from flowd.core.spec import Foreach, TaskSpec


def foreach(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """What a task is carried out for each item of."""
    given = value if isinstance(value, Mapping) else {"over": value}
    if given is not value:
        over = list_or_expression(findings, path, value, key)
        return WRONG if over is WRONG else Foreach(over=over)
    before = len(findings.problems)
    read = records.record(findings, path, given, table.FOREACH, "`foreach`")
    return WRONG if len(findings.problems) > before else Foreach(**read)


def list_or_expression(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A list, or the expression that gives one; a task stands for its result."""
    if isinstance(value, Task):
        return f"tasks[{value.name!r}].result" if set(value.name) & set(".-") else f"tasks.{value.name}.result"
    if isinstance(value, str):
        return expression(findings, path, value, key)
    if isinstance(value, list | tuple):
        return kinds.plain_data(findings, path, value)
    return wrong(findings, path, "a list, or an expression that gives one", value, "write tasks.NAME.result, or [a, b]")


def expression(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A bare expression; one inside `{{ }}` is the same."""
    found = kinds.text(findings, path, value, key)
    if found is WRONG:
        return WRONG
    bare = found.strip()
    if bare.startswith("{{") and bare.endswith("}}") and "{{" not in bare[2:]:
        bare = bare[2:-2].strip()
    try:
        compile_expression(bare)
    except ExpressionError as error:
        findings.add(error.code, path, error.message, error.hint)
        return WRONG
    return bare


def text_or_expression(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A text with `{{ }}`; one without is a bare expression: what it stands for could only be itself."""
    if isinstance(value, str) and "{{" in value:
        return value
    bare = expression(findings, path, value, key)
    return WRONG if bare is WRONG else f"{{{{ {bare} }}}}"


def share(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A number from 0 to 1."""
    found = kinds.number(findings, path, value, key)
    if found is not WRONG and not 0 <= found <= 1:
        findings.add(
            "bad_value", path, f"this has to be from 0 to 1, and is {quoted(value)}", "write 0.9 for nine of ten"
        )
        return WRONG
    return found


def matrix(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """The cells of a matrix and its axes."""
    example = "{python: ['3.11', '3.12']}"
    axes: dict[str, list[Any]] = {}
    more: dict[str, list[dict[str, Any]]] = {"include": [], "exclude": []}
    before = len(findings.problems)
    for place, given, item in pairs(findings, path, value, example):
        if given in more:
            for where, one in items(findings, place, item, f"[{example}]"):
                read = kinds.values(findings, where, one, key)
                if given == "exclude" and isinstance(one, Mapping):
                    _refuse_strange_axes(findings, where, one, value)
                more[given].append(read)
        elif check_name(findings, place, given, at_key=True):
            read = kinds.plain_data(findings, place, item) if isinstance(item, list | tuple) else WRONG
            if not isinstance(item, list | tuple):
                wrong(findings, place, "a list of values", item, f"write {example}")
            elif not item:
                findings.add("bad_value", place, f"the axis {quoted(given)} has no value", "write at least one")
            axes[given] = read
    if len(findings.problems) > before:
        return WRONG
    size = math.prod(len(values) for values in axes.values())
    if size > MOST_CELLS:
        findings.add("bad_value", path, f"a matrix of {size} cells", f"at most {MOST_CELLS}; use `foreach` for more")
        return WRONG
    found = cells(axes, more["include"], more["exclude"])
    if not found:
        findings.add("bad_value", path, "this matrix has no cell", "name an axis, and exclude less")
        return WRONG
    return found, tuple(axes)


def _refuse_strange_axes(findings: Findings, path: KeyPath, one: Mapping[str, Any], value: Mapping[str, Any]) -> None:
    axes = [name for name in value if name not in {"include", "exclude"}]
    for name in one:
        if name not in axes:
            hint = findings.suggest(str(name), axes, f"the axes are {listed(axes)}")
            findings.add("unknown_key", (*path, name), f"{quoted(name)} is no axis of this matrix", hint, at_key=True)


def check_cells(task: TaskSpec, path: KeyPath, findings: Findings, folder: str) -> None:
    """Report the first two cells of a matrix that write one path, as far as it depends on the matrix alone."""
    keys, writers = cell_keys(task.matrix, task.axes), dict[str, str]()
    for index, cell in enumerate(task.matrix):
        key = keys[index] if keys else str(index)
        scope = {"matrix": cell, "index": index}
        for number, output in enumerate(task.outputs):
            try:
                written = normal_path(_filled(output.path, scope), folder)
            except ExpressionError:
                continue  # reported where the expression is
            if writers.setdefault(written, key) != key:
                first, second = f"{task.name}[{writers[written]}]", f"{task.name}[{key}]"
                message = f"{first} and {second} both write {quoted(written)}"
                hint = "put `{{ matrix.AXIS }}` into the path"
                findings.add("unordered_writers", (*path, "outputs", number), message, hint)
                return


def _filled(written: str, scope: Mapping[str, Any]) -> str:
    """A path with what is known of the matrix in it; the other expressions stay as they are written."""
    if "{{" not in written:
        return written
    parts = [
        part
        if isinstance(part, str)
        else in_text(part.evaluate(scope), part.text)
        if all(access[0] in scope for access in part.references)
        else f"<{part.text}>"
        for part in parse_template(written).parts
    ]
    return "".join(parts)
