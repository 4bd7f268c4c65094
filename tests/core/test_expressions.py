"""The one expression language: what it can say, what it refuses, and that nothing gets out or blows up."""

from __future__ import annotations

from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as hs

from flowd.core.commands import parse_command, render_argv
from flowd.core.expressions import (
    FUNCTIONS,
    MOST_TEXT,
    ExpressionError,
    check_references,
    compile_expression,
    parse_template,
    references_of,
    render_value,
)

SCOPE = {
    "params": {"n": 3, "name": "prices", "on": True, "none": None, "list": [1, 2.5], "r2": 0.25},
    "tasks": {"clean": {"metrics": {"r2": 0.5}, "result": {"rows": [1, 2]}}, "a-b": {"ok": True}},
    "run": {"id": "r1"},
}


def value(text: str) -> object:
    """What an expression comes to."""
    return compile_expression(text).evaluate(SCOPE)


def refused(text: str) -> ExpressionError:
    """Why an expression cannot be read or computed, found without delay."""
    began = perf_counter()
    with pytest.raises(ExpressionError) as caught:
        value(text)
    assert perf_counter() - began < 1
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("params.n + 1", 4),
        ("params['n'] * 2", 6),
        ("tasks.clean.metrics.r2 >= params.r2 and not params.none", True),
        ('tasks["a-b"].ok', True),
        ("tasks.clean.result.rows[-1]", 2),
        ("params.name[:2]", "pr"),
        ("'a' if params.on else 'b'", "a"),
        ("'x' in ['x', 'y']", True),
        ("len(params.list) + max(1, 2) - min([3, 4])", 1),
        ("sum(params.list) / 2", 1.75),
        ("any([0, 1]) and all([])", True),
        ("[abs(-1), round(2.345, 1), int('7'), float('1.5'), str(2)]", [1, 2.3, 7, 1.5, "2"]),
        ("{'a': 1}.a", 1),
        ("(1, 2)", (1, 2)),
        ("params.n % 2", 1),
        ("2 ** 10", 1024),
        ("params.name * 2", "pricesprices"),
        ("params.list + [3]", [1, 2.5, 3]),
        ("default(params.missing, 5)", 5),
        ("default(params.n, 5)", 3),
        ("default(tasks.clean.metrics.mae, default(params.what, 'x'))", "x"),
        ("default(params.none, 5)", 5),
        ("defined(params.n)", True),
        ("defined(tasks.clean.result.columns)", False),
        ("defined(nothing)", False),
    ],
)
def test_what_it_can_say(text: str, expected: object) -> None:
    """Keys by dot or bracket, arithmetic, comparisons, conditions, the functions."""
    assert value(text) == expected


def test_every_function_is_there() -> None:
    """The functions are those of the contract."""
    names = "len min max sum any all abs round int float str default defined"
    assert set(FUNCTIONS) == set(names.split())


@pytest.mark.parametrize(
    "text",
    [
        "params.__class__",
        "''.__class__.__mro__",
        "params.name.upper",
        "params.list.append",
        "(1).real",
        "len.__globals__",
        "str.format",
    ],
)
def test_a_dot_is_a_key_and_never_an_attribute(text: str) -> None:
    """No attribute and no method of anything can be reached."""
    assert refused(text).code == "unknown_name"


@pytest.mark.parametrize(
    "text",
    [
        "params.name.upper()",
        "'{}'.format(1)",
        "open('/etc/passwd')",
        "__import__('os')",
        "eval('1')",
        "(len)(1)()",
        "params['n']()",
        "[n for n in params.list]",
        "{n for n in [1]}",
        "sum(n for n in [1])",
        "lambda: 1",
        "(n := 1)",
        "f'{params.n}'",
        "max(*[1, 2])",
        "{1, 2}",
        "await params.n",
        "x = 1",
        "import os",
        "1; 2",
        "",
        "params.",
        "a b",
        "yield",
    ],
)
def test_what_it_refuses_before_anything_is_computed(text: str) -> None:
    """Calls of anything else, comprehensions, statements, text that is no expression."""
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text)
    assert caught.value.code == "bad_expression"


