"""Readers of values, one for each kind that the table of keys names.

House rules of this room. A reader takes what was written (plain data, from YAML or Python
alike) and gives the typed value, or reports what is wrong with it and gives `WRONG`; it never
raises. Python's own types (timedelta, tuples, paths) are taken where they say the same.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from flowd.authoring import format as table
from flowd.authoring.findings import Findings, KeyPath, listed, plain, quoted
from flowd.authoring.format import Key
from flowd.authoring.scalars import Surprise
from flowd.core.durations import parse_duration
from flowd.core.spec import Call, Run

WRONG: Any = object()
"""What a reader gives for a value that it has reported."""

NONE: Any = object()
"""An explicit `none`: not even the default."""

Reader = Callable[[Findings, KeyPath, Any, Key], Any]

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INT64 = 2**63
_MOST_COUNTED = 2**31
_DEEP = 64


def wrong(findings: Findings, path: KeyPath, expected: str, value: Any, hint: str = "") -> Any:
    """Report that something else is expected here."""
    if isinstance(value, Surprise):
        findings.add("yaml_surprise", path, value.message, value.hint)
        return WRONG
    if value is None:
        found = "nothing is here"
    elif isinstance(value, Mapping):
        found = "this is a mapping"
    elif isinstance(value, list | tuple):
        found = "this is a list"
    elif isinstance(value, str):
        found = f"this is the text {quoted(value)}"
    else:
        found = f"this is {quoted(findings.source.written(path) or value)}"
    findings.add("wrong_type", path, f"{expected} is expected, and {found}", hint)
    return WRONG


# --- plain values ------------------------------------------------------------------------------------


def text(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """A text without NUL characters."""
    if not isinstance(value, str):
        is_scalar = isinstance(value, bool | int | float)
        written = findings.source.written(path) or str(value) if is_scalar else ""
        return wrong(findings, path, "a text", value, f'write "{plain(written)}" in quotes' if is_scalar else "")
    return value if sound(findings, path, value) else WRONG


def sound(findings: Findings, path: KeyPath, value: str) -> bool:
    """Whether a text can be written and passed on; reported otherwise."""
    if "\0" in value:
        findings.add("bad_text", path, "this text holds a NUL character", "remove it")
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        findings.add("bad_text", path, "this text holds half of a surrogate pair, which is no character", "remove it")
        return False
    return True


def name(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A name of the pipeline or of something in it."""
    found = text(findings, path, value, key)
    return found if found is WRONG or check_name(findings, path, found) else WRONG


def check_name(findings: Findings, path: KeyPath, value: str, *, at_key: bool = False) -> bool:
    """Whether `value` is a name as the format wants it; reported otherwise."""
    if table.NAME.fullmatch(value):
        return True
    findings.add("bad_name", path, f"{quoted(value)} is no name", f"use {table.NAME_RULE}", at_key=at_key)
    return False


