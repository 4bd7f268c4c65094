"""The figures for people and for programs: ratios with their goals beside them, never a time alone."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benching.goals import SCALING, SECONDS, Goal, goals_of
from benching.measure import Measured, Value

_STYLES = {"ok": "green", "short of aim": "yellow", "SHORT": "bold red", "not measured": "dim", "": "dim"}
NARROWEST = 80
WITH_RANGE = 108
COLUMNS = {"ratio": 10, "range": 15, "cpu": 8, "must": 8, "aim": 8, "": 12}
"""How wide each is; what is compared takes the rest."""
WIDEST = 120


@dataclass(frozen=True)
class Row:
    """One line of a case: what is compared, what was found (None: nothing, `missing` says why), what is asked."""

    goal: Goal
    figure: str
    found: Value | None
    missing: str = ""

    @property
    def verdict(self) -> str:
        """What the goal says of the figure."""
        return self.goal.verdict(self.found.value) if self.found is not None else "not measured"


@dataclass(frozen=True)
class Section:
    """A case at one size, with its lines."""

    one: Measured
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """The case as a heading."""
        case, tasks = self.one.case, self.one.tasks
        size = f", {tasks:,}" if tasks > 1 else ""
        rounds = "1 round" if self.one.rounds == 1 else f"{self.one.rounds} rounds"
        unit = f"{case.unit}, " if any(row.goal.figure in {SECONDS, SCALING} for row in self.rows) else ""
        return f"{case.name} {case.title}{size}; {unit}{rounds}"


def sections(measured: Sequence[Measured]) -> list[Section]:
    """Everything measured, as it is shown."""
    small = {one.case.name: one for one in reversed(measured)}
    return [Section(one, tuple(_rows(one, small[one.case.name]))) for one in measured]


def _rows(one: Measured, smallest: Measured) -> Iterator[Row]:
    listed = goals_of(one.case.name, one.tasks)
    for goal in listed:
        if goal.figure == SCALING:
            if one.tasks > smallest.tasks:
                yield _scaling(goal, one, smallest)
        elif goal.over:
            if goal.over in one.samples or goal.over in one.missing:
                yield _compared(goal, one)
        else:
            found = one.amount(goal.figure, goal.side)
            if found is not None:
                yield Row(goal, goal.what, found)
    known = {goal.over for goal in listed}
    for peer in one.peers:
        if peer not in known:
            yield _compared(Goal(one.case.name, peer), one)


def _compared(goal: Goal, one: Measured) -> Row:
    found = one.ratio(goal.over, goal.figure, goal.side)
    if found is None:
        why = one.missing.get(goal.over) or one.missing.get(goal.side) or "no sample"
        return Row(goal, f"{goal.side} / {goal.over}", None, why)
    if goal.figure != SECONDS:
        return Row(goal, f"{goal.what}: {goal.side} {found.ours:.1f} / {goal.over} {found.theirs:.1f} ms", found)
    scale = 1e6 / one.tasks if one.case.per else 1e3
    return Row(goal, f"{goal.side} {_number(found.ours * scale)} / {goal.over} {_number(found.theirs * scale)}", found)


def _scaling(goal: Goal, one: Measured, smallest: Measured) -> Row:
    large, small = one.amount(SECONDS), smallest.amount(SECONDS)
    if large is None or small is None:
        return Row(goal, goal.what, None, "no sample")
    ours, theirs = large.value / one.tasks, small.value / smallest.tasks
    figure = f"flowd {_number(ours * 1e6)} / at {smallest.tasks:,} {_number(theirs * 1e6)}"
    value = Value(ours / theirs, ours / theirs, ours / theirs, ours, theirs)
    return Row(replace(goal, over=f"{smallest.tasks:,}"), figure, value)


def show(measured: Sequence[Measured], sync_us: float, width: int | None = None) -> None:
    """A table on stdout, as wide as the terminal is, between 80 and 120 columns."""
    console = Console()
    console.width = max(NARROWEST, min(width or console.width, WIDEST))
    names = [name for name in COLUMNS if console.width >= WITH_RANGE or name not in {"range", "cpu"}]
    console.print(_surroundings(sync_us))
    if "cpu" in names:
        console.print("cpu: the ratio of the processor time, which says more where others keep the machine busy.")
    for number, section in enumerate(sections(measured)):
        console.print()
        console.print(Text(section.title, style="bold"))
        console.print(_table(section, names, console.width, headed=not number))
    console.print()
    console.print(_closing(measured))


def _table(section: Section, names: Sequence[str], width: int, *, headed: bool) -> Table:
    table = Table(box=None, show_header=headed, pad_edge=False, padding=(0, 1, 0, 0))
    left = width - sum(COLUMNS[name] + 1 for name in names) - 1
    table.add_column("  what is compared", width=left)
    for name in names:
        table.add_column(name, justify="right" if name else "left", width=COLUMNS[name], no_wrap=True)
    for row in section.rows:
        cells = _cells(row)
        text = f"  {row.figure}" if row.found is not None else f"  {row.figure}: {row.missing}"
        table.add_row(Text(text), *(cells[name] for name in names))
    return table


def _cells(row: Row) -> dict[str, Text]:
    found, goal = row.found, row.goal
    cells = {"must": Text(_bound(goal.must)), "aim": Text(_bound(goal.aim))}
    cells[""] = Text(row.verdict, style=_STYLES[row.verdict])
    if found is None:
        return {**dict.fromkeys(COLUMNS, Text("")), **cells}
    spread = f"{_value(found.low)} to {_value(found.high)}" if found.low != found.high else ""
    cells |= {"ratio": Text(f"{_value(found.value)} {goal.unit}"), "range": Text(spread)}
    cells["cpu"] = Text("" if found.cpu is None else f"{_value(found.cpu)} x")
    return cells


def _closing(measured: Sequence[Measured]) -> str:
    rows = [row for section in sections(measured) for row in section.rows]
    asked = [row for row in rows if row.goal.must is not None]
    met = sum(row.found is not None and row.verdict != "SHORT" for row in asked)
    missing = [row for row in asked if row.found is None]
    text = f"{met} of {len(asked)} musts met"
    return text + (f"; {len(missing)} not measured, since a reference is missing" if missing else "")


def document(measured: Sequence[Measured], sync_us: float) -> dict[str, Any]:
    """The same for programs, with the figures of every sample."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "sync_us": round(sync_us, 1),
        "cases": [
            {
                "case": section.one.case.name,
                "title": section.one.case.title,
                "size": section.one.tasks,
                "rounds": section.one.rounds,
                "figures": [_figure(row) for row in section.rows],
                "samples": section.one.samples,
                "missing": section.one.missing,
            }
            for section in sections(measured)
        ],
    }


def _figure(row: Row) -> dict[str, Any]:
    found, goal = row.found, row.goal
    return {
        "side": goal.side,
        "over": goal.over,
        "figure": goal.figure,
        "text": row.figure,
        "value": None if found is None else found.value,
        "cpu": None if found is None else found.cpu,
        "range": None if found is None else [found.low, found.high],
        "unit": goal.unit,
        "must": goal.must,
        "aim": goal.aim,
        "verdict": row.verdict,
        "missing": row.missing or None,
    }


def falls_short(measured: Sequence[Measured]) -> list[Row]:
    """What misses a goal that must be met."""
    return [row for section in sections(measured) for row in section.rows if row.verdict == "SHORT"]


def _surroundings(sync_us: float) -> str:
    return (
        f"Python {platform.python_version()}; a synced write takes {sync_us:.0f} µs; medians of the rounds.\n"
        "Times are for orientation: the machine drifts, and only a ratio means something."
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _value(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.4f}"


def _bound(value: float | None) -> str:
    if value is None:
        return ""
    return f"≤ {value:.3g}" if value >= 0.1 else f"≤ {value:.2g}"
