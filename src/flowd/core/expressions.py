"""The one expression language: what may stand in `{{ }}`, evaluated in a sandbox.

simpleeval computes; the rules are ours: a dot means a key and never a method or an attribute,
nothing is called but the functions below, and an unknown name is an error, never an empty text.
Texts with `{{ }}` are templates; one that is exactly one `{{ }}` keeps its value's type.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from flowd.core import syntax

MOST_TEXT = 4_096
MOST_RENDERED = 1_048_576

Access = tuple[str, ...]
"""A path of keys from a root name, such as ("tasks", "clean", "metrics", "r2")."""

TASK_FIELDS = frozenset({"ok", "failed", "skipped", "state", "result", "metrics", "outputs", "error", "reason", "url"})
RUN_FIELDS = frozenset({"id", "name", "state", "error", "failed", "time", "started", "trigger", "params"})


class ExpressionError(ValueError):
    """An expression that cannot be read, refers to what is not there, or cannot be computed."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        self.code = code
        self.message = message
        self.hint = hint
        super().__init__(f"{message}; {hint}" if hint else message)


def _defined(_value: Any) -> bool:
    return True  # the evaluator answers False itself where the name is not there


def _sum(values: Iterable[Any], start: float = 0) -> Any:
    numbers = list(values)
    if not all(isinstance(number, int | float) for number in (*numbers, start)):
        raise TypeError("`sum` adds numbers only")
    return sum(numbers, start)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "len": len,
    "min": min,
    "max": max,
    "sum": _sum,
    "any": any,
    "all": all,
    "abs": abs,
    "round": round,
    "int": int,
    "float": float,
    "str": str,
    "default": lambda value, _fallback: value,
    "defined": _defined,
}


class Expression:
    """A parsed expression: its text and tree, what it refers to, and how to compute it."""

    __slots__ = ("references", "tasks", "text", "tree")

    def __init__(self, text: str, tree: ast.expr) -> None:
        self.text = text
        self.tree = tree
        self.references = frozenset(_accesses(tree))
        self.tasks = frozenset(path[1] for path in self.references if path[0] == "tasks" and len(path) > 1)

    @property
    def required(self) -> frozenset[Access]:
        """The references without which it has no value: not those that `default` or `defined` stand in for."""
        return frozenset(_accesses(self.tree, required=True))

    def part(self, tree: ast.expr) -> Expression:
        """A part of it as an expression of its own; messages still quote the whole."""
        return Expression(self.text, tree)

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """Its value in `scope`; ExpressionError where it has none."""
        from flowd.core.evaluator import Evaluator

        try:
            return Evaluator(scope, self.text).compute(self.tree)
        except ExpressionError:
            raise
        except Exception as error:  # whatever the arithmetic raises is the expression's fault
            raise ExpressionError("bad_expression", f"`{self.text}` cannot be computed: {error}") from error


@lru_cache(maxsize=4_096)
def compile_expression(text: str) -> Expression:
    """Parse one expression; ExpressionError says what is wrong with it."""
    if len(text) > MOST_TEXT:
        raise ExpressionError("bad_expression", f"an expression of {len(text)} characters", f"at most {MOST_TEXT} fit")
    try:
        tree = syntax.expression(text.strip())
        expression = Expression(text.strip(), tree)
        _check_calls(expression)
    except ExpressionError:
        raise
    except SyntaxError as error:
        raise ExpressionError("bad_expression", f"`{text.strip()}` is no expression: {error.msg}") from error
    except (RecursionError, MemoryError, ValueError) as error:
        raise ExpressionError(
            "bad_expression", f"`{text.strip()[:60]}…` is nested too deeply or holds a NUL"
        ) from error
    return expression


