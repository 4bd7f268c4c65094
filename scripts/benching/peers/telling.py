"""What the sides of all peers share. It needs nothing but Python's own library: a peer's environment has no more."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from benching.cases import CASES, DEFAULT_WIDTH, Case
from benching.clock import Clock
from benching.graphs import Graph

WARM_UP = 50


@dataclass(frozen=True)
class Asked:
    """What is asked of a peer: a case at a size, with an empty folder for its files."""

    case: Case
    tasks: int
    place: Path

    @property
    def graph(self) -> Graph:
        """The graph of the case at its size."""
        return self.case.shape(self.tasks)

    @property
    def small(self) -> Graph:
        """The graph to warm up with."""
        return self.case.shape(min(WARM_UP, self.tasks))

    @property
    def width(self) -> int:
        """How many tasks at once."""
        return self.case.width or DEFAULT_WIDTH


def asked() -> Asked:
    """What the arguments say."""
    name, tasks, place = sys.argv[1:4]
    folder = Path(place)
    if name != "W6":  # there the first run stays
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return Asked(CASES[name], int(tasks), folder)


def tell(clock: Clock) -> None:
    """Print the time since the clock was started, as the last line of stdout."""
    figures = clock.read()
    print("\n" + json.dumps(figures))


def tell_figures(figures: dict[str, float]) -> None:
    """Print figures as the last line of stdout."""
    print("\n" + json.dumps(figures))
