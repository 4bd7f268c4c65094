"""Parameters: declared in a file, given as text or as data, refused before anything starts."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bad_files import bad, check_refused, task
from flowd import BadParameters, BadPipeline, Pipeline
from flowd.authoring.params import resolve_params
from flowd.core.durations import parse_duration
from flowd.core.spec import Param

FROM_TEXT = [
    ("str", "014", "014"), ("str", "", ""),
    ("int", "+7", 7), ("int", "-0", 0), ("int", "007", 7),
    ("float", "1e3", 1000.0), ("float", "2", 2.0),
    ("bool", "TRUE", True), ("bool", "no", False), ("bool", "1", True),
    ("path", "data/../x.csv", "data/../x.csv"),
    ("uri", "s3://b/k?x=1", "s3://b/k?x=1"),
    ("date", "20261122", "2026-11-22"),
    ("datetime", "2026-11-22T10:14:00+01:00", "2026-11-22T09:14:00Z"),
    ("datetime", "2026-11-22 09:14", "2026-11-22T09:14:00Z"),
    ("duration", "90m", "90m"), ("duration", "120s", "2m"), ("duration", "1h30m", "90m"), ("duration", "0s", "0s"),
    ("json", '{"a": [1, null]}', {"a": [1, None]}), ("json", "3", 3),
    ("list", "a, b,c", ["a", "b", "c"]), ("list", "[1, 2]", [1, 2]), ("list", "", []),
]  # fmt: skip

NOT_FROM_TEXT = [
    ("str", "a\0b", "without NUL"), ("str", "\udcff", "in UTF-8"),
    ("int", "1.0", "a whole number"), ("int", "1_000", "a whole number"), ("int", "9" * 19, "a whole number"),
    ("int", "٣", "a whole number"), ("int", "", "a whole number"),
    ("float", "nan", "a finite number"), ("float", "1e999", "a finite number"), ("float", "1_0", "a number"),
    ("bool", "maybe", "true or false"),
    ("path", "  ", "a path"), ("path", "a\nb", "a path"),
    ("uri", "http://h/a b", "without blanks"),
    ("date", "2026-02-30", "a date such as"), ("date", "2026-11-22T09:00", "a date such as"),
    ("datetime", "yesterday", "a time such as"), ("datetime", "0001-01-01T00:00+23:00", "years 1 to 9999"),
    ("duration", "10", "a duration such as"), ("duration", "-1s", "a duration such as"),
    ("json", "{a: 1}", "JSON is expected"), ("json", "[" * 5_000, "JSON is expected"), ("json", "1e999", ""),
    ("list", "[1,", "JSON is expected"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "value"), FROM_TEXT)
def test_a_text_is_read_by_its_type(kind, text, value):
    """What a command line gives becomes the type's value, in its canonical form, and reads back as itself."""
    found = resolve_params({"n": Param(type=kind)}, {"n": text}, text=True)["n"]
    assert found == value
    assert type(found) is type(value)
    assert resolve_params({"n": Param(type=kind)}, {"n": found}, text=False) == {"n": found}


@pytest.mark.parametrize(("kind", "text", "said"), NOT_FROM_TEXT)
def test_a_text_that_is_not_of_the_type_is_refused(kind, text, said):
    """One problem with the parameter's name, what is expected and what was given."""
    with pytest.raises(BadParameters) as refused:
        resolve_params({"n": Param(type=kind)}, {"n": text}, text=True)
    (problem,) = refused.value.problems
    assert (problem.code, problem.key) == ("bad_param", "params.n")
    assert said in problem.message
    assert str(problem).isprintable()


FROM_DATA = [
    ("float", 3, 3.0), ("path", Path("a/b"), "a/b"), ("date", date(2026, 1, 2), "2026-01-02"),
    ("datetime", datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00Z"),
    ("datetime", datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=1))), "2026-01-02T02:00:00Z"),
    ("duration", timedelta(minutes=90), "90m"), ("list", ("a", 1), ["a", 1]), ("json", {"a": (1, Path("x"))}, {"a": [1, "x"]}),
]  # fmt: skip