def _check_calls(expression: Expression) -> None:
    for branch in ast.walk(expression.tree):
        if isinstance(branch, ast.Call):
            if not isinstance(branch.func, ast.Name) or branch.func.id not in FUNCTIONS:
                called = ast.unparse(branch.func)
                raise ExpressionError(
                    "bad_expression",
                    f"`{called}` cannot be called",
                    f"the functions are {', '.join(sorted(FUNCTIONS))}",
                )
        elif not isinstance(branch, _ALLOWED):
            kind = type(branch).__name__
            raise ExpressionError("bad_expression", f"`{expression.text}` holds a {kind}, which expressions cannot")


_ALLOWED = (
    ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.IfExp, ast.Constant, ast.Name, ast.Attribute,
    ast.Subscript, ast.Slice, ast.List, ast.Tuple, ast.Dict, ast.Call, ast.boolop, ast.operator, ast.unaryop,
    ast.cmpop, ast.expr_context, ast.keyword,
)  # fmt: skip


def _accesses(tree: ast.AST, *, required: bool = False) -> Iterator[Access]:
    """Each path of constant keys that starts at a name and is not itself part of a longer one.

    `required` leaves out what `default` and `defined` are asked about.
    """
    stack: list[ast.AST] = [tree]
    while stack:
        branch = stack.pop()
        path, rest = _path_of(branch)
        if path:
            yield path
            stack.extend(rest)
        elif isinstance(branch, ast.Call):
            asks = required and isinstance(branch.func, ast.Name) and branch.func.id in {"default", "defined"}
            stack.extend([*branch.args[1 if asks else 0 :], *branch.keywords])
        else:
            stack.extend(ast.iter_child_nodes(branch))


def _path_of(branch: ast.AST) -> tuple[Access, list[ast.AST]]:
    keys: list[str] = []
    rest: list[ast.AST] = []
    while isinstance(branch, ast.Attribute | ast.Subscript):
        if isinstance(branch, ast.Attribute):
            keys.append(branch.attr)
        elif isinstance(branch.slice, ast.Constant) and isinstance(branch.slice.value, str):
            keys.append(branch.slice.value)
        else:  # an index: what stands before it is the path
            keys.clear()
            rest.append(branch.slice)
        branch = branch.value
    if isinstance(branch, ast.Name):
        return (branch.id, *reversed(keys)), rest
    return (), []


def unknown(name: str, known: Iterable[Any], prefix: str) -> ExpressionError:
    """The error for a name that is not there, with what may have been meant."""
    import difflib

    names = sorted({str(key) for key in known})
    close = difflib.get_close_matches(name, names, 1)
    hint = (
        f"did you mean `{close[0]}`?" if close else f"there is {', '.join(names[:12])}" if 0 < len(names) <= 12 else ""
    )
    return ExpressionError("unknown_name", f"{prefix}`{name}` is not known here", hint)


# --- templates ---------------------------------------------------------------------------------------


class Template:
    """A text with `{{ }}` in it: literal parts and expressions, in turn."""

    __slots__ = ("expressions", "is_constant", "parts", "references", "tasks")

    def __init__(self, parts: tuple[str | Expression, ...]) -> None:
        self.parts = parts
        self.expressions = tuple(part for part in parts if isinstance(part, Expression))
        self.references = frozenset(access for part in self.expressions for access in part.references)
        self.tasks = frozenset(name for part in self.expressions for name in part.tasks)
        self.is_constant = not self.expressions

    def render(self, scope: Mapping[str, Any]) -> Any:
        """Its value: typed where it is exactly one expression, else text."""
        if self.is_constant:
            return "".join(part for part in self.parts if isinstance(part, str))
        if len(self.parts) == 1:
            return self.expressions[0].evaluate(scope)
        rendered = "".join(
            part if isinstance(part, str) else in_text(part.evaluate(scope), part.text) for part in self.parts
        )
        if len(rendered) > MOST_RENDERED:
            raise ExpressionError(
                "bad_expression", f"it renders to {len(rendered)} characters; at most {MOST_RENDERED}"
            )
        return rendered


