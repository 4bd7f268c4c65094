"""The log plan: whether what a task says it will log has come, one way or another, by its end.

A name has come as a field or the event of a `ctx.log` line, as a metric, as a key of the result, or
in what the attempt printed: as `name=value`, or as a key or the event of a line of JSON.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

_EVENTS = ("event", "msg", "message")


async def warnings(
    plan: Sequence[str], told: set[str], value: Any, printed: Callable[[Sequence[str]], Awaitable[list[str]]]
) -> tuple[str, ...]:
    """What is said of the names of `plan` that have not come; `printed` takes those and leaves what was not printed."""
    missing = not_told(plan, told, value)
    return warning(await printed(missing)) if missing else ()


def not_told(plan: Sequence[str], told: set[str], value: Any) -> list[str]:
    """The names of `plan` that are neither among what was `told` nor keys of the result `value`."""
    keys = {str(key) for key in value} if isinstance(value, dict) else set()
    return [name for name in plan if name not in told and name not in keys]


def not_printed(names: Sequence[str], log: Path) -> list[str]:
    """The `names` that do not stand in an attempt's log file either. Blocks."""
    left = set(names)
    try:
        with log.open("rb") as file:
            for line in file:
                left.difference_update(_said_in(line, left))
                if not left:
                    break
    except OSError:  # none was written, or it is gone: then nothing was printed there
        return list(names)
    return [name for name in names if name in left]


def _said_in(line: bytes, names: set[str]) -> Iterator[str]:
    if line.lstrip().startswith(b"{"):
        try:
            found = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # it only looked like JSON
            found = {}
        if isinstance(found, dict):
            events = {found[key] for key in _EVENTS if isinstance(found.get(key), str)}
            yield from [name for name in names if name in found or name in events]
    if b"=" in line:
        text = line.decode("utf-8", "replace")
        yield from [name for name in names if re.search(rf"(?<![\w.-]){re.escape(name)}=\S", text)]


def warning(missing: Sequence[str]) -> tuple[str, ...]:
    """What is said of names that have not come; it never fails a task."""
    if not missing:
        return ()
    return (f"log_plan_missing: {', '.join(missing)} neither logged, nor a metric, nor in the result",)
