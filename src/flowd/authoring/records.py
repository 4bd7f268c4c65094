"""Readers of mappings with keys of their own, and the table of all readers by kind.

House rules of this room: those of `kinds`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib import import_module
from typing import Any

import msgspec

from flowd.authoring import format as table
from flowd.authoring import kinds
from flowd.authoring.findings import Findings, KeyPath, listed, quoted
from flowd.authoring.format import Key
from flowd.authoring.kinds import NONE, WRONG, Reader, amount, check_name, items, pairs, path_text, wrong
from flowd.authoring.retry import Retry as OwnRetry
from flowd.core.durations import parse_duration
from flowd.core.keyed import EACH
from flowd.core.spec import Input, LogSpec, Output, Rate, Retry


def record(
    findings: Findings, path: KeyPath, value: Any, keys: Mapping[str, Key], what: str, others: Sequence[str] = ()
) -> dict[str, Any]:
    """The typed values of a mapping with fixed keys; what is unknown, missing or wrong is reported.

    `others` are keys that are read elsewhere, and may be meant by one that is misspelt.
    """
    found: dict[str, Any] = {}
    for place, given, item in pairs(
        findings, path, value, "{" + ", ".join(f"{name}: …" for name in list(keys)[:2]) + "}"
    ):
        key = keys.get(given)
        if key is None:
            known = [name for name, one in keys.items() if not one.later] + [*others]
            hint = findings.suggest(given, [*keys, *others], f"{what} has the keys {listed(known, 30)}")
            findings.add("unknown_key", place, f"{quoted(given)} is no key of {what}", hint, at_key=True)
        elif key.later:
            findings.add("not_yet", place, f"{quoted(given)} is not supported yet", "leave it out", at_key=True)
        else:
            read = READERS[key.kind](findings, place, item, key)
            if read is not WRONG:
                found[given] = read
    if isinstance(value, Mapping):
        for name_, key in keys.items():
            if key.required and name_ not in value:
                findings.add("missing_key", path, f"{what} needs the key {quoted(name_)}", key.sentence, at_key=True)
    return found


def limits(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """What is said of each limit: its `capacity`, its `rate`, or both; `db-*` holds for each key."""
    found: dict[str, dict[str, Any]] = {}
    for place, given, item in pairs(findings, path, value, "{cpu: 2}"):
        if not check_name(findings, place, given.removesuffix(EACH), at_key=True):
            continue
        if isinstance(item, Mapping):
            said = record(findings, place, item, table.LIMIT, "a limit")
            if not item:
                hint = "write {capacity: 2}, {rate: 10/minute}, or both"
                findings.add("missing_key", place, f"the limit {quoted(given)} says nothing", hint, at_key=True)
        else:
            capacity = amount(findings, place, item, key)
            said = {} if capacity is WRONG else {"capacity": capacity}
        if said:
            found[given] = said
    return found


_UNITS = {name: timedelta(**{f"{name}s": 1}) for name in ("second", "minute", "hour", "day")}
_RATE = re.compile(r"([0-9]{1,9}) ?/ ?(.+)")
_MOST_STARTS = 100_000


def rate(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """How often something may start: `10/minute`, `100/hour`, `5/30s`."""
    hint = "write a whole number, `/`, and second, minute, hour, day or a duration: 10/minute, 5/30s"
    if isinstance(value, Rate):
        return value
    if not isinstance(value, str):
        return wrong(findings, path, "a rate", value, hint)
    match = _RATE.fullmatch(value.strip())
    per = timedelta(0)
    if match is not None:
        unit = match[2].lower()
        try:
            per = _UNITS[unit.removesuffix("s")] if unit.removesuffix("s") in _UNITS else parse_duration(unit)
        except ValueError:
            match = None
    if match is None or per <= timedelta(0):
        findings.add("bad_rate", path, f"{quoted(value)} is no rate", hint)
        return WRONG
    count = int(match[1])
    if not 1 <= count <= _MOST_STARTS:
        more = "a shorter time, such as 100/second" if count else "at least 1, or leave the task out"
        findings.add("bad_rate", path, f"{quoted(value)}: the number has to be from 1 to {_MOST_STARTS}", f"use {more}")
        return WRONG
    return Rate(count=count, per=per)


def targets(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """Tasks by the name of their group, each with its path."""
    found = {}
    for place, given, item in pairs(findings, path, value, "{nightly: [report, export]}"):
        if check_name(findings, place, given, at_key=True):
            group = kinds.needs(findings, place, item, key)
            if group is not WRONG and not group:
                wrong(findings, place, "one task at least", item, "write [task, task], or remove it")
            elif group is not WRONG:
                found[given] = group
    return found


def inputs(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """Paths or globs that are read."""
    found = []
    for place, item in items(findings, path, value, "[data/raw.csv]"):
        if isinstance(item, Mapping):
            read = record(findings, place, item, table.INPUT, "an input").get("path", WRONG)
        else:
            read = path_text(findings, place, item, key)
        if read is not WRONG:
            found.append(Input(path=read))
    return tuple(found)


def outputs(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """Paths or globs that are written; where one says `checkpoint: true`, the silent ones are not."""
    found: list[dict[str, Any]] = []
    for place, item in items(findings, path, value, "[data/clean.csv]"):
        if isinstance(item, Mapping):
            read = record(findings, place, item, table.OUTPUT, "an output")
        else:
            written = path_text(findings, place, item, key)
            read = {} if written is WRONG else {"path": written}
        if "path" not in read:
            continue
        found.append(read)
    chosen = any(read.get("checkpoint") is True for read in found)
    return tuple(Output(**{"checkpoint": not chosen} | read) for read in found)


def retry(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """A retry policy, or `none`; where a stop object of the user's decides, `attempts` is 0."""
    if value == "none" or (value is None and findings.source.written(path) != ""):
        return NONE
    if isinstance(value, int) and not isinstance(value, bool):
        return wrong(findings, path, "a mapping", value, f"write {{attempts: {value}}}")
    keys, given = table.RETRY, value
    if isinstance(value, OwnRetry):
        given = value.written()
        for name, strategy in zip(("stop", "wait", "retry"), value.strategies() or (), strict=False):
            if strategy is not None and not callable(strategy):
                wrong(findings, (*path, name), "one of tenacity's objects", strategy, "such as stop_after_attempt(3)")
        if value.stop is not None:
            keys = keys | {"attempts": msgspec.structs.replace(keys["attempts"], required=False)}
    before = len(findings.problems)
    read = record(findings, path, given, keys, "`retry`")
    if len(findings.problems) > before:
        return WRONG
    return Retry(**{"attempts": 0} | {name: item for name, item in read.items() if item is not NONE})


