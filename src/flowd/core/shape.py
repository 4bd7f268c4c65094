"""A run's graph as arrays: tasks are numbers, so that a million of them fit and move fast."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from flowd.core.fanout import is_fanned
from flowd.core.rules import ALL_SUCCEEDED
from flowd.core.spec import TaskSpec, Wait


class Index(dict[str, int]):
    """The numbers of tasks by name: it holds the declared ones, and `find`s the items of those that have any."""

    find: Callable[[str], int | None] = staticmethod(lambda _name: None)

    def __missing__(self, name: str) -> int:
        number = self.find(name)
        if number is None:
            raise KeyError(name)
        return number

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and self.find(name) is not None)

    def get(self, name: str, default: Any = None) -> Any:
        """The number of a task or an item, or `default`."""
        number = super().get(name)
        if number is None:
            number = self.find(name)
        return default if number is None else number

    def declared(self, name: str) -> int | None:
        """The number of a declared task."""
        return super().get(name)


class Shape:
    """Which task needs which, by index in the order they were written.

    Needs outside the given tasks do not count: a run of some tasks is a graph of its own. `rules` are
    the trigger rules other than `all_succeeded`; with any, `counted` and `ruled` are the successors apart.
    """

    __slots__ = (
        "conditional", "counted", "declared", "finals", "index", "needs", "ruled", "rules", "services", "special",
        "specs", "successors",
    )  # fmt: skip

    def __init__(self, tasks: Sequence[TaskSpec]) -> None:
        self.specs = list(tasks)
        self.declared = len(self.specs)  # what comes behind these are items
        index = {task.name: number for number, task in enumerate(tasks)}
        self.index = Index(index)
        # Tuples, and nothing of its own for a task without: a million lists would keep the garbage collector busy.
        self.needs: list[tuple[int, ...]] = [
            tuple([index[need] for need in task.needs if need in index]) for task in self.specs
        ]
        self.successors: list[Sequence[int]] = [()] * len(self.specs)
        below: dict[int, list[int]] = {}
        for number, needs in enumerate(self.needs):
            for need in needs:
                below.setdefault(need, []).append(number)
        for number, followers in below.items():
            self.successors[number] = tuple(followers)
        self.rules = {n: task.trigger_rule for n, task in enumerate(self.specs) if task.trigger_rule != ALL_SUCCEEDED}
        self.finals = frozenset(n for n, task in enumerate(self.specs) if task.final)
        self.special = frozenset(n for n, task in enumerate(self.specs) if _is_special(task))
        self.services = frozenset(n for n, task in enumerate(self.specs) if task.service is not None)
        self.conditional = any(task.when is not None for task in self.specs)
        self.counted, self.ruled = self.successors, self.successors
        if self.rules:
            self.counted = [tuple(n for n in below if n not in self.rules) for below in self.successors]
            self.ruled = [tuple(n for n in below if n in self.rules) for below in self.successors]

    def __len__(self) -> int:
        return len(self.specs)

    def order(self) -> list[int]:
        """A topological order of the declared tasks; those in a cycle are left out (validation refuses them before)."""
        missing = [len(needs) for needs in self.needs[: self.declared]]
        order = [number for number, count in enumerate(missing) if count == 0]
        for number in order:  # grows while it is walked
            for successor in self.successors[number]:
                missing[successor] -= 1
                if missing[successor] == 0:
                    order.append(successor)
        return order

    def reach(self, start: Collection[int], *, down: bool) -> set[int]:
        """`start` and all that lies below it (`down`) or above it."""
        edges = self.successors if down else self.needs
        found = set(start)
        queue = list(start)
        while queue:
            for neighbour in edges[queue.pop()]:
                if neighbour not in found:
                    found.add(neighbour)
                    queue.append(neighbour)
        return found


def _is_special(task: TaskSpec) -> bool:
    """Whether the turn of a task may be another than that of an attempt: it asks a person, waits, or has items."""
    return task.approve is not None or isinstance(task.action, Wait) or is_fanned(task) or task.service is not None


def select(tasks: Sequence[TaskSpec], wanted: Collection[str]) -> tuple[str, ...]:
    """The names of `wanted`, all they need and what stands under `finally`, in written order; none wanted: all."""
    if not wanted:
        return tuple(task.name for task in tasks)
    shape = Shape(tasks)
    chosen = shape.reach([shape.index[name] for name in wanted], down=False) | shape.finals
    return tuple(task.name for number, task in enumerate(tasks) if number in chosen)
