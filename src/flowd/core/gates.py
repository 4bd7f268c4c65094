"""Whether a gate holds of what a task gave, and in words why it does not. Pure, as all of this floor.

House rules of this room. A gate that cannot be computed does not hold: unknown means an error,
never success. A number or a boolean is judged as Python would; any other value is a mistake.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any, Final

from flowd.core.expressions import Access, Expression, ExpressionError, compile_expression
from flowd.core.spec import Gate

GATE_FAILED: Final = "GateFailed"
"""The type of the error of a task whose gate failed; a `retry` whose `on` names it tries again."""

_AGAINST: Final[Mapping[type[ast.cmpop], str]] = {
    ast.Lt: "not under",
    ast.LtE: "over",
    ast.Gt: "not over",
    ast.GtE: "under",
    ast.Eq: "not",
    ast.NotEq: "exactly",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Is: "not",
    ast.IsNot: "exactly",
}
"""What a value is to its bound where the comparison does not hold."""
_MOST_SHOWN: Final = 60


def failed(gates: Sequence[Gate], severity: str, scope: Mapping[str, Any]) -> list[str]:
    """The gates of this severity that do not hold in `scope`, each as a sentence."""
    return [said for gate in gates if gate.severity == severity and (said := _failure(gate, scope))]


def references(gates: Sequence[Gate]) -> frozenset[Access]:
    """All that gates refer to."""
    return frozenset(access for gate in gates for access in compile_expression(gate.check).references)


def reads_result(gates: Sequence[Gate]) -> bool:
    """Whether a gate refers to the task's own result."""
    return any(access[0] == "result" for access in references(gates))


def explained(expression: Expression, scope: Mapping[str, Any]) -> str:
    """The values that make an expression false in `scope`."""
    return _explained(expression.tree, expression, scope)


def _failure(gate: Gate, scope: Mapping[str, Any]) -> str:
    """Why a gate does not hold; empty where it does."""
    expression = compile_expression(gate.check)
    lead = f"gate {gate.name}: {expression.text}" if gate.name else f"gate {expression.text}"
    try:
        value = expression.evaluate(scope)
    except ExpressionError as error:
        return f"{lead}: {_missing_metric(expression, scope) or error}"
    if not isinstance(value, bool | int | float):
        return f"{lead}: it gives {_shown(value)}, neither true nor false; compare it with something"
    return "" if value else f"{lead}: {explained(expression, scope)}"


def _missing_metric(expression: Expression, scope: Mapping[str, Any]) -> str:
    known = scope["metrics"]
    for access in sorted(expression.references):
        if access[0] == "metrics" and len(access) > 1 and access[1] not in known:
            there = ", ".join(sorted(known)[:20])
            return f"there is no metric {access[1]}; " + (f"there are: {there}" if there else "the task gave none")
    return ""


def _explained(tree: ast.expr, expression: Expression, scope: Mapping[str, Any]) -> str:
    """The values that made it false, and by how much they miss their bound where that is a number."""
    if isinstance(tree, ast.BoolOp):
        wrong = (part for part in tree.values if not expression.part(part).evaluate(scope))
        parts = [next(wrong)] if isinstance(tree.op, ast.And) else wrong  # what follows was never looked at
        return " and ".join(_explained(part, expression, scope) for part in parts)
    if isinstance(tree, ast.Compare):
        left = tree.left
        for operator, right in zip(tree.ops, tree.comparators, strict=True):
            pair = ast.Compare(left, [operator], [right])
            if not expression.part(pair).evaluate(scope):
                return _against(expression.part(left).evaluate(scope), operator, expression.part(right).evaluate(scope))
            left = right
    values = [f"{ast.unparse(named)} is {_shown(value)}" for named, value in _values(tree, expression, scope)]
    return ", ".join(values) or "it is false"


def _against(left: Any, operator: ast.cmpop, right: Any) -> str:
    said = f"{_shown(left)} is {_AGAINST[type(operator)]} {_shown(right)}"
    ordered = isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE) and left != right
    return f"{said}, by {_shown(abs(left - right))}" if ordered and _is_number(left) and _is_number(right) else said


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _values(tree: ast.expr, expression: Expression, scope: Mapping[str, Any]) -> list[tuple[ast.expr, Any]]:
    """What an expression reads, each with its value; not the parts of a longer name."""
    found: list[tuple[ast.expr, Any]] = []
    stack: list[ast.AST] = [tree]
    while stack:
        branch = stack.pop()
        if isinstance(branch, ast.Attribute | ast.Subscript | ast.Name):
            try:
                found.append((branch, expression.part(branch).evaluate(scope)))
            except ExpressionError:
                continue  # the name of a function
        else:
            stack.extend(reversed(list(ast.iter_child_nodes(branch))))
    return found


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