def test_a_call_that_is_not_allowed_says_what_is() -> None:
    """The message names the call, the hint the functions."""
    error = refused("params.name.upper()")
    assert str(error).startswith("`params.name.upper` cannot be called; the functions are abs, all, any, default")


@pytest.mark.parametrize(
    "text",
    [
        "9 ** 9 ** 9",
        "9 ** 4000000",
        "(9 ** 9999) ** 9999",
        "2 ** -1 ** 2 ** 99999999",
        " * ".join(["(9 ** 9999)"] * 300),
        "1 << 99999999",
        "'a' * 999999999",
        "999999999 * 'a'",
        "[0] * 999999999",
        "str(['a' * 99999] * 99999)",
        "[[0] * 99999] * 99999",
        "sum([[0] * 99999] * 99999, [])",
        "sum([[1], [2]], [])",
        "'%0999999999d' % 1",
        "'%*d' % (999999999, 1)",
        "params.name % 1",
        "'%s' % 'a'",
        "('a' * 99999 + 'a' * 99999) * 99999",
        "str(9 ** 99999)",
        "int('9' * 99999)",
        "(" * 500 + "1" + ")" * 500,
        "-" * 4000 + "1",
        "1" + "+1" * 3000,
        "not " * 1000 + "1",
        "a" * (MOST_TEXT + 1),
        "a\0b",
        "1 / 0",
        "1 + 'a'",
        "params.list[9]",
        "len(1)",
        "len()",
        "defined()",
        "default(1)",
        "default(params.n, fallback=1)",
    ],
    ids=lambda text: text[:30],
)
def test_nothing_blows_up(text: str) -> None:
    """Bombs of memory, time and depth, and plain mistakes, end in an error at once."""
    assert refused(text).code == "bad_expression"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parms.n", "`parms` is not known here; did you mean `params`?"),
        ("params.nmae", "`params.nmae`: `nmae` is not known here; did you mean `name`?"),
        ("tasks.clean.metrics.mse", "`tasks.clean.metrics.mse`: `mse` is not known here; there is r2"),
        ("params.n.x", "`params.n.x`: there is no x in a int"),
        ("default(1 / 0, 2)", "`default(1 / 0, 2)` cannot be computed: division by zero"),
    ],
)
def test_an_unknown_name_is_an_error(text: str, message: str) -> None:
    """Never an empty text: the message says what is there, or what may have been meant."""
    assert str(refused(text)) == message


# --- templates ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{{ params.n }}", 3),
        ("{{params.list}}", [1, 2.5]),
        ("{{ params.none }}", None),
        (" {{ params.n }}", " 3"),
        ("{{ params.n }}{{ params.n }}", "33"),
        ("{{ params.name }}-{{ params.on }}-{{ params.r2 }}", "prices-true-0.25"),
        ("x{{ params.list }}", "x[1,2.5]"),
        ("x{{ {'a': {'b': 1}} }}", 'x{"a":{"b":1}}'),
        ("{{ '}}' }}", "}}"),
        ("{{ '\\'}}' }}!", "'}}!"),
        ("a } }} {b}", "a } }} {b}"),
    ],
)
def test_a_template(text: str, expected: object) -> None:
    """Exactly one `{{ }}` keeps its value's type; among other text a value is written as text."""
    assert parse_template(text).render(SCOPE) == expected


@pytest.mark.parametrize("text", ["{{", "a {{ params.n", "{{ 'a }}", "{{ {'a': 1 }}", "{{ }}", "{{ {{ params.n }} }}"])
def test_a_template_that_is_not_closed_or_holds_no_expression(text: str) -> None:
    """It is refused when it is read."""
    with pytest.raises(ExpressionError) as caught:
        parse_template(text)
    assert caught.value.code == "bad_expression"


