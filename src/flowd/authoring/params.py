"""Parameters: how each type is written, declared and checked, and a run's values before it starts.

House rules of this room. `declared` and `given` values go through one converter, from text (a
command line) or from plain data (a file, Python, an API). Dates, times and durations are kept as
text in canonical form, since parameters are recorded as JSON.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec

from flowd.authoring.findings import Findings, KeyPath, NoText, did_you_mean, listed, quoted
from flowd.core.durations import format_duration, parse_duration
from flowd.core.errors import BadParameters
from flowd.core.spec import Param

_INT = re.compile(r"[-+]?[0-9]{1,19}")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_NUMBERS = frozenset({"int", "float"})
_MOMENTS = frozenset({"date", "datetime", "duration"})
_BOUNDED = _NUMBERS | _MOMENTS
_TEXTS = frozenset({"str", "path", "uri"})


class _Wrong(ValueError):
    """A value that its type does not allow; the message says what is expected."""


# --- one converter for each type -------------------------------------------------------------------


def _str(value: Any, *, text: bool) -> str:  # noqa: ARG001  # the converters' common shape
    if not isinstance(value, str):
        raise _Wrong("a text is expected; put it in quotes")
    if "\0" in value:
        raise _Wrong("a text without NUL characters is expected")
    try:
        value.encode()
    except UnicodeEncodeError:  # a command line's bytes that are not UTF-8 come so
        raise _Wrong("a text in UTF-8 is expected") from None
    return value


def _int(value: Any, *, text: bool) -> int:
    if text and _INT.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise _Wrong("a whole number is expected")
    return value


def _float(value: Any, *, text: bool) -> float:
    if text:
        try:
            value = float(value) if "_" not in value else value
        except ValueError:
            raise _Wrong("a number is expected") from None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _Wrong("a number is expected")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise _Wrong("a finite number is expected")
    return found


def _bool(value: Any, *, text: bool) -> bool:
    if text:
        value = _WORDS.get(value.lower())
    if not isinstance(value, bool):
        raise _Wrong("true or false is expected")
    return value


def _path(value: Any, *, text: bool) -> str:
    found = _str(os.fspath(value) if isinstance(value, os.PathLike) else value, text=text)
    if not found.strip() or "\n" in found:
        raise _Wrong("a path is expected")
    return found


def _uri(value: Any, *, text: bool) -> str:
    found = _path(value, text=text)
    if any(letter.isspace() or not letter.isprintable() for letter in found):
        raise _Wrong("an address such as https://host/file.csv, or a path, without blanks, is expected")
    return found


def _date(value: Any, *, text: bool) -> str:  # noqa: ARG001
    if isinstance(value, datetime):
        raise _Wrong("a date such as 2026-11-22, without a time, is expected")
    if isinstance(value, date):
        return value.isoformat()
    try:
        return date.fromisoformat(value).isoformat()
    except (TypeError, ValueError):
        raise _Wrong("a date such as 2026-11-22 is expected") from None


def _datetime(value: Any, *, text: bool) -> str:  # noqa: ARG001
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise _Wrong("a time such as 2026-11-22T09:14:00Z is expected") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)  # as everywhere in flowd: a time without a zone is UTC
    try:
        return found.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except OverflowError:
        raise _Wrong("a time within the years 1 to 9999, in UTC, is expected") from None


def _duration(value: Any, *, text: bool) -> str:  # noqa: ARG001
    if isinstance(value, timedelta) and value >= timedelta(0):
        return format_duration(value)
    try:
        return format_duration(parse_duration(value))
    except (TypeError, ValueError):
        raise _Wrong("a duration such as 200ms, 30s, 10m, 6h or 7d is expected") from None


def _json(value: Any, *, text: bool) -> Any:
    if text:
        try:
            value = msgspec.json.decode(value.encode())
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise _Wrong(f"JSON is expected ({error})") from None
    return _plain(value)


def _list(value: Any, *, text: bool) -> list[Any]:
    if text:
        value = _json(value, text=True) if value.lstrip().startswith("[") else _split(value)
    if not isinstance(value, list | tuple):
        raise _Wrong("a list is expected, on a command line a,b,c or JSON")
    found: list[Any] = _plain(list(value))
    return found


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")] if text.strip() else []


def _plain(value: Any) -> Any:
    findings = Findings(NoText(""))
    from flowd.authoring.kinds import plain_data

    made = plain_data(findings, (), value)
    if findings.problems:
        raise _Wrong(findings.problems[0].message)
    return made


_CONVERTERS: dict[str, Callable[..., Any]] = {
    "str": _str,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "path": _path,
    "uri": _uri,
    "date": _date,
    "datetime": _datetime,
    "duration": _duration,
    "json": _json,
    "list": _list,
}

_SUCH = {
    "str": "'a text'",
    "int": "3",
    "float": "0.5",
    "bool": "true",
    "path": "data/raw.csv",
    "uri": "https://host/file.csv",
    "date": "2026-11-22",
    "datetime": "2026-11-22T09:14:00Z",
    "duration": "30s",
    "json": "'{\"a\": 1}'",
    "list": '\'["a", "b"]\'',
}
"""An example of each type, as it is written on a command line or in YAML."""


# --- how a parameter is declared -------------------------------------------------------------------


def check_param(name: str, written: Any, findings: Findings, path: KeyPath) -> Param | None:
    """The parameter that is declared by `written`: a bare default, or a mapping of keys.

    None where something is wrong with it, which is then among the findings.
    """
    from flowd.authoring.format import PARAM
    from flowd.authoring.kinds import plain_data
    from flowd.authoring.records import record

    before = len(findings.problems)
    if not isinstance(written, Mapping):
        default = plain_data(findings, path, _as_text(written))
        return Param(type=_type_of(written), default=default) if len(findings.problems) == before else None
    written = {key: _as_text(value) if key in {"default", "min", "max"} else value for key, value in written.items()}
    if isinstance(written.get("choices"), list | tuple):
        written["choices"] = [_as_text(choice) for choice in written["choices"]]
    read = record(findings, path, written, PARAM, f"parameter {quoted(name)}")
    kind = read.get("type", "str")
    if len(findings.problems) > before:
        return None
    for key, fits in (("min", _BOUNDED), ("max", _BOUNDED), ("pattern", _TEXTS)):
        if key in read and kind not in fits:
            hint = f"it fits {listed(sorted(fits))}"
            findings.add("unfit_key", (*path, key), f"{quoted(key)} has no meaning for type {quoted(kind)}", hint)
    if len(findings.problems) > before:
        return None
    _check_bounds(kind, read, findings, path)
    choices = []
    for number, choice in enumerate(read.get("choices", ())):
        choices.append(_converted(findings, (*path, "choices", number), kind, choice))
    param = Param(**read | {"choices": tuple(choices)})
    if param.required and "default" in written:
        findings.add("unfit_key", (*path, "default"), "a required parameter has no use for a default", "leave one out")
    if len(findings.problems) > before:
        return None
    if param.default is None:
        return param
    default = _converted(findings, (*path, "default"), kind, param.default)
    if len(findings.problems) == before and (trouble := _refused(param, default)):
        findings.add("bad_default", (*path, "default"), f"{quoted(default)} is {trouble}", _allowed(param, default))
    return msgspec.structs.replace(param, default=default) if len(findings.problems) == before else None


def _as_text(written: Any) -> Any:
    """Python's own dates and durations as the text that stands for them; anything else as it is."""
    kind = _type_of(written)
    try:
        return _CONVERTERS[kind](written, text=False) if kind in {"date", "datetime", "duration"} else written
    except _Wrong:
        return written  # no such text stands for it: refused where it is read


