"""Readers of `wait`: a duration, or a moment.

House rules of this room: those of `kinds`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flowd.authoring import format as table
from flowd.authoring.findings import Findings, KeyPath, quoted
from flowd.authoring.format import Key
from flowd.authoring.kinds import WRONG, duration, text
from flowd.authoring.records import record
from flowd.authoring.schedules import time_of_day
from flowd.core.spec import Wait


def wait(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """How long, or until when."""
    if not isinstance(value, Mapping):
        found = duration(findings, path, value, key)
        return WRONG if found is WRONG else Wait(duration=found)
    before = len(findings.problems)
    read = record(findings, path, value, table.WAIT, "`wait`")
    return WRONG if len(findings.problems) > before else Wait(**read)


def moment(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A time of day, or a date and time, as text."""
    if isinstance(value, datetime):
        return value.isoformat()
    found = text(findings, path, value, key)
    if found is WRONG or len(found) <= len("06:30"):
        return found if found is WRONG else time_of_day(findings, path, value, key)
    try:
        return datetime.fromisoformat(found).isoformat()
    except ValueError:
        hint = 'write "06:30" or "2026-12-24T18:00", in quotes'
        findings.add("bad_time", path, f"{quoted(found)} is no moment", hint)
        return WRONG
