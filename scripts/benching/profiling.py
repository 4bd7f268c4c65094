"""Where the time of a run goes: the functions of the loop's thread, in µs a task."""

from __future__ import annotations

import cProfile
import pstats
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOTS = ("/src/flowd/", "/site-packages/", "/lib/")


@contextmanager
def profiling(tasks: int, top: int) -> Iterator[None]:
    """Profile the block and print its `top` functions by their own time, to stderr.

    The profiler makes small functions look dearer than they are: read the order, not the sums.
    """
    profiler = cProfile.Profile()
    profiler.enable()
    try:
        yield
    finally:
        profiler.disable()
        print(table(profiler, tasks, top), file=sys.stderr)


def table(profiler: cProfile.Profile, tasks: int, top: int) -> str:
    """The functions with the most time of their own, each with that and with what it called."""
    stats: Any = pstats.Stats(profiler)
    rows = sorted(stats.stats.items(), key=lambda row: row[1][2], reverse=True)[:top]
    lines = [f"{'own µs':>8} {'in all µs':>10} {'calls':>8}   a task, with the profiler's own cost; of {tasks} tasks"]
    for (file, line, name), (_, calls, own, whole, _) in rows:
        where = f"{_short(file)}:{line} " if line else ""
        lines.append(f"{own / tasks * 1e6:8.2f} {whole / tasks * 1e6:10.2f} {calls / tasks:8.2f}   {where}{name}")
    return "\n".join(lines)


def _short(file: str) -> str:
    for root in ROOTS:
        before, found, after = file.rpartition(root)
        if found and before:
            return f"flowd/{after}" if root == ROOTS[0] else after
    return Path(file).name