NOT_FROM_DATA = [
    ("str", 3), ("str", None), ("int", True), ("int", 1.0), ("int", "1"), ("int", 2**63), ("float", "1"), ("float", True),
    ("float", 10**400), ("float", float("inf")), ("bool", 1), ("bool", "true"), ("path", 3), ("uri", b"x"),
    ("date", datetime(2026, 1, 2, tzinfo=UTC)), ("date", 3), ("datetime", 3), ("duration", 3), ("duration", timedelta(-1)),
    ("json", object()), ("json", {1: 2}), ("json", 10**400), ("list", "a,b"), ("list", {"a": 1}), ("list", [float("nan")]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "value"), FROM_DATA)
def test_data_of_python_is_taken_where_it_says_the_same(kind, given, value):
    """Paths, dates, durations and tuples become what is recorded as JSON."""
    assert resolve_params({"n": Param(type=kind)}, {"n": given}, text=False) == {"n": value}


@pytest.mark.parametrize(("kind", "given"), NOT_FROM_DATA)
def test_data_of_another_type_is_refused(kind, given):
    """Nothing is converted behind anyone's back, and nothing but BadParameters is raised."""
    with pytest.raises(BadParameters):
        resolve_params({"n": Param(type=kind, required=True)}, {"n": given}, text=False)


def test_all_that_is_wrong_with_parameters_is_said_at_once():
    """Unknown, missing, out of bounds, none of the choices, no match: each with its name."""
    declared = {
        "count": Param(type="int", default=1, min=1, max=9),
        "mode": Param(default="fast", choices=("fast", "slow")),
        "code": Param(default="AB", pattern="[A-Z]{2}"),
        "day": Param(type="date", required=True),
    }
    with pytest.raises(BadParameters) as refused:
        resolve_params(declared, {"count": "10", "mode": "fsat", "code": "ABC", "coutn": "1"}, text=True)
    said = {problem.key: f"{problem.message}; {problem.hint}" for problem in refused.value.problems}
    assert said == {
        "params.coutn": "there is no parameter `coutn`; did you mean `count`?",
        "params.count": "`10` is more than 9; write one from 1 to 9",
        "params.mode": "`fsat` is none of `fast`, `slow`; did you mean `fast`?",
        "params.code": "`ABC` is no match for `[A-Z]{2}`; the whole text has to match",
        "params.day": "it is required; give it: -p day=VALUE",
    }
    with pytest.raises(BadParameters) as refused:
        resolve_params(declared, {"count": 0, "day": "2026-01-01"}, text=False)
    assert [problem.message for problem in refused.value.problems] == ["`0` is less than 1"]


BOUNDED = [
    ("date", "2026-02-01", "2026-02-28", ["2026-02-01", "2026-02-28"], ["2026-01-31", "2026-03-01"]),
    ("datetime", "2026-01-01T00:00:00+01:00", "2026-01-01", ["2025-12-31T23:00:00Z", "2026-01-01T00:00Z"],
     ["2025-12-31T22:59:59.9Z", "2026-01-01T00:00:00.5Z"]),
    ("duration", "90s", "2h", ["90s", "1m30s", "120m"], ["1m", "121m"]),
    ("int", -1, 2.5, ["-1", "2"], ["-2", "3"]),
    ("float", 0, 1, ["0", "1"], ["-0.1", "1.01"]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "least", "most", "within", "beyond"), BOUNDED)
def test_bounds_are_compared_as_what_they_mean(kind, least, most, within, beyond):
    """Moments by time and durations by length, not by letters; both bounds are allowed themselves."""
    pipeline = Pipeline("p", params={"n": {"type": kind, "min": least, "max": most}})
    pipeline.shell("t", "x")
    for text in within:
        resolve_params(pipeline.spec.params, {"n": text}, text=True)
    for text in beyond:
        with pytest.raises(BadParameters, match=r"is (less|more) than .*; write one from .* to "):
            resolve_params(pipeline.spec.params, {"n": text}, text=True)


