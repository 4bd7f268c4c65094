"""Which processes there are, whose they are, and how a signal reaches them.

A task's processes may leave their parent, their session and their environment behind. What no
fork, exec or `env -i` takes away are resource limits: each attempt gets a number of its own as
its soft limit of file locks, a limit that Linux keeps and has not enforced since version 2.4.
Elsewhere there is neither `/proc` nor such a mark, and a task is the group it was started as.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from collections.abc import Collection, Iterable, Iterator

LINUX = sys.platform == "linux"
MARK = "FLOWD_MARK"
_RLIMIT_LOCKS = 10
_NUMBER_BITS = 22
_PR_SET_CHILD_SUBREAPER = 36

Table = dict[int, tuple[int, int]]
"""Living processes: parent and session by process id; the dead that nobody has waited for are left out."""


def become_subreaper() -> None:
    """Become the parent of every descendant that loses its own; does nothing where there is no such thing."""
    if not LINUX:
        return
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def own_children() -> list[int]:
    """The direct children of this process, the dead among them included."""
    me = os.getpid()
    try:
        with open(f"/proc/{me}/task/{me}/children", "rb") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return [pid for pid, (parent, _) in processes().items() if parent == me]


def processes() -> Table:
    """All living processes; empty where there is no `/proc`."""
    table: Table = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return table
    for name in names:
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        # A first thread may be dead while others of its process live on.
        if len(fields) > 17 and (fields[0] not in b"ZX" or int(fields[17]) > 1):
            table[int(name)] = (int(fields[1]), int(fields[3]))
    return table


def family(table: Table, roots: Collection[int]) -> set[int]:
    """Those of `roots` that live, with all their descendants and all members of their sessions."""
    children: dict[int, list[int]] = {}
    sessions: dict[int, list[int]] = {}
    for pid, (parent, session) in table.items():
        children.setdefault(parent, []).append(pid)
        sessions.setdefault(session, []).append(pid)
    found: set[int] = set()
    ahead = list(roots)
    while ahead:
        pid = ahead.pop()
        if pid not in found:
            found.add(pid)
            ahead += children.get(pid, ())
            ahead += sessions.get(pid, ())
    return found & table.keys()


def tag_base(mark: str) -> int:
    """The first of the tags that belong to the incarnation `mark`."""
    import hashlib

    return int.from_bytes(hashlib.blake2b(mark.encode(), digest_size=5).digest(), "big") << _NUMBER_BITS


def tag(base: int, number: int) -> int:
    """The tag of the attempt with this number."""
    return base + number % (1 << _NUMBER_BITS)


def tag_of(pid: int) -> int | None:
    """The tag that a process carries, if it may be asked."""
    if not LINUX:
        return None
    try:
        return resource.prlimit(pid, _RLIMIT_LOCKS)[0]
    except OSError:
        return None


@contextlib.contextmanager
def tagged(value: int) -> Iterator[None]:
    """Within, every process that is begun carries `value`; nothing where that is not possible."""
    own = resource.getrlimit(_RLIMIT_LOCKS) if LINUX else (0, 0)
    _wear(value, own[1])
    try:
        yield
    finally:
        _wear(*own)


def _wear(soft: int, hard: int) -> None:
    if LINUX:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(_RLIMIT_LOCKS, (soft, hard))


def left_by(mark: str) -> set[int]:
    """The living processes that an engine of incarnation `mark` began, wherever they are by now."""
    return left_by_each([mark])[mark]


def left_by_each(marks: Collection[str]) -> dict[str, set[int]]:
    """As `left_by`, of several incarnations by one look at all processes."""
    found: dict[str, set[int]] = {mark: set() for mark in marks}
    bases = {tag_base(mark) >> _NUMBER_BITS: mark for mark in found}
    signs = {f"{MARK}={mark}".encode(): mark for mark in found}
    for pid in processes() if found else ():
        mark = bases.get((tag_of(pid) or 0) >> _NUMBER_BITS)
        for owner in [mark] if mark is not None else [signs[word] for word in _environment(pid) if word in signs]:
            found[owner].add(pid)
    return found


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def end(pids: Iterable[int], *, kindly: bool) -> None:
    """SIGKILL; kindly: SIGTERM, and SIGCONT so that those who are stopped hear it too."""
    for pid in pids:
        for number in (signal.SIGTERM, signal.SIGCONT) if kindly else (signal.SIGKILL,):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def end_group(group: int, *, kindly: bool) -> bool:
    """The same for a process group; False when it has no members left."""
    try:
        for number in (signal.SIGTERM, signal.SIGCONT) if kindly else (signal.SIGKILL,):
            os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
