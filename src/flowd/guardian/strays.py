"""What an incarnation has left running, for those who come after its guardian."""

from __future__ import annotations

import os

from flowd.guardian import cgroup, processes


def left_by(mark: str) -> set[int]:
    """The living processes that an engine of incarnation `mark` began, wherever they are by now."""
    left = set(processes.bearing(mark))
    for group in cgroup.groups_of(mark):
        left |= group.pids()
    return left - guardians_of(mark) if left else left


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
    processes.end(processes.bearing(mark), kindly=False)


def tidy(mark: str) -> None:
    """Remove what is left of the groups of `mark`, once nobody is in them."""
    for group in cgroup.groups_of(mark):
        group.remove()
