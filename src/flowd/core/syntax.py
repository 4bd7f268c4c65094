"""Python's syntax trees, made one at a time.

Up to CPython 3.12 one count serves all threads of an interpreter for how deep a tree has become, so
that two that are made at once fail with a SystemError (python/cpython, issue 106905).
"""

from __future__ import annotations

import ast
import threading

_alone = threading.Lock()


def module(source: bytes) -> ast.Module:
    """The tree of a whole module. Raises SyntaxError, ValueError, RecursionError."""
    with _alone:
        return ast.parse(source)


def expression(text: str) -> ast.expr:
    """The tree of one expression. Raises SyntaxError, ValueError, RecursionError, MemoryError."""
    with _alone:
        return ast.parse(text, mode="eval").body
