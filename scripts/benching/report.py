"""The figures for people and for programs: ratios with their goals beside them, never a time alone."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benching.cases import OVER_IDLE_MB, PEAK_MB, SCALING, Goal
from benching.measure import Measured
from benching.sample import MB

_STYLES = {"ok": "green", "short of aim": "yellow", "SHORT": "bold red", "": "dim"}


@dataclass(frozen=True)
class Row:
    """One figure with what it is held against; `unit` is empty for a ratio."""

    case: str
    figure: str
    value: float
    goal: Goal
    spread: str = ""
    unit: str = ""

    @property
    def verdict(self) -> str:
        """What the goal says of the figure."""
        return self.goal.verdict(self.value)


def rows(measured: Sequence[Measured]) -> Iterator[Row]:
    """Everything measured, as it is shown."""
    for one in measured:
        title = f"{one.case.name} {one.case.title}, {one.tasks:,}"
        for ratio in one.ratios:
            figure = f"flowd {_us(one.flowd_us)} / {ratio.goal.over} {_us(ratio.floor_us)} µs a task"
            yield Row(title, figure, ratio.ratio, ratio.goal, f"{ratio.low:.2f} to {ratio.high:.2f}")
    fan_outs = {one.tasks: one for one in measured if one.case.name == "W1"}
    if 1_000 in fan_outs:
        small = fan_outs[1_000]
        yield Row("W1 memory, 1,000", "peak of the process", small.peak / MB, PEAK_MB, unit=" MB")
        for tasks, larger in fan_outs.items():
            if tasks > 1_000:
                figure = f"a task at {tasks:,} {_us(larger.flowd_us)} / at 1,000 {_us(small.flowd_us)} µs"
                yield Row(f"W1 scaling, {tasks:,}", figure, larger.flowd_us / small.flowd_us, SCALING)
    if 10_000 in fan_outs:
        large = fan_outs[10_000]
        over = (large.peak - large.idle) / MB
        built = (large.built - large.idle) / large.tasks / 1000
        figure = f"peak over idle: {large.bytes_a_task / 1000:.2f} kB a task, {built:.2f} of them its pipeline"
        yield Row("W1 memory, 10,000", figure, over, OVER_IDLE_MB, unit=" MB")


def show(measured: Sequence[Measured], sync_us: float) -> None:
    """A table on stdout."""
    table = Table(title=_surroundings(measured, sync_us), title_style="", title_justify="left")
    for name in ("case", "what is compared", "ratio", "range", "must", "aim", ""):
        table.add_column(name, justify="right" if name in {"ratio", "must", "aim"} else "left", no_wrap=True)
    before = ""
    for row in rows(measured):
        if before and row.case != before:
            table.add_section()
        table.add_row(
            "" if row.case == before else row.case,
            row.figure,
            f"{row.value:.2f}{row.unit or ' x'}",
            row.spread,
            _bound(row.goal.must),
            _bound(row.goal.aim),
            Text(row.verdict, style=_STYLES[row.verdict]),
        )
        before = row.case
    console = Console()
    console.width = max(console.width, 160)  # a figure cut short is no figure
    console.print(table)


def document(measured: Sequence[Measured], sync_us: float) -> dict[str, Any]:
    """The same for programs."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "sync_us": round(sync_us, 1),
        "rounds": min((one.rounds for one in measured), default=0),
        "figures": [
            {
                "case": row.case,
                "figure": row.figure,
                "over": row.goal.over,
                "value": round(row.value, 4),
                "unit": row.unit.strip() or "ratio",
                "range": row.spread,
                "must": row.goal.must,
                "aim": row.goal.aim,
                "verdict": row.verdict,
            }
            for row in rows(measured)
        ],
    }


def falls_short(measured: Sequence[Measured]) -> list[Row]:
    """What misses a goal that must be met."""
    return [row for row in rows(measured) if row.verdict == "SHORT"]


def _surroundings(measured: Sequence[Measured], sync_us: float) -> str:
    rounds = min((one.rounds for one in measured), default=0)
    return (
        f"Python {platform.python_version()}; a synced write takes {sync_us:.0f} µs; medians of {rounds} rounds.\n"
        "Times are for orientation: the machine drifts, and only a ratio means something."
    )


def _us(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _bound(value: float | None) -> str:
    return "" if value is None else f"≤ {value:g}"
