"""simpleeval's evaluator under our rules; imported with the first evaluation, which many runs never have."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import simpleeval

from flowd.core.expressions import FUNCTIONS, ExpressionError, unknown

_MOST_BITS = 65_536


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > _MOST_BITS:
        raise ValueError(f"a power of more than {_MOST_BITS} bits")
    return simpleeval.safe_power(base, exponent)


def _product(left: Any, right: Any) -> Any:
    if isinstance(left, list | tuple) or isinstance(right, list | tuple):  # repeated lists of repeated lists explode
        raise TypeError("a list cannot be repeated")
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > _MOST_BITS:
        raise ValueError(f"a product of more than {_MOST_BITS} bits")
    return simpleeval.safe_mult(left, right)


def _remainder(left: Any, right: Any) -> Any:
    if isinstance(left, str | bytes):  # it would be formatting, with a width of any size
        raise TypeError("`%` is for numbers; put each value into the text by a {{ }} of its own")
    return left % right


_OPERATORS = simpleeval.DEFAULT_OPERATORS | {ast.Pow: _power, ast.Mult: _product, ast.Mod: _remainder}


class Evaluator(simpleeval.EvalWithCompoundTypes):  # type: ignore[misc]  # it is untyped
    """Computes one expression over plain data."""

    def __init__(self, scope: Mapping[str, Any], text: str) -> None:
        super().__init__(operators=_OPERATORS, functions=dict(FUNCTIONS), names={})
        self.names = scope
        self._text = text
        self.nodes[ast.Attribute] = self._eval_attribute

    def compute(self, tree: ast.expr) -> Any:
        """The value of a parsed expression."""
        return self._eval(tree)

    def _check_disallowed_items(self, item: Any) -> None:
        """Nothing but plain data is ever in scope, and no attribute can be reached."""

    def _eval_name(self, node: ast.Name) -> Any:
        try:
            return self.names[node.id]
        except KeyError:
            raise unknown(node.id, self.names, "") from None

    def _eval_attribute(self, node: ast.Attribute) -> Any:
        return self._key(self._eval(node.value), node.attr, node)

    def _eval_subscript(self, node: ast.Subscript) -> Any:
        container, key = self._eval(node.value), self._eval(node.slice)
        if isinstance(container, Mapping):
            return self._key(container, key, node)
        return container[key]

    def _key(self, container: Any, key: Any, node: ast.AST) -> Any:
        if not isinstance(container, Mapping):
            raise ExpressionError(
                "unknown_name", f"`{ast.unparse(node)}`: there is no {key} in a {type(container).__name__}"
            )
        try:
            return container[key]
        except KeyError:
            raise unknown(str(key), container, f"`{ast.unparse(node)}`: ") from None

    def _eval_call(self, node: ast.Call) -> Any:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in {"default", "defined"}:
            wanted = 2 if name == "default" else 1
            if len(node.args) != wanted or node.keywords:
                raise ExpressionError("bad_expression", f"`{name}` takes {wanted} arguments")
            try:
                value = self._eval(node.args[0])
            except ExpressionError as error:
                if error.code != "unknown_name":
                    raise
                return False if name == "defined" else self._eval(node.args[1])
            if name == "defined":
                return True
            return self._eval(node.args[1]) if value is None else value
        return super()._eval_call(node)