def test_pythons_own_dates_may_be_bounds():
    """As they may be defaults."""
    pipeline = Pipeline(
        "p", params={"n": {"type": "date", "min": date(2026, 1, 2)}, "d": {"type": "duration", "max": timedelta(1)}}
    )
    pipeline.shell("t", "x")
    assert (pipeline.spec.params["n"].min, pipeline.spec.params["d"].max) == ("2026-01-02", "1d")


def test_defaults_fill_what_is_not_given():
    """A run's values are all the parameters: given ones checked, the others by default, null where there is none."""
    declared = {"a": Param(type="int", default=3), "b": Param(), "c": Param(type="json", default=[1])}
    assert resolve_params(declared, {}, text=True) == {"a": 3, "b": None, "c": [1]}
    assert resolve_params(declared, {"b": None}, text=False)["b"] is None


def test_a_bare_default_gives_the_type():
    """In Python as in YAML the type of a bare default is the parameter's."""
    written = {
        "a": 1, "b": 1.5, "c": True, "d": "x", "e": [1], "f": timedelta(minutes=10), "g": date(2026, 1, 2),
        "h": datetime(2026, 1, 2, tzinfo=UTC), "i": Path("d/x"), "j": None,
    }  # fmt: skip
    pipeline = Pipeline("p", params=written)
    pipeline.shell("t", "x")
    kinds = {name: param.type for name, param in pipeline.spec.params.items()}
    assert list(kinds.values()) == [
        "int",
        "float",
        "bool",
        "str",
        "list",
        "duration",
        "date",
        "datetime",
        "path",
        "str",
    ]
    assert pipeline.spec.params["f"].default == "10m"
    assert pipeline.spec.params["h"].default == "2026-01-02T00:00:00Z"


def test_pythons_own_dates_may_stand_as_default_and_choice():
    """A full declaration takes them as a bare default does."""
    days = [date(2026, 1, 2), date(2026, 1, 3)]
    pipeline = Pipeline("p", params={"day": {"type": "date", "default": days[0], "choices": days}})
    pipeline.shell("t", "x")
    assert pipeline.spec.params["day"] == Param(type="date", default="2026-01-02", choices=("2026-01-02", "2026-01-03"))


@pytest.mark.parametrize("default", [timedelta(-1), float("nan"), 10**400, object(), "a\0b", "\udc80"])
def test_a_bare_default_that_cannot_be_kept_is_refused(default):
    """BadPipeline, and nothing else, whatever object it is."""
    pipeline = Pipeline("p", params={"n": default})
    pipeline.shell("t", "x")
    with pytest.raises(BadPipeline):
        _ = pipeline.spec


def declared(name: str, written: str, *said: tuple[str, str, str, str]) -> object:
    """A parameter `n` that is refused as it is declared."""
    return bad(name, task("run: x", f"params: {{n: {written}}}\n"), *said)