def in_text(value: Any, text: str) -> str:
    """How a value stands inside a text; ExpressionError for None."""
    if isinstance(value, str):
        return value
    if value is None:
        hint = f'write default({text}, "none"), or what else is to stand there'
        raise ExpressionError("bad_expression", f"`{text}` is null, which cannot stand in a text", hint)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return msgspec.json.encode(value).decode()


@lru_cache(maxsize=4_096)
def parse_template(text: str) -> Template:
    """Split a text at its `{{ }}`; ExpressionError for one that is not closed or not an expression."""
    if "{{" not in text:
        return Template((text,))
    return Template(tuple(part if isinstance(part, str) else part[2] for part in spans(text)))


def spans(text: str) -> Iterator[str | tuple[int, int, Expression]]:
    """The literal parts of `text`, and each `{{ }}` as (start, end, expression)."""
    position = 0
    while (start := text.find("{{", position)) >= 0:
        end = _closing(text, start + 2)
        if end < 0:
            raise ExpressionError(
                "bad_expression", f"`{{{{` at character {start + 1} is not closed", "close it by `}}`"
            )
        if start > position:
            yield text[position:start]
        yield start, end + 2, compile_expression(text[start + 2 : end])
        position = end + 2
    if position < len(text):
        yield text[position:]


def _closing(text: str, position: int) -> int:
    """Where the `}}` stands that closes an expression; one inside a string or a dict does not."""
    quote, depth = "", 0
    while position < len(text):
        letter = text[position]
        if quote:
            if letter == "\\":
                position += 1
            elif letter == quote:
                quote = ""
        elif letter in "\"'":
            quote = letter
        elif letter == "{":
            depth += 1
        elif letter == "}" and depth:
            depth -= 1
        elif text.startswith("}}", position):
            return position
        position += 1
    return -1


def render_value(value: Any, scope: Mapping[str, Any]) -> Any:
    """`value` with every text in it rendered, however deep it lies."""
    if isinstance(value, str):
        return parse_template(value).render(scope) if "{{" in value else value
    if isinstance(value, Mapping):
        return {key: render_value(item, scope) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [render_value(item, scope) for item in value]
    return value


def references_of(value: Any) -> frozenset[Access]:
    """All that the texts in `value` refer to."""
    if isinstance(value, str):
        return parse_template(value).references if "{{" in value else frozenset()
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return frozenset(access for item in value for access in references_of(item))
    return frozenset()


def required_by(value: Any) -> frozenset[Access]:
    """The same without what `default` and `defined` stand in for."""
    if isinstance(value, str):
        expressions = parse_template(value).expressions if "{{" in value else ()
        return frozenset(access for expression in expressions for access in expression.required)
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return frozenset(access for item in items for access in required_by(item))


def check_references(
    references: Iterable[Access],
    *,
    roots: Collection[str],
    params: Collection[str],
    upstream: Collection[str],
    tasks: Collection[str],
) -> Iterator[ExpressionError]:
    """What is wrong with references before anything runs.

    `roots` are the names that mean something here, `params` and `tasks` those of the pipeline,
    `upstream` the tasks that lie above the one the expression belongs to.
    """
    for access in sorted(references):
        root, rest = access[0], access[1:]
        if root not in roots:
            yield unknown(root, roots, "")
        elif root == "params" and rest and rest[0] not in params:
            yield unknown(rest[0], params, "`params`: ")
        elif root == "run" and rest and rest[0] not in RUN_FIELDS:
            yield unknown(rest[0], RUN_FIELDS, "`run`: ")
        elif root == "tasks" and rest:
            if rest[0] not in tasks:
                yield unknown(rest[0], tasks, "`tasks`: ")
            elif rest[0] not in upstream:
                yield ExpressionError(
                    "not_upstream", f"`tasks.{rest[0]}` is not upstream of this task", f"add {rest[0]} to its needs"
                )
            elif len(rest) > 1 and rest[1] not in TASK_FIELDS:
                yield unknown(rest[1], TASK_FIELDS, f"`tasks.{rest[0]}`: ")