def boolean(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """True or false."""
    return value if isinstance(value, bool) else wrong(findings, path, "true or false", value)


def number(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return wrong(findings, path, "a number", value)
    if not -_INT64 < value < _INT64:  # nan and the infinite ones are not
        findings.add("bad_value", path, f"{quoted(value)} is no number that can be kept")
        return WRONG
    return float(value)


def amount(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A number over zero."""
    found = number(findings, path, value, key)
    if found is not WRONG and found <= 0:
        findings.add("bad_value", path, f"this has to be more than zero, and is {quoted(value)}")
        return WRONG
    return found


def count(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """A whole number from 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        return wrong(findings, path, "a whole number", value)
    if not 1 <= value < _MOST_COUNTED:
        bound = f"at least 1, and is {quoted(value)}" if value < 1 else f"less than {_MOST_COUNTED}"
        findings.add("bad_value", path, f"this has to be {bound}")
        return WRONG
    return value


def duration(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """A duration from zero on."""
    if isinstance(value, timedelta):
        found = value
    elif isinstance(value, bool) or not isinstance(value, int | float | str):
        return wrong(findings, path, "a duration", value, "write a number and a unit: 200ms, 30s, 10m, 6h, 7d")
    else:
        try:
            found = parse_duration(value if isinstance(value, str) else str(value))
        except ValueError:
            written = findings.source.written(path) or str(value)
            hint = "write a number and a unit: 200ms, 30s, 10m, 6h, 7d"
            if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", written):
                hint = f"write `{written}s` for seconds, or another unit: ms, s, m, h, d"
            findings.add("bad_duration", path, f"{quoted(written)} is no duration", hint)
            return WRONG
    if found < timedelta(0):
        findings.add("bad_duration", path, "a duration cannot be negative")
        return WRONG
    return found


def span(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A duration over zero, or `none`."""
    if value == "none" or (value is None and findings.source.written(path) != ""):
        return NONE
    found = duration(findings, path, value, key)
    if found is not WRONG and not found:
        findings.add("bad_duration", path, "this has to be more than zero", "write `none` for no bound")
        return WRONG
    return found


def choice(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """One of the key's words."""
    if isinstance(value, str) and value in key.choices:
        # The table's own object: a default is left out of the record where it is the very same one.
        return key.choices[key.choices.index(value)]
    if isinstance(value, str) and value in key.later_choices:
        findings.add("not_yet", path, f"{quoted(value)} is not supported yet", f"use {listed(key.choices)}")
        return WRONG
    if isinstance(value, str):
        hint = findings.suggest(value, key.choices, f"use one of {listed(key.choices)}")
        findings.add("bad_value", path, f"{quoted(value)} is none of {listed(key.choices)}", hint)
        return WRONG
    return wrong(findings, path, f"one of {listed(key.choices)}", value)


def path_text(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A path, as text."""
    found = text(findings, path, os.fspath(value) if isinstance(value, os.PathLike) else value, key)
    if found is WRONG:
        return WRONG
    if not found.strip() or "\n" in found:
        findings.add("bad_path", path, f"{quoted(found)} is no path", "write a path relative to the file's folder")
        return WRONG
    return found


def surprises(findings: Findings, path: KeyPath, value: Any) -> bool:
    """Report what YAML's readers disagree about, anywhere in a value."""
    if isinstance(value, Surprise):
        findings.add("yaml_surprise", path, value.message, value.hint)
        return True
    items: list[tuple[KeyPath, Any]]
    if isinstance(value, Mapping):
        items = [((*path, str(key)), item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        items = [((*path, number), item) for number, item in enumerate(value)]
    else:
        return False
    return sum(surprises(findings, place, item) for place, item in items) > 0  # all of them, not up to the first


# --- lists and mappings ------------------------------------------------------------------------------


def items(findings: Findings, path: KeyPath, value: Any, example: str) -> list[tuple[KeyPath, Any]]:
    """The items of a list with their paths; reported where it is none."""
    if isinstance(value, list | tuple):
        return [((*path, number_), item) for number_, item in enumerate(value)]
    hint = f"write [{plain(value)}]" if isinstance(value, str) and value else f"write {example}"
    wrong(findings, path, "a list", value, hint)
    return []


def pairs(findings: Findings, path: KeyPath, value: Any, example: str) -> list[tuple[KeyPath, str, Any]]:
    """The pairs of a mapping with their paths; reported where it is none."""
    if isinstance(value, Mapping):
        found = []
        for key, item in value.items():
            if isinstance(key, str):
                found.append(((*path, key), key, item))
            else:
                wrong(findings, path, "a mapping with texts as keys", key)
        return found
    wrong(findings, path, "a mapping", value, f"write {example}")
    return []


def each(reader: Reader, example: str) -> Reader:
    """A list of what `reader` reads."""

    def read(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
        found = [reader(findings, place, item, key) for place, item in items(findings, path, value, example)]
        return tuple(item for item in found if item is not WRONG)

    return read


def data(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """Plain data of any kind."""
    return plain_data(findings, path, value)


def values(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """A mapping of plain data by name."""
    found = {}
    for place, given, item in pairs(findings, path, value, "{parameter: value}"):
        data = plain_data(findings, place, item)
        if data is not WRONG:
            found[given] = data
    return found


def plain_data(findings: Findings, path: KeyPath, value: Any) -> Any:
    """A copy of JSON-like data: lists for tuples, texts for paths; reported where it is anything else."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return value if sound(findings, path, value) else WRONG
    if isinstance(value, int | float):
        if math.isfinite(value) if isinstance(value, float) else -_INT64 <= value < _INT64:
            return value
        findings.add("bad_value", path, f"{quoted(value)} cannot be kept as a number", "write it as a text, in quotes")
        return WRONG
    if isinstance(value, os.PathLike):
        return plain_data(findings, path, os.fspath(value))
    if len(path) < _DEEP and isinstance(value, list | tuple):
        made = [plain_data(findings, (*path, number_), item) for number_, item in enumerate(value)]
        return WRONG if any(item is WRONG for item in made) else made
    if len(path) < _DEEP and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        filled = {key: plain_data(findings, (*path, key), item) for key, item in value.items()}
        return WRONG if any(item is WRONG for item in filled.values()) else filled
    return wrong(findings, path, "plain data (texts, numbers, true, false, null, lists, mappings)", value)


def env(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """Environment variables; whole numbers and booleans become texts."""
    found = {}
    for place, given, item in pairs(findings, path, value, "{NAME: value}"):
        if not _ENV_NAME.fullmatch(given):
            hint = "use letters, digits and `_`, not beginning with a digit"
            findings.add("bad_name", place, f"{quoted(given)} is no name of an environment variable", hint, at_key=True)
            continue
        if isinstance(item, bool):
            made: Any = "true" if item else "false"
        elif isinstance(item, int):
            made = str(item)
        else:
            made = text(findings, place, os.fspath(item) if isinstance(item, os.PathLike) else item, key)
        if made is not WRONG:
            found[given] = made
    return found


def amounts(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """How much of each limit."""
    read = {
        given: amount(findings, place, item, key) for place, given, item in pairs(findings, path, value, "{cpu: 2}")
    }
    return {given: item for given, item in read.items() if item is not WRONG}


# --- what belongs to tasks ---------------------------------------------------------------------------


def call(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """`module:function`."""
    if isinstance(value, str):
        module, colon, function = value.partition(":")
        if colon and _DOTTED.fullmatch(module) and (_DOTTED.fullmatch(function) or "<" in function):
            return Call(module=module, function=function)
        findings.add(
            "bad_call", path, f"{quoted(value)} names no function", "write `module:function`, such as `steps:clean`"
        )
        return WRONG
    return wrong(findings, path, "`module:function`", value)


def command(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A text for the shell, or an argument vector."""
    if isinstance(value, bool):  # the commands `true` and `false`
        return Run(text="true" if value else "false")
    if isinstance(value, list | tuple):
        argv = []
        for place, item in items(findings, path, value, "[program, argument]"):
            if isinstance(item, int | float) and not isinstance(item, bool):
                argv.append(findings.source.written(place) or str(item))
            else:
                argv.append(text(findings, place, os.fspath(item) if isinstance(item, os.PathLike) else item, key))
        if any(item is WRONG for item in argv):
            return WRONG
        if not argv or not argv[0].strip():
            findings.add("bad_value", path, "the command is empty", "write [program, argument, …]")
            return WRONG
        return Run(argv=tuple(argv))
    found = text(findings, path, value, key)
    if found is not WRONG and not found.strip():
        findings.add("bad_value", path, "the command is empty", "write what to run")
        return WRONG
    return found if found is WRONG else Run(text=found)


def needs(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """Names of tasks, each with its path; a single name is a list of one."""
    if isinstance(value, str):
        return ((path, value),)
    if isinstance(value, list | tuple):
        read = [(place, text(findings, place, item, key)) for place, item in items(findings, path, value, "[task]")]
        return tuple(pair for pair in read if pair[1] is not WRONG)
    return wrong(findings, path, "a list of tasks, or one name", value, "write [task, task]")


def failures(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """Exception names, exit codes and `timeout`."""
    found: list[str | int] = []
    for place, item in items(findings, path, value, "[ConnectionError, 75, timeout]"):
        if isinstance(item, int) and not isinstance(item, bool):
            if 1 <= item <= 255:
                found.append(item)
            else:
                findings.add("bad_value", place, f"{quoted(item)} is no exit code of a failure", "write 1 to 255")
        elif isinstance(item, str) and _DOTTED.fullmatch(item):
            found.append(item)
        elif isinstance(item, str):
            findings.add(
                "bad_value", place, f"{quoted(item)} is no exception name", "write a name, an exit code or timeout"
            )
        else:
            wrong(findings, place, "an exception name, an exit code or timeout", item)
    return tuple(found)
