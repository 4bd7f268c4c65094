"""How amounts are written for people: durations, ages, counts, and what a task has to tell in short."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec

from flowd.core.task_state import TaskState

NOTE_LENGTH = 60
"""The longest note beside a task, in characters."""


def duration_text(seconds: float) -> str:
    """`0.31s`, `12.4s`, `3m05s`, `2h10m`, `3d04h`."""
    seconds = max(seconds, 0.0)
    if seconds < 0.995:
        return f"{seconds:.2f}s"
    if seconds < 99.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for size, unit, small, part in ((86400, "d", 3600, "h"), (3600, "h", 60, "m")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // small:02d}{part}"
    return f"{whole // 60}m{whole % 60:02d}s"


def wait_text(wait: timedelta) -> str:
    """A wait that is to come, without needless digits: `0.2s`, `10s`, `3m05s`."""
    seconds = wait.total_seconds()
    return f"{seconds:.3g}s" if seconds < 100 else duration_text(seconds)


def age_text(seconds: float) -> str:
    """How long ago, to one unit: `36s ago`, `5m ago`, `3d ago`."""
    seconds = max(seconds, 0.0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size:.0f}{unit} ago"
    return f"{seconds:.0f}s ago"


def size_text(size: int) -> str:
    """Bytes in the unit that keeps the number short: `812 B`, `1.4 KiB`."""
    amount, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"


def service_text(task: TaskState, *, serving: bool) -> str:
    """Where a service serves, since when, and how often it was begun again."""
    service = task.service
    assert service is not None
    restarts = f", restarted {service.restarts} times" if service.restarts > 1 else ", restarted once"
    where = f" at {service.url}" if service.url else ""
    lead = f"serves{where} since" if serving else f"served{where}, last from"
    return f"{lead} {service.since:%Y-%m-%d %H:%M:%S} UTC{restarts if service.restarts else ''}"


def tasks_text(count: int) -> str:
    """`1 task`, `4 tasks`."""
    return "1 task" if count == 1 else f"{count} tasks"


def items_text(count: int) -> str:
    """`1 item`, `4 items`."""
    return "1 item" if count == 1 else f"{count} items"


def number_text(value: float) -> str:
    """A number for a column: whole ones whole, others with four significant digits."""
    if isinstance(value, bool):
        return str(value).lower()
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.4g}"


def params_text(params: Mapping[str, Any]) -> str:
    """A run's parameters in one line: texts as they are, anything else as JSON."""
    shown = {
        name: value if isinstance(value, str) else msgspec.json.encode(value).decode() for name, value in params.items()
    }
    return "params: " + ", ".join(f"{name}={value}" for name, value in shown.items())


def note(metrics: Mapping[str, float], result: Any = None) -> str:
    """What a task has to tell in a few words: its metrics, else its result where that is short.

    `rows_in` beside `rows_out` reads as `203 → 199 rows`, a whole number under a plural name as
    `203 rows`, anything else as `mae 0.84`.
    """
    facts: Mapping[str, Any] = metrics
    if not facts and isinstance(result, dict):
        facts = {str(name): value for name, value in result.items()}
    elif not facts:
        plain = result is not None and isinstance(result, str | int | float)
        text = result if isinstance(result, str) else number_text(result) if plain else ""
        return text if "\n" not in text and len(text) <= NOTE_LENGTH else ""
    text = ""
    for phrase in _phrases(facts):
        longer = f"{text}, {phrase}" if text else phrase
        if len(longer) > NOTE_LENGTH:
            break
        text = longer
    return text


def _phrases(facts: Mapping[str, Any]) -> list[str]:
    phrases = []
    for name, value in facts.items():
        stem, _, end = name.rpartition("_")
        if isinstance(value, str):
            if 0 < len(value) <= 24 and value.isprintable() and "/" not in value:
                phrases.append(f"{name} {value}")
        elif not isinstance(value, int | float) or (end == "out" and f"{stem}_in" in facts):
            continue
        elif stem and end == "in" and isinstance(facts.get(f"{stem}_out"), int | float):
            phrases.append(f"{number_text(value)} → {number_text(facts[f'{stem}_out'])} {stem}")
        elif name.endswith("s") and not name.endswith("ss") and float(value).is_integer() and value is not True:
            phrases.append(f"{number_text(value)} {name.replace('_', ' ')}")
        else:
            phrases.append(f"{name} {number_text(value)}")
    return phrases
