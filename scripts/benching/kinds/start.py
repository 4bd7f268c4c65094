"""W7: what a process costs before it has done anything, beside a Python that does nothing."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from benching.cases import Case
from benching.goals import FLOWD
from benching.kinds import Figures, tool
from benching.kinds.commands import timed
from benching.place import prepared

REPEATED = 5
WORDS = {
    "W7v": ["--version"],
    "W7h": ["--help"],
    "W7c": ["validate", "once.yaml"],
    "W7r": ["run", "once.yaml"],
    "W7n": ["run", "fresh.yaml"],
}
STEPS = """
def nothing():
    return 1

def write(ctx):
    ctx.outputs[0].write_text("1")
"""


def take(case: Case, _tasks: int, side: str, place: Path, _profile: int) -> Figures:
    """Seconds of one process, as users start it: the median of five in a row, after one that is not timed."""
    place = prepared(place, _write)
    command = [tool("flowd"), *WORDS[case.name]] if side == FLOWD else [sys.executable, "-c", "pass"]
    timed(command, place)
    each = [timed(command, place) for _ in range(REPEATED)]
    return {figure: statistics.median(one[figure] for one in each) for figure in each[0]}


def _write(folder: Path) -> None:
    (folder / "steps.py").write_text(STEPS, encoding="utf-8")
    (folder / "once.yaml").write_text('name: once\ntasks: {one: {call: "steps:nothing"}}\n', encoding="utf-8")
    fresh = 'name: fresh\ntasks: {one: {call: "steps:write", outputs: [one.txt]}}\n'
    (folder / "fresh.yaml").write_text(fresh, encoding="utf-8")