def _type_of(value: Any) -> str:
    kinds: tuple[tuple[type, str], ...] = (
        (bool, "bool"), (int, "int"), (float, "float"), (list, "list"), (tuple, "list"),
        (datetime, "datetime"), (date, "date"), (timedelta, "duration"), (os.PathLike, "path"),
    )  # fmt: skip
    return next((name for kind, name in kinds if isinstance(value, kind)), "str")


def _check_bounds(kind: str, read: dict[str, Any], findings: Findings, path: KeyPath) -> None:
    before = len(findings.problems)
    bounds = [bound for bound in ("min", "max") if bound in read]
    for bound in bounds:
        read[bound] = _converted(findings, (*path, bound), "float" if kind == "int" else kind, read[bound])
    if len(findings.problems) == before and len(bounds) == 2 and _rank(kind, read["min"]) > _rank(kind, read["max"]):
        message = f"min {_shown(read['min'])} is more than max {_shown(read['max'])}"
        findings.add("bad_value", (*path, "min"), message, "exchange them")
    if read.get("choices") == ():
        findings.add(
            "bad_value", (*path, "choices"), "no value is allowed", "write [value, value], or leave `choices` out"
        )
    if "pattern" in read:
        try:
            re.compile(read["pattern"])
        except (re.error, OverflowError, RecursionError) as error:
            findings.add(
                "bad_value", (*path, "pattern"), f"{quoted(read['pattern'])} is no regular expression: {error}"
            )