def test_null_cannot_stand_in_a_text() -> None:
    """The hint says what to write, and that helps; of a list the item is named."""
    with pytest.raises(ExpressionError, match=r"`params.none` is null") as caught:
        parse_template("a{{ params.none }}").render(SCOPE)
    assert caught.value.hint == 'write default(params.none, "none"), or what else is to stand there'
    assert parse_template('a{{ default(params.none, "none") }}').render(SCOPE) == "anone"
    with pytest.raises(ExpressionError, match=r"`values\[1\]` is null"):
        parse_command("echo {{ values }}").render({"values": [1, None]})
    with pytest.raises(ExpressionError, match=r"`values\[1\]` is null"):
        render_argv(["echo", "{{ values }}"], {"values": [1, None]})


def test_a_text_has_a_bound() -> None:
    """What renders to more than a mebibyte is refused."""
    with pytest.raises(ExpressionError, match="at most 1048576"):
        parse_template("{{ 'a' * 99999 }} " * 12).render(SCOPE)


@given(hs.text().filter(lambda text: "{{" not in text), hs.text())
def test_text_without_expressions_is_itself(before: str, inside: str) -> None:
    """Nothing else in a text has a meaning; a value is never looked at again."""
    assert parse_template(before).render({}) == before
    assert parse_template("x{{ v }}").render({"v": inside}) == f"x{inside}"


def test_a_value_is_rendered_however_deep() -> None:
    """Lists and mappings keep their shape, keys stay as they are, and other values pass."""
    written = {"{{ a }}": ["{{ params.n }}", {"b": "x{{ params.n }}"}, ("{{ params.on }}",), 1.5, None]}
    assert render_value(written, SCOPE) == {"{{ a }}": [3, {"b": "x3"}, [True], 1.5, None]}
    assert references_of(written) == {("params", "n"), ("params", "on")}
    assert references_of(5) == frozenset()


# --- what is referred to -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tasks.clean.metrics.r2", {("tasks", "clean", "metrics", "r2")}),
        ('tasks["a-b"].ok', {("tasks", "a-b", "ok")}),
        ("tasks.a.result[params.n].x", {("tasks", "a", "result"), ("params", "n")}),
        (
            "len(tasks.a.outputs) > default(params.b, run.id)",
            {("tasks", "a", "outputs"), ("params", "b"), ("run", "id")},
        ),
        ("round(params.a, ndigits=params.b)", {("params", "a"), ("params", "b")}),
        ("{'a': params.a, params.b: [item]}", {("params", "a"), ("params", "b"), ("item",)}),
        ("'tasks.a'", set()),
    ],
)
def test_references(text: str, expected: set[tuple[str, ...]]) -> None:
    """Each path from a root name, as far as its keys are written out."""
    expression = compile_expression(text)
    assert expression.references == expected
    assert expression.tasks == {path[1] for path in expected if path[0] == "tasks"}


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("parms.a", "unknown_name", "`parms` is not known here; did you mean `params`?"),
        ("params.sorce", "unknown_name", "`params`: `sorce` is not known here; did you mean `source`?"),
        ("run.nmae", "unknown_name", "`run`: `nmae` is not known here; did you mean `name`?"),
        ("tasks.cleen.ok", "unknown_name", "`tasks`: `cleen` is not known here; did you mean `clean`?"),
        ("tasks.clean.metric", "unknown_name", "`tasks.clean`: `metric` is not known here; did you mean `metrics`?"),
        ("tasks.report.ok", "not_upstream", "`tasks.report` is not upstream of this task; add report to its needs"),
    ],
)
def test_references_are_checked_before_anything_runs(text: str, code: str, message: str) -> None:
    """Unknown names come with what may have been meant; a task that is not upstream, with the need to add."""
    names = {"roots": {"params", "run", "tasks"}, "params": {"source"}, "upstream": {"clean"}}
    problems = list(check_references(compile_expression(text).references, **names, tasks={"clean", "report"}))
    assert [(problem.code, str(problem)) for problem in problems] == [(code, message)]


def test_good_references_have_no_problem() -> None:
    """What is known, and upstream, is fine."""
    references = references_of(
        "{{ params.source }} {{ tasks.clean.metrics.r2 }} {{ run.id }} {{ tasks }} {{ env.HOME }}"
    )
    names = {"roots": {"params", "run", "tasks", "env"}, "params": {"source"}, "upstream": {"clean"}}
    assert list(check_references(references, **names, tasks={"clean"})) == []
