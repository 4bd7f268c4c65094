"""How urgent a task is: the length of the longest path of work that waits behind it."""

from __future__ import annotations

from collections.abc import Sequence


def learned(durations: Sequence[float | None]) -> list[float]:
    """Expected seconds of each task, from its last duration where one is known.

    A single earlier run misleads as often as it helps, so each is shrunk halfway towards the
    mean of all; a task never seen counts as the mean.
    """
    seen = [seconds for seconds in durations if seconds is not None]
    mean = sum(seconds for seconds in seen) / len(seen) if seen else 1.0
    return [mean if seconds is None else (seconds + mean) / 2 for seconds in durations]


def critical_path(order: Sequence[int], successors: Sequence[Sequence[int]], durations: Sequence[float]) -> list[float]:
    """The longest path from each task to an end, its own duration included.

    `order` is a topological order of the tasks' indices; it is walked backwards once.
    """
    ranks = list(durations)
    for index in reversed(order):
        behind = successors[index]
        if behind:
            ranks[index] += max(ranks[successor] for successor in behind)
    return ranks