def _rank(kind: str, value: Any) -> Any:
    """What values of a type are compared by."""
    if kind == "duration":
        return parse_duration(value)
    return datetime.fromisoformat(value) if kind == "datetime" else value


def _shown(bound: float | str) -> str:
    return bound if isinstance(bound, str) else f"{bound:g}"


def _converted(findings: Findings, path: KeyPath, kind: str, value: Any) -> Any:
    try:
        return _CONVERTERS[kind](value, text=False)
    except _Wrong as wrong:
        findings.add("bad_default", path, f"{wrong}, and this is {quoted(value)} (type {kind})", f"write {_SUCH[kind]}")
        return None


# --- a run's values --------------------------------------------------------------------------------


def resolve_params(
    params: Mapping[str, Param], given: Mapping[str, Any], *, text: bool, what: str = "parameter", option: str = "-p"
) -> dict[str, Any]:
    """Every parameter's value in a run: what is given, checked, else its default.

    With `text` the values come from a command line and are read by type. `what` they are called,
    and the `option` that gives one. Raises BadParameters with every problem at once.
    """
    place = "params" if what == "parameter" else f"{what}s"
    findings = Findings(NoText(""))
    values: dict[str, Any] = {}
    for name in given:
        if name not in params:
            hint = findings.suggest(name, params, f"there is {listed(params, 20)}" if params else "there are none")
            findings.add("unknown_param", (place, name), f"there is no {what} {quoted(name)}", hint)
    for name, param in params.items():
        if name in given:
            values[name] = _given(findings, (place, name), param, given[name], option=option if text else "")
        elif param.required:
            findings.add("missing_param", (place, name), "it is required", f"give it: {option} {name}=VALUE")
        else:
            values[name] = param.default
    if findings.problems:
        raise BadParameters(findings.problems)
    return values


def _given(findings: Findings, path: KeyPath, param: Param, value: Any, *, option: str) -> Any:
    """A value as its type has it; `option` gave it as a text, where it is not empty."""
    if value is None and param.default is None and not param.required:
        return None
    try:
        found = _CONVERTERS[param.type](value, text=bool(option))
    except _Wrong as wrong:
        hint = f"give it: {option} {path[-1]}={_SUCH[param.type]}" if option else f"give {_SUCH[param.type]}"
        findings.add("bad_param", path, f"{wrong}, and {quoted(value)} was given (type {param.type})", hint)
        return None
    if trouble := _refused(param, found):
        findings.add("bad_param", path, f"{quoted(found)} is {trouble}", _allowed(param, found))
    return found


def _refused(param: Param, value: Any) -> str:
    """Why a value of the right type is not allowed; empty where it is."""
    if param.choices and value not in param.choices:
        return f"none of {listed(str(choice) for choice in param.choices)}"
    if param.min is not None and _rank(param.type, value) < _rank(param.type, param.min):
        return f"less than {_shown(param.min)}"
    if param.max is not None and _rank(param.type, value) > _rank(param.type, param.max):
        return f"more than {_shown(param.max)}"
    if param.pattern is not None and not re.fullmatch(param.pattern, value):
        return f"no match for {quoted(param.pattern)}"
    return ""


def _allowed(param: Param, value: Any) -> str:
    """What to write in place of a value that is of the right type and refused."""
    if param.choices and value not in param.choices:
        choices = [str(choice) for choice in param.choices]
        return did_you_mean(value, choices) if isinstance(value, str) else f"write {listed(choices[:1])}"
    if param.pattern is not None and not (param.min or param.max):
        return "the whole text has to match"
    bounds = [("from", param.min), ("to", param.max)]
    return "write one " + " ".join(f"{word} {_shown(bound)}" for word, bound in bounds if bound is not None)
