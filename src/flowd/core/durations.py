"""Durations as people write them: `200ms 30s 10m 6h 7d`, also `1.5s` and `1h30m`."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_MOST = 36_500 * _UNITS["d"]


def parse_duration(text: str) -> timedelta:
    """The duration that `text` says; ValueError that says what to write instead."""
    total, position, smallest = 0.0, 0, _MOST + 1
    for part in _PART.finditer(text):
        unit = _UNITS[part[2]]
        if part.start() != position or unit >= smallest:
            break
        total += float(part[1]) * unit
        position, smallest = part.end(), unit
    if not text or position != len(text):
        raise ValueError(f"{text!r} is no duration; write a number and a unit, such as 200ms, 30s, 10m, 6h or 7d")
    if total > _MOST:
        raise ValueError(f"{text!r} is longer than a hundred years; write less")
    return timedelta(microseconds=round(total))


def format_duration(delta: timedelta) -> str:
    """The shortest form that `parse_duration` reads back."""
    micros = delta // timedelta(microseconds=1)
    for unit in ("d", "h", "m", "s", "ms"):
        if micros and micros % _UNITS[unit] == 0:
            return f"{micros // _UNITS[unit]}{unit}"
    return f"{micros / 1000:.3f}".rstrip("0").rstrip(".") + "ms" if micros else "0s"
