"""What an incarnation has left running, for those who come after its guardian."""

from __future__ import annotations

import os
from collections.abc import Collection

from flowd.guardian import cgroup, processes


def left_by(mark: str) -> set[int]:
    """The living processes that an engine of incarnation `mark` began, wherever they are by now."""
    return left_by_each([mark]).get(mark, set())


def left_by_each(marks: Collection[str]) -> dict[str, set[int]]:
    """As `left_by`, of those incarnations that have left something; all by one look, this process left out."""
    left: dict[str, set[int]] = {}
    for pid, mark in processes.bearing(*marks):
        left.setdefault(mark, set()).add(pid)
    for group in cgroup.groups_of(*marks):
        left.setdefault(group.mark, set()).update(group.pids())
    found = {mark: pids - guardians_of(mark) - {os.getpid()} for mark, pids in left.items() if pids}
    return {mark: pids for mark, pids in found.items() if pids}


def guardians_of(mark: str) -> set[int]:
    """The living guardians of `mark`: they end by themselves what their engine has left."""
    found = set()
    for pid in processes.processes():
        match processes.command_line(pid):
            case [*_, program, _, _, last] if last == os.fsencode(mark) and program.endswith(b"/guardian/__main__.py"):
                found.add(pid)
    return found


def kill(mark: str) -> None:
    """SIGKILL for all that `mark` has left, at one instant where it has a group, else for each as it is found."""
    for group in cgroup.groups_of(mark):
        if not group.kill():
            processes.end(group.pids(), kindly=False)
    processes.end((pid for pid, _ in processes.bearing(mark)), kindly=False)


def tidy(mark: str) -> None:
    """Remove what is left of the groups of `mark`, once nobody is in them."""
    for group in cgroup.groups_of(mark):
        group.remove()
