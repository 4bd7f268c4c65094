"""The shapes of work that are measured: each task by its number, with the numbers of its needs."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property

WIDTH_OF_A_LAYER = 50
NEEDS_IN_A_LAYER = 3
STEPS_OF_A_CHAIN = 4
SEED = 20  # any number will do, as long as it stays: every run then measures one graph


@dataclass(frozen=True)
class Graph:
    """Tasks 0, 1, …; `needs[n]` are the tasks that n waits for, all of smaller number."""

    needs: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.needs)

    @cached_property
    def successors(self) -> tuple[tuple[int, ...], ...]:
        """The tasks that wait for each."""
        below: list[list[int]] = [[] for _ in self.needs]
        for number, needs in enumerate(self.needs):
            for need in needs:
                below[need].append(number)
        return tuple(map(tuple, below))

    @property
    def missing(self) -> list[int]:
        """How many needs each task still waits for, at the start."""
        return [len(needs) for needs in self.needs]


def fan_out(tasks: int) -> Graph:
    """One task that all others need."""
    return Graph(((), *(((0,),) * (tasks - 1))))


def chain(tasks: int) -> Graph:
    """Each task needs the one before it."""
    return Graph(((), *((number,) for number in range(tasks - 1))))


def layered(tasks: int) -> Graph:
    """Layers of 50; each task needs three of the layer before, drawn with a fixed seed."""
    draw = random.Random(SEED)
    needs: list[tuple[int, ...]] = []
    for number in range(tasks):
        first = number - number % WIDTH_OF_A_LAYER
        above = range(first - WIDTH_OF_A_LAYER, first)
        needs.append(tuple(sorted(draw.sample(above, NEEDS_IN_A_LAYER))) if first else ())
    return Graph(tuple(needs))


def independent(tasks: int) -> Graph:
    """Nobody needs anybody."""
    return Graph(((),) * tasks)


def chains(pipelines: int) -> Graph:
    """Pipelines that do not know each other, each a chain of four tasks."""
    return Graph(
        tuple((number - 1,) if number % STEPS_OF_A_CHAIN else () for number in range(pipelines * STEPS_OF_A_CHAIN))
    )