def log(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """Where log lines go."""
    return LogSpec(**record(findings, path, value, table.LOG, "`log`"))


def _of(room: str, name: str) -> Reader:
    """A reader of another room, which itself reads records; imported where its key is written."""

    def read(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
        return getattr(import_module(f"flowd.authoring.{room}"), name)(findings, path, value, key)

    return read


READERS: dict[str, Reader] = {
    "text": kinds.text,
    "name": kinds.name,
    "bool": kinds.boolean,
    "number": kinds.number,
    "amount": amount,
    "count": kinds.count,
    "duration": kinds.duration,
    "span": kinds.span,
    "choice": kinds.choice,
    "path": path_text,
    "log_file": path_text,
    "texts": kinds.each(kinds.text, "[rows, source]"),
    "paths": kinds.each(path_text, "[steps/*.py]"),
    "values": kinds.values,
    "env": kinds.env,
    "amounts": kinds.amounts,
    "limits": limits,
    "call": kinds.call,
    "command": kinds.command,
    "needs": kinds.needs,
    "inputs": inputs,
    "outputs": outputs,
    "retry": retry,
    "failures": kinds.failures,
    "log": log,
    "rate": rate,
    "targets": targets,
    "includes": kinds.each(kinds.text, "[shared.yaml]"),
    "wait": _of("waits", "wait"),
    "moment": _of("waits", "moment"),
    **{
        name: _of("services", name)
        for name in ("service", "port", "ready", "tcp", "pattern", "restart", "stop", "lifetime")
    },
    "natural": _of("services", "natural"),
    "repeat": _of("conditions", "repeat"),
    "condition": _of("conditions", "condition"),
    "allowed": _of("conditions", "allowed"),
    "data": kinds.data,
    "datas": kinds.each(kinds.data, "[small, large]"),
    "secrets": _of("secrets", "secrets"),
    "argv": _of("secrets", "argv"),
    "literal": _of("secrets", "literal"),
    **{name: _of("notices", name) for name in ("owners", "notify", "happenings", "addresses", "addressees")},
    **{name: _of("schedules", name) for name in ("schedule", "cron", "interval", "positive", "timezone", "misfire")},
    **{name: _of("schedules", name) for name in ("overlap", "dst", "time_of_day", "expect")},
    **{name: _of("triggers", name) for name in ("trigger", "untemplated", "secret", "group", "template")},
    **{name: _of("triggers", name) for name in ("retention", "size")},
    **{name: _of("items", name) for name in ("foreach", "matrix", "list_or_expression", "expression", "share")},
    **{name: _of("people", name) for name in ("gates", "approve", "form", "askers")},
    "text_or_expression": _of("items", "text_or_expression"),
    "pipeline": _of("nested", "pipeline"),
    "owner": kinds.name,
    **{name: _of("settings", name) for name in ("listen", "tls", "daemon_log")},
}