DECLARED = [
    declared("a default of another type", "{type: int, default: ‹'3'}", ("bad_default", "params.n.default", "this is `3`", "")),
    declared("a default out of bounds", "{type: int, default: ‹3, min: 4}", ("bad_default", "params.n.default", "less than 4", "")),
    declared("a default that is no choice", "{default: ‹c, choices: [a, b]}",
             ("bad_default", "params.n.default", "`c` is none of `a`, `b`", "")),
    declared("a default that does not match", "{default: ‹abc, pattern: '[0-9]+'}", ("bad_default", "params.n.default", "no match", "")),
    declared("a choice of another type", "{type: int, choices: [1, ‹two]}", ("bad_default", "params.n.choices[1]", "`two`", "")),
    declared("a date that is none", "{type: date, default: ‹2026-02-30}", ("bad_default", "params.n.default", "a date such as", "")),
    declared("a time out of range", "{type: datetime, default: ‹'0001-01-01T00:00+23:00'}",
             ("bad_default", "params.n.default", "years 1 to 9999", "")),
    declared("bounds the wrong way round", "{type: int, min: ‹4, max: 3}", ("bad_value", "params.n.min", "min 4 is more than max 3", "")),
    declared("bounds of a text", "{type: str, ‹min: 4}".replace("‹min: 4", "min: ‹4"), ("unfit_key", "params.n.min", "no meaning for type `str`", "`date`, `datetime`, `duration`, `float`, `int`")),
    declared("bounds of a date the wrong way round", "{type: date, min: ‹2026-03-01, max: 2026-02-01}",
             ("bad_value", "params.n.min", "min 2026-03-01 is more than max 2026-02-01", "exchange them")),
    declared("a bound that is no date", "{type: date, max: ‹tomorrow}", ("bad_default", "params.n.max", "a date such as", "2026-11-22")),
    declared("a bound without a unit", "{type: duration, min: ‹'10'}", ("bad_default", "params.n.min", "a duration such", "write 30s")),
    declared("a number for a bound of a time", "{type: datetime, min: ‹3}", ("bad_default", "params.n.min", "a time such as", "09:14")),
    declared("a text for a bound", "{type: int, min: ‹'3'}", ("bad_default", "params.n.min", "a number is expected", "write 0.5")),
    declared("a default before its bound", "{type: duration, min: 10m, default: ‹90s}",
             ("bad_default", "params.n.default", "`90s` is less than 10m", "write one from 10m")),
    declared("no choice at all", "{choices: ‹[]}", ("bad_value", "params.n.choices", "no value is allowed", "leave `choices` out")),
    declared("bounds of a path", "{type: path, max: ‹3}", ("unfit_key", "params.n.max", "no meaning for type `path`", "`duration`")),
    declared("a pattern of a number", "{type: int, pattern: ‹x}", ("unfit_key", "params.n.pattern", "for type `int`", "`path`")),
    declared("a pattern that is none", "{pattern: ‹'('}", ("bad_value", "params.n.pattern", "`(` is no regular expression", "")),
    declared("a pattern too great", "{pattern: ‹'a{99999999999}'}", ("bad_value", "params.n.pattern", "is no regular", "")),
    declared("required with a default", "{required: true, default: ‹x}", ("unfit_key", "params.n.default", "has no use", "leave one")),
    declared("a type unknown", "{type: ‹itn}", ("bad_value", "params.n.type", "`itn`", "did you mean `int`?")),
    bad("a name that is none", task("run: x", "params: {‹1st: 1}\n"), ("bad_name", "params.1st", "is no name", "letters")),
    bad("parameters as a list", task("run: x", "params: ‹[n]\n"), ("wrong_type", "params", "a mapping is expected", "{name:")),
]  # fmt: skip


@pytest.mark.parametrize("case", DECLARED)
def test_a_mistaken_declaration_is_refused_with_its_place(case, tmp_path, capsys, monkeypatch):
    """As any other mistake of a file."""
    check_refused(case, tmp_path, capsys, monkeypatch)


KINDS = ["str", "int", "float", "bool", "path", "uri", "date", "datetime", "duration", "json", "list"]
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.timedeltas(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(KINDS), DATA)
def test_whatever_is_given_is_taken_in_canonical_form_or_refused(kind, value):
    """Nothing but BadParameters is raised; what is taken is taken again, unchanged."""
    params = {"n": Param(type=kind)}
    try:
        found = resolve_params(params, {"n": value}, text=False)
        assert resolve_params(params, found, text=False) == found
    except BadParameters:
        pass


@given(st.sampled_from(KINDS), st.text())
def test_whatever_text_is_given_is_taken_or_refused(kind, text):
    """The same from a command line."""
    params = {"n": Param(type=kind)}
    try:
        found = resolve_params(params, {"n": text}, text=True)
        assert resolve_params(params, found, text=False) == found
    except BadParameters:
        pass


@given(st.integers(0, 10**15))
def test_a_duration_reads_back_as_itself(micros):
    """To the microsecond."""
    found = resolve_params({"n": Param(type="duration")}, {"n": timedelta(microseconds=micros)}, text=False)["n"]
    assert parse_duration(found) == timedelta(microseconds=micros)
