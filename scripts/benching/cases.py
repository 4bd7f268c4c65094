"""What is measured: every case with its sizes and its sides. What is asked of it stands in `goals`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from benching.goals import FLOWD, PYTHON, RUN, TEXT, YAML
from benching.graphs import Graph, chain, chains, fan_out, independent, layered

DEFAULT_WIDTH = 32
MOST_FOR_A_SYNC_EACH = 1_000  # L4 takes a millisecond a task
LONG = 100_000
ROUNDS_OF_LONG = 3
HUGE = 1_000_000


@dataclass(frozen=True)
class Case:
    """One kind of work, at several sizes.

    `kind` is the module of `benching.kinds` that takes a sample; `floors` are what flowd is held
    against and `ours` flowd's own sides. `large` are sizes for --large, `quick` the one of
    --quick. `width` is how many at once (None: flowd's default), `sleep_s` what a task does.
    `per` is what a time is told of; where it is empty, the time of the whole is told.
    """

    name: str
    title: str
    kind: str
    sizes: tuple[int, ...]
    quick: int
    floors: tuple[str, ...]
    large: tuple[int, ...] = ()
    ours: tuple[str, ...] = (FLOWD,)
    shape: Callable[[int], Graph] = independent
    per: str = "a task"
    width: int | None = None
    sleep_s: float = 0.0
    idempotent: bool = True

    @property
    def unit(self) -> str:
        """What the times of the case are told in."""
        return f"µs {self.per}" if self.per else "ms"

    def sized(self, tasks: int | None) -> int | None:
        """Another size than the case's own, where it has sizes."""
        return tasks if self.sizes != (1,) else None

    def floors_at(self, tasks: int) -> tuple[str, ...]:
        """The floors that are measured at this size."""
        return tuple(floor for floor in self.floors if floor != "L4" or tasks <= MOST_FOR_A_SYNC_EACH)

    def rounds_at(self, tasks: int, rounds: int) -> int:
        """How many rounds: fewer of what takes minutes."""
        if tasks >= HUGE:
            return 1
        return min(rounds, ROUNDS_OF_LONG) if tasks >= LONG else rounds

    def ideal_s(self, tasks: int) -> float:
        """How long the tasks' own sleeping takes at this width."""
        return math.ceil(tasks / (self.width or DEFAULT_WIDTH)) * self.sleep_s


def _start(name: str, title: str) -> Case:
    return Case(name, title, "start", (1,), 1, (PYTHON,), per="")


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case(
            "W1",
            "fan-out",
            "graph",
            (1_000, 10_000),
            1_000,
            ("L0", "L1", "L2", "L3", "L4"),
            large=(LONG,),
            shape=fan_out,
        ),
        Case("W2", "chain", "graph", (1_000,), 300, ("L0", "L2", "L3", "L4"), shape=chain),
        Case("W2n", "chain, not idempotent", "graph", (1_000,), 300, ("L3w", "L4"), shape=chain, idempotent=False),
        Case("W3", "layers of 50", "graph", (1_000,), 500, ("L0", "L1", "L2", "L3"), shape=layered),
        Case("W4", "sleeps of 50 ms, 50 wide", "graph", (500,), 200, ("L2",), width=50, sleep_s=0.05),
        Case(
            "W5",
            "`true`, two wide",
            "commands",
            (300,),
            60,
            ("make -j2", "ninja -j2", "xargs -P2"),
            ours=(FLOWD, TEXT, RUN),
            per="a command",
            width=2,
        ),
        Case(
            "W6",
            "no-op re-run, whole process",
            "rerun",
            (10_000,),
            1_000,
            ("python stat", "ninja", "make"),
            ours=(FLOWD, YAML),
            per="",
        ),
        _start("W7v", "cold start: --version"),
        _start("W7h", "cold start: --help"),
        _start("W7c", "cold start: validate"),
        _start("W7r", "cold start: durable run of one task"),
        _start("W7n", "cold start: no-op re-run of one task"),
        Case(
            "W8",
            "pipelines of 4 JSON steps at once",
            "flows",
            (1_000,),
            100,
            ("L3", "L3, a journal each"),
            shape=chains,
            per="a pipeline",
        ),
        Case("W9", "one run", "graph", (LONG,), 20_000, ("L3",), large=(HUGE,)),
        Case("W10", "resume, by events", "resume", (LONG,), 10_000, ("crc and JSON",), large=(HUGE,), per="an event"),
        Case(
            "W11",
            "process tasks, two wide",
            "processes",
            (200,),
            20,
            ("process pool", "a python each"),
            width=2,
        ),
        Case("W12", "loop lag of the host", "lag", (10_000,), 1_000, ("L2", "L3")),
        Case("W13", "items of one list", "items", (LONG,), 2_000, ("L3",), per="an item"),
        Case("M", "memory of a task", "memory", (10_000,), 1_000, ()),
    )
}
