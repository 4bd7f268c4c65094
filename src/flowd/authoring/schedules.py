"""Schedules and other times as they are declared.

House rules of this room: those of `kinds`. What a cron expression means is cronsim's to say, and
what is a time zone zoneinfo's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from flowd.authoring import format as table
from flowd.authoring.findings import Findings, KeyPath, listed, quoted
from flowd.authoring.format import Key
from flowd.authoring.kinds import WRONG, duration, span, text, wrong
from flowd.authoring.records import record
from flowd.core.declared import Dst, Expect, Schedule
from flowd.core.graph import case_clashes

_NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS: Final = "write minute, hour, day, month and weekday, such as `0 6 * * mon`"
_TIME_OF_DAY = re.compile(r"([01]?[0-9]|2[0-3]):[0-5][0-9]")
_LEAST = timedelta(seconds=1)


def schedule(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """One schedule, or a list of them; each with a name of its own where there are several.

    What is read are fields (None where something is wrong), of which `made` makes a schedule.
    """
    several = isinstance(value, list | tuple)
    written = [((*path, number), item) for number, item in enumerate(value)] if several else [(path, value)]
    if several and not written:
        findings.add("bad_value", path, "there is no schedule", 'write {cron: "0 6 * * mon"}, or leave it out')
    found = [_one(findings, place, item, named=len(written) > 1) for place, item in written]
    names: dict[str, KeyPath] = {}
    for (place, _), read in zip(written, found, strict=True):
        if read is not None and read["name"] in names:
            message = f"there are two schedules {quoted(read['name'])}"
            findings.add("duplicate_name", (*place, "name"), message, "give each a name of its own")
        elif read is not None and read["name"]:
            names[read["name"]] = (*place, "name")
    for first, second in case_clashes(names):
        message = f"{quoted(second)} and {quoted(first)} differ only in case"
        findings.add("name_case", names[second], message, "rename one of them")
    return tuple(found)


def _one(findings: Findings, path: KeyPath, value: Any, *, named: bool) -> dict[str, Any] | None:
    """The fields of a schedule; its `tasks` with their places, since they are checked later."""
    before = len(findings.problems)
    read = record(findings, path, value, table.SCHEDULE, "a schedule")
    if not isinstance(value, Mapping):
        return None
    times = [name for name in ("cron", "every") if name in value]
    if len(times) != 1:
        message = "it has `cron` and `every`" if times else "it has neither `cron` nor `every`"
        findings.add("bad_schedule", path, message, 'write {cron: "0 6 * * mon"} or {every: 1h}', at_key=bool(path))
    elif times == ["every"]:
        for name in ("timezone", "dst"):
            if name in value:
                message = f"{quoted(name)} has no meaning beside `every`, which counts real time"
                findings.add("unfit_key", (*path, name), message, "remove it", at_key=True)
    if named and "name" not in value:
        message = "one of several schedules needs a name"
        findings.add("missing_key", path, message, "write `name: nightly`", at_key=True)
    return {"name": "", **read} if len(findings.problems) == before else None


def made(read: Mapping[str, Any], pipeline: str) -> Schedule:
    """The schedule of the fields that were read."""
    tasks = tuple(dict.fromkeys(name for _, name in read.get("tasks", ())))
    return Schedule(**{**read, "name": read["name"] or pipeline, "tasks": tasks})


def read_one(findings: Findings, written: Mapping[str, Any]) -> Schedule | None:
    """The schedule of keys that were given by themselves; None where the findings say what is wrong with them."""
    read = _one(findings, (), written, named=False)
    return made(read, "given") if read is not None else None


def cron(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """Five fields, or one of cron's nicknames."""
    found = text(findings, path, value, key)
    if found is WRONG:
        return WRONG
    plain = " ".join(found.split())
    if plain.startswith("@"):
        plain = _NICKNAMES.get(plain.lower(), plain)
    if plain.startswith("@"):
        hint = findings.suggest(plain, _NICKNAMES, f"there is {listed(_NICKNAMES)}")
        findings.add("bad_cron", path, f"{quoted(plain)} is no name of times", hint)
        return WRONG
    fields = len(plain.split())
    if fields != 5:
        more = "; for seconds, use `every`" if fields == 6 else ""
        findings.add("bad_cron", path, f"{quoted(found)} has {fields} fields, and cron has five", _FIELDS + more)
        return WRONG
    from cronsim import CronSim, CronSimError

    try:
        CronSim(plain, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        findings.add("bad_cron", path, f"{quoted(found)}: {str(error) or 'it cannot be read'}", _FIELDS)
        return WRONG
    return plain


def interval(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A duration of at least a second."""
    found = duration(findings, path, value, key)
    if found is not WRONG and found < _LEAST:
        findings.add("bad_duration", path, f"{quoted(value)} is too often", "write at least 1s")
        return WRONG
    return found


def positive(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A duration over zero; there is no `none`, since the key can be left out."""
    if value == "none":
        findings.add("bad_duration", path, "`none` is no duration", "leave the key out")
        return WRONG
    return span(findings, path, value, key)


def timezone(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """An IANA name."""
    from zoneinfo import ZoneInfo, available_timezones

    found = text(findings, path, value, key)
    if found is WRONG:
        return WRONG
    try:
        ZoneInfo(found)
    except (KeyError, ValueError, OSError):  # not there, no name, or a folder of names
        known = available_timezones()
        otherwise = "write an IANA name, such as Europe/Berlin" if known else "this machine has none: install tzdata"
        findings.add(
            "bad_timezone", path, f"{quoted(found)} is no time zone", findings.suggest(found, known, otherwise)
        )
        return WRONG
    return found


def misfire(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """`skip`, `latest`, or {all: N}."""
    return _word_or_count(findings, path, value, key, "all", "{all: 10}")


def overlap(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A word, or {queue: N}."""
    return _word_or_count(findings, path, value, key, "queue", "{queue: 1}")


def _word_or_count(findings: Findings, path: KeyPath, value: Any, key: Key, counted: str, example: str) -> Any:
    words = [word for word in key.choices if word != counted]
    expected = f"{listed(words)} or {{{counted}: N}}"
    if value == counted:
        findings.add("bad_value", path, f"{quoted(counted)} needs a number", f"write {example}")
        return WRONG
    if isinstance(value, str):
        if value in words:
            return value
        hint = findings.suggest(value, key.choices, f"write {expected}")
        findings.add("bad_value", path, f"{quoted(value)} is none of {expected}", hint)
        return WRONG
    if not isinstance(value, Mapping):
        return wrong(findings, path, expected, value)
    keys = {counted: Key(counted, "count", "How many at most.", required=True)}
    read = record(findings, path, value, keys, quoted(key.name))
    return read if counted in read else WRONG


def dst(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """What becomes of times that a change of the clock leaves out, or gives twice."""
    return Dst(**record(findings, path, value, table.DST, "`dst`"))


def time_of_day(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """HH:MM."""
    found = text(findings, path, value, key)
    if found is not WRONG and not _TIME_OF_DAY.fullmatch(found):
        findings.add("bad_time", path, f"{quoted(found)} is no time of day", 'write "06:30", in quotes')
        return WRONG
    return found if found is WRONG else found.rjust(5, "0")


def expect(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """When a run is late."""
    before = len(findings.problems)
    read = record(findings, path, value, table.EXPECT, "`expect`")
    if len(findings.problems) > before:
        return WRONG
    if ("within" in read) == ("done_by" in read):
        what = "`within` and `done_by`" if read else "nothing"
        findings.add("bad_expect", path, f"it says {what}", 'write {within: 2h} or {done_by: "06:30"}', at_key=True)
        return WRONG
    if "timezone" in read and "within" in read:
        findings.add(
            "unfit_key", (*path, "timezone"), "`timezone` has no meaning beside `within`", "remove it", at_key=True
        )
        return WRONG
    return Expect(**read)


__all__ = [
    "cron",
    "dst",
    "expect",
    "interval",
    "made",
    "misfire",
    "overlap",
    "positive",
    "read_one",
    "schedule",
    "time_of_day",
    "timezone",
]
