"""What the needs of tasks make of them: order, cycles, needs that files imply, and who writes what.

House rules of this room. It judges names and paths as they are written and touches no disk:
paths are compared in normal form, relative to the pipeline's folder, and one that holds an
expression equals only itself. Nothing here recurses, so a chain of any length is fine.
Every answer follows the order in which the tasks were written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import msgspec

from flowd.core.patterns import finds, folder_of, folders_above, is_pattern
from flowd.core.spec import TaskSpec

Needs = Mapping[str, Sequence[str]]

_BUDGET = 200_000  # edges looked at to find a shorter cycle: more would be noticed by a person
_SHOWN = 8


class UnorderedWriters(msgspec.Struct, frozen=True):
    """Two tasks write `path` and no chain of needs says which comes first."""

    path: str
    first: str
    second: str


class AmbiguousWriter(msgspec.Struct, frozen=True):
    """`reader` reads `path`, which several tasks write, and needs none of them."""

    path: str
    reader: str
    writers: tuple[str, ...]


def topological_order(needs: Needs) -> list[str]:
    """Every task after all it needs; tasks in a cycle, and all behind them, are left out."""
    missing = {task: sum(need in needs for need in wanted) for task, wanted in needs.items()}
    followers = _followers(needs)
    order = [task for task, count in missing.items() if count == 0]
    for task in order:  # grows while it is walked
        for follower in followers[task]:
            missing[follower] -= 1
            if missing[follower] == 0:
                order.append(follower)
    return order


def _followers(needs: Needs) -> dict[str, list[str]]:
    followers: dict[str, list[str]] = {task: [] for task in needs}
    for task, wanted in needs.items():
        for need in wanted:
            if need in followers:
                followers[need].append(task)
    return followers


class Upstream:
    """Answers "is this task upstream of that one?" for many pairs of one graph without cycles.

    What lies above each task is one integer, a bit for each task, worked out on first use.
    """

    def __init__(self, needs: Needs) -> None:
        self._needs = needs
        self._bit: dict[str, int] | None = None
        self._above: dict[str, int] = {}

    def __call__(self, above: str, task: str) -> bool:
        """Whether `task` needs `above`, directly or not."""
        if above in self._needs.get(task, ()):
            return True
        if self._bit is None:
            self._work_out()
        bits = self._bit or {}
        return above in bits and bool(self._above.get(task, 0) >> bits[above] & 1)

    def _work_out(self) -> None:
        order = topological_order(self._needs)
        self._bit = {task: number for number, task in enumerate(order)}
        for task in order:
            above = 0
            for need in self._needs[task]:
                if need in self._bit:
                    above |= self._above[need] | 1 << self._bit[need]
            self._above[task] = above


# --- cycles ------------------------------------------------------------------------------------------


def find_cycle(needs: Needs) -> list[str] | None:
    """A cycle as a path in the order of the work, its first task again at the end; None without one.

    `[a, b, a]` says that b needs a and a needs b. It is the shortest that a bounded search
    finds, and begins with the task that was written first.
    """
    left = _only_cyclic(needs)
    if not left:
        return None
    best = _walk(left)
    looked = 0
    for start in left:
        if looked > _BUDGET or len(best) == 1:
            break
        shorter, steps = _shortest_through(left, start, len(best))
        looked += steps
        best = shorter or best
    place = {task: number for number, task in enumerate(needs)}
    first = min(range(len(best)), key=lambda index: place[best[index]])
    turned = [*best[first:], *best[:first]]
    turned.reverse()  # from "a needs b" to "b comes before a"
    return [turned[-1], *turned]


def find_cycles(needs: Needs, most: int = 5) -> list[list[str]]:
    """Up to `most` cycles that share no task, a shorter one first."""
    found: list[list[str]] = []
    left = dict(needs)
    while len(found) < most and (cycle := find_cycle(left)) is not None:
        found.append(cycle)
        for task in cycle[1:]:
            del left[task]
    return found


def cycle_text(cycle: Sequence[str]) -> str:
    """A cycle as `a → b → a`; a long one is shortened in its middle."""
    if len(cycle) <= _SHOWN:
        return " → ".join(cycle)
    half = _SHOWN // 2
    between = f"({len(cycle) - 2 * half} more)"
    return " → ".join((*cycle[:half], between, *cycle[-half:]))


def _only_cyclic(needs: Needs) -> dict[str, list[str]]:
    """The graph without what lies before or behind all cycles: everything left has a need left."""
    before = set(topological_order(needs))
    left = {task: [n for n in wanted if n in needs and n not in before] for task, wanted in needs.items()}
    left = {task: wanted for task, wanted in left.items() if task not in before}
    behind = set(topological_order(_followers(left)))
    return {task: [n for n in wanted if n not in behind] for task, wanted in left.items() if task not in behind}


def _walk(left: Mapping[str, Sequence[str]]) -> list[str]:
    """Some cycle, by following first needs until a task comes again."""
    task = next(iter(left))
    seen: dict[str, int] = {}
    while task not in seen:
        seen[task] = len(seen)
        task = left[task][0]
    return list(seen)[seen[task] :]


def _shortest_through(left: Mapping[str, Sequence[str]], start: str, under: int) -> tuple[list[str] | None, int]:
    """The shortest cycle through `start` with fewer than `under` tasks, and how many edges were looked at."""
    came: dict[str, str | None] = {start: None}
    far = {start: 1}
    queue = deque([start])
    steps = 0
    while queue:
        task = queue.popleft()
        if far[task] >= under:
            break
        for need in left[task]:
            steps += 1
            if need == start:
                path = [task]
                while (before := came[path[-1]]) is not None:
                    path.append(before)
                return path[::-1], steps
            if need not in came:
                came[need] = task
                far[need] = far[task] + 1
                queue.append(need)
    return None, steps


# --- files -------------------------------------------------------------------------------------------


def normal_path(path: str, folder: str = "") -> str:
    """A posix path in normal form: no `.`, `//` or inner `..`; relative where it lies in `folder`.

    A path that holds an expression stays as it is written.
    """
    if "{{" in path:
        return path
    rooted = path.startswith("/")
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part == ".." and rooted:
            continue
        elif part not in {"", "."}:
            parts.append(part)
    text = ("/" if rooted else "") + "/".join(parts)
    home = folder.rstrip("/") + "/"
    if rooted and folder and text.startswith(home):
        text = text[len(home) :]
    return text or ("/" if rooted else ".")


def escapes(path: str) -> bool:
    """Whether a relative path leaves its folder by `..`, even if only before its first expression."""
    literal = path.split("{{", 1)[0]
    return not path.startswith("/") and normal_path(literal).split("/", 1)[0] == ".."


def writers_of(tasks: Iterable[TaskSpec], folder: str = "") -> dict[str, list[str]]:
    """The tasks that declare each path as an output, or a glob that finds one so declared, in written order."""
    writers: dict[str, list[str]] = {}
    for task in tasks:
        for path in dict.fromkeys(normal_path(output.path, folder) for output in task.outputs):
            writers.setdefault(path, []).append(task.name)
    patterns = _Patterns(writers)
    more = {path: found for path in writers if (found := patterns.finding(path))}
    return {
        path: list(dict.fromkeys([*who, *(name for one in more.get(path, ()) for name in writers[one])]))
        for path, who in writers.items()
    }


class _Patterns:
    """The globs among paths, by the folder that each begins in: few are looked at for a path."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._by_folder: dict[str, list[str]] = {}
        for path in paths:
            if "{{" not in path and is_pattern(path):
                self._by_folder.setdefault(folder_of(path), []).append(path)

    def finding(self, path: str) -> list[str]:
        """Those that find a path, but for itself."""
        if not self._by_folder:
            return []
        near = [pattern for folder in ("", *_known_folders(path)) for pattern in self._by_folder.get(folder, ())]
        return [pattern for pattern in near if pattern != path and finds(pattern, path)]


