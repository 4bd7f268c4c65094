"""What is measured, and what is asked of it: every case with its sizes, its floors and its goals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from benching.graphs import Graph, chain, fan_out, independent, layered

FLOWD = "flowd"
IDEAL = "ideal"
DEFAULT_WIDTH = 32
LARGE = 100_000
MOST_FOR_A_SYNC_EACH = 1_000  # L4 takes a millisecond a task


@dataclass(frozen=True)
class Goal:
    """flowd's time as a multiple of `over`: what must hold, and what is aimed at."""

    over: str
    must: float | None = None
    aim: float | None = None

    def verdict(self, ratio: float) -> str:
        """`ok`, `short of aim` or `SHORT`; empty where nothing is asked."""
        if self.must is not None and ratio > self.must:
            return "SHORT"
        if self.aim is not None and ratio > self.aim:
            return "short of aim"
        return "ok" if self.must is not None or self.aim is not None else ""


@dataclass(frozen=True)
class Case:
    """One kind of work. `width` is how many at once (None: flowd's default), `sleep_s` what a task does."""

    name: str
    title: str
    shape: Callable[[int], Graph]
    sizes: tuple[int, ...]
    floors: tuple[str, ...]
    goals: tuple[Goal, ...]
    width: int | None = None
    sleep_s: float = 0.0
    idempotent: bool = True

    def floors_at(self, tasks: int) -> tuple[str, ...]:
        """The floors that are measured at this size."""
        return tuple(floor for floor in self.floors if floor != "L4" or tasks <= MOST_FOR_A_SYNC_EACH)

    def ideal_s(self, tasks: int) -> float:
        """How long the tasks' own sleeping takes at this width."""
        return math.ceil(tasks / (self.width or DEFAULT_WIDTH)) * self.sleep_s


_USUAL = (Goal("L0"), Goal("L1"), Goal("L2", aim=3.5), Goal("L3", must=1.0), Goal("L4"))

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("W1", "fan-out", fan_out, (1_000, 10_000), ("L0", "L1", "L2", "L3", "L4"), _USUAL),
        Case(
            "W2",
            "chain",
            chain,
            (1_000,),
            ("L0", "L2", "L3", "L4"),
            (Goal("L0"), Goal("L2", aim=4.0), Goal("L3", must=1.0), Goal("L4")),
        ),
        Case(
            "W2n",
            "chain, not idempotent",
            chain,
            (1_000,),
            ("L3w", "L4"),
            (Goal("L3w", must=1.2), Goal("L4", aim=1.0)),
            idempotent=False,
        ),
        Case("W3", "layers of 50", layered, (1_000,), ("L0", "L1", "L2", "L3"), _USUAL[:4]),
        Case(
            "W4",
            "sleeps of 50 ms, 50 wide",
            independent,
            (500,),
            ("L2",),
            (Goal(IDEAL, must=1.05, aim=1.03), Goal("L2")),
            width=50,
            sleep_s=0.05,
        ),
    )
}

SCALING = Goal("W1 at 1,000", must=1.3, aim=1.1)
"""A task's cost in the larger fan-out, as a multiple of its cost in the smaller."""

OVER_IDLE_MB = Goal("idle", must=60.0, aim=20.0)
"""The peak of a fan-out of 10,000, in MB over an idle engine."""

PEAK_MB = Goal("nothing", must=60.0, aim=45.0)
"""The peak of a whole process with a fan-out of 1,000, in MB."""
