"""Measuring: the sides of a case alternate, round by round, and only their ratios are kept apart from the rest."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benching.cases import FLOWD, IDEAL, Case, Goal

HOME = Path(__file__).resolve().parent.parent
LONGEST_S = 600

Take = Callable[[Case, int, str], Mapping[str, Any]]
"""Takes one sample: of a case, at a size, of one side."""


@dataclass(frozen=True)
class Ratio:
    """flowd over one floor: the median of the rounds' ratios, their range, and what is asked of it."""

    goal: Goal
    ratio: float
    low: float
    high: float
    floor_us: float

    @property
    def verdict(self) -> str:
        """What the goal says of it."""
        return self.goal.verdict(self.ratio)


@dataclass(frozen=True)
class Measured:
    """One case at one size. Memory is in bytes: the median over flowd's samples."""

    case: Case
    tasks: int
    rounds: int
    flowd_us: float
    ratios: tuple[Ratio, ...]
    idle: float
    built: float
    peak: float

    @property
    def bytes_a_task(self) -> float:
        """What the peak is over idle, for each task; pipeline and run together."""
        return (self.peak - self.idle) / self.tasks


def measure(case: Case, tasks: int, rounds: int, take: Take) -> Measured:
    """Each round takes every floor and flowd, in turn forwards and backwards, so that none is always first."""
    sides = [*case.floors_at(tasks), FLOWD]
    samples: dict[str, list[Mapping[str, Any]]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else reversed(sides):
            samples[side].append(take(case, tasks, side))
    seconds = {side: [float(sample["seconds"]) for sample in taken] for side, taken in samples.items()}
    if case.sleep_s:
        seconds[IDEAL] = [case.ideal_s(tasks)] * rounds
    ratios = [_ratio(goal, seconds[FLOWD], seconds[goal.over], tasks) for goal in case.goals if goal.over in seconds]
    memory = {
        kind: statistics.median(float(sample[kind]) for sample in samples[FLOWD]) for kind in ("idle", "built", "peak")
    }
    return Measured(
        case=case,
        tasks=tasks,
        rounds=rounds,
        flowd_us=statistics.median(seconds[FLOWD]) / tasks * 1e6,
        ratios=tuple(ratios),
        **memory,
    )


def _ratio(goal: Goal, ours: Sequence[float], floor: Sequence[float], tasks: int) -> Ratio:
    each = [one / other for one, other in zip(ours, floor, strict=True)]
    return Ratio(goal, statistics.median(each), min(each), max(each), statistics.median(floor) / tasks * 1e6)


def in_a_process(folder: Path, profile: int = 0) -> Take:
    """Takes each sample in a fresh process, with its files below `folder`."""

    def take(case: Case, tasks: int, side: str) -> Mapping[str, Any]:
        command = [sys.executable, "-m", "benching.sample", case.name, str(tasks), side, str(folder), str(profile)]
        done = subprocess.run(command, cwd=HOME, stdout=subprocess.PIPE, check=False, timeout=LONGEST_S)
        if done.returncode:
            raise RuntimeError(f"the sample of {side} in {case.name} at {tasks:,} ended with {done.returncode}")
        figures: dict[str, Any] = json.loads(done.stdout)
        return figures

    return take