def implied_needs(tasks: Sequence[TaskSpec], folder: str = "") -> dict[str, tuple[tuple[str, str], ...]]:
    """The needs that files imply, as (need, path as the reader writes it) for each task that has any.

    An input, or a file that a person is shown, that exactly one other task writes makes that task a
    need; so does one inside a folder that it writes, a folder into which it writes, and a pattern that
    matches what it writes; the task may write by a pattern, too. A task that writes the path itself
    updates it in place: it does not need itself, and its order with another writer of the same path has
    to be written down, so nothing is implied.
    """
    writers = writers_of(tasks, folder)
    patterns = _Patterns(writers)
    below: dict[str, list[str]] = {}
    for path in writers:
        for above in _known_folders(path):
            below.setdefault(above, []).append(path)
    implied: dict[str, tuple[tuple[str, str], ...]] = {}
    for task in tasks:
        found: dict[str, str] = {}
        for read in (*(ref.path for ref in task.inputs), *(task.approve.show if task.approve is not None else ())):
            path = normal_path(read, folder)
            finding = patterns.finding(path) if path not in writers else ()  # else it is known who writes it
            for written in (path, *_known_folders(path), *below.get(path, ()), *_matched(path, writers), *finding):
                who = writers.get(written, ())
                if len(who) == 1 and who[0] != task.name:
                    found.setdefault(who[0], read)
        if found:
            implied[task.name] = tuple(found.items())
    return implied


def _known_folders(path: str) -> list[str]:
    """The folders that hold a path as far as they are known: none for one with an expression."""
    return [] if "{{" in path else folders_above(path)


def _matched(path: str, writers: Mapping[str, Sequence[str]]) -> list[str]:
    """The written paths that a pattern finds."""
    if "{{" in path or not is_pattern(path):
        return []
    return [written for written in writers if written != path and finds(path, written)]


def writer_problems(
    tasks: Sequence[TaskSpec], needs: Needs, folder: str = ""
) -> list[UnorderedWriters | AmbiguousWriter]:
    """Paths with several writers that no need orders, and readers of such paths that need none of them.

    `needs` are all needs, the implied ones too, without a cycle.
    """
    shared = {path: who for path, who in writers_of(tasks, folder).items() if len(who) > 1}
    if not shared:
        return []
    upstream = Upstream(needs)
    place = {name: number for number, name in enumerate(topological_order(needs))}
    problems: list[UnorderedWriters | AmbiguousWriter] = []
    for path, who in shared.items():
        # Neighbours in a topological order are ordered, or the whole set is not.
        line = sorted(who, key=lambda name: place.get(name, len(place)))
        for first, second in pairwise(line):
            if not upstream(first, second):
                problems.append(UnorderedWriters(path, *sorted((first, second), key=who.index)))
    for task in tasks:
        for ref in task.inputs:
            path = normal_path(ref.path, folder)
            who = shared.get(path, [])
            if who and task.name not in who and not any(upstream(writer, task.name) for writer in who):
                problems.append(AmbiguousWriter(path, task.name, tuple(who)))
    return problems


def case_clashes(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ only in case: (the first written, the later one)."""
    first: dict[str, str] = {}
    clashes: list[tuple[str, str]] = []
    for name in names:
        known = first.setdefault(name.casefold(), name)
        if known != name:
            clashes.append((known, name))
    return clashes
