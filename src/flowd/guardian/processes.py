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
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

LINUX = sys.platform == "linux"
MARK = "FLOWD_MARK"
_RLIMIT_LOCKS = 10
_NUMBER_BITS = 22
_PR_SET_CHILD_SUBREAPER = 36
_MOST_LOOKS = 100

_Owner = TypeVar("_Owner")
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


class Dead(NamedTuple, Generic[_Owner]):
    """A child that has been waited for, and whose it was."""

    pid: int
    status: int
    usage: resource.struct_rusage
    owner: _Owner


def bury(whose: Callable[[int], _Owner]) -> Dead[_Owner] | None:
    """Wait for one dead child, and ask `whose` it is before nobody can say; None where none is dead.

    Raises ChildProcessError where there are no children.
    """
    if not LINUX:  # nor are there strays, whom it takes a look to know
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        return Dead(pid, status, usage, whose(pid)) if pid else None
    seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if seen is None:
        return None
    owner = whose(seen.si_pid)
    return Dead(*os.wait4(seen.si_pid, 0), owner)


def processes() -> Table:
    """All living processes; empty where there is no `/proc`."""
    table: Table = {}
    try:
        names = os.listdir("/proc")
    except OSError:
        return table
    for name in names:
        if name.isdigit() and (found := _parent_and_session(name)) is not None:
            table[int(name)] = found
    return table


def _parent_and_session(pid: int | str) -> tuple[int, int] | None:
    """Those of a living process; None where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    # A first thread may be dead while others of its process live on.
    if len(fields) <= 17 or (fields[0] in b"ZX" and int(fields[17]) <= 1):
        return None
    return int(fields[1]), int(fields[3])


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


def bearing(*marks: str) -> Iterator[tuple[int, str]]:
    """The living processes that bear the mark of one of these incarnations, its tag or its name in their environment.

    Each is given as it is found: one that forks and dies soon is ahead of any list.
    """
    bases = {tag_base(mark) >> _NUMBER_BITS: mark for mark in marks}
    signs = {f"{MARK}={mark}".encode(): mark for mark in marks}
    last = _last_born()
    ahead: Iterable[int] = processes() if marks else ()
    for _ in range(_MOST_LOOKS):
        for pid in ahead:
            mark = bases.get((tag_of(pid) or 0) >> _NUMBER_BITS)
            if mark is None:
                mark = next((signs[word] for word in _words(pid, "environ") if word in signs), None)
            if mark is not None and _lives(pid):
                yield pid, mark
        before, last = last, _last_born()
        if last == before:  # nobody was born meanwhile, so nobody was missed
            break
        ahead = range(before + 1, last + 1) if last > before else processes()


def _lives(pid: int) -> bool:
    return _parent_and_session(pid) is not None


def _last_born() -> int:
    """The highest process id that was given out in this round of ids; 0 where nobody tells."""
    try:
        with open("/proc/loadavg", "rb") as file:
            return int(file.read().split()[-1])
    except (OSError, ValueError):
        return 0


def namespace() -> str:
    """What tells the PID namespace of this process from others of this machine; empty where nobody tells."""
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return ""


def is_elsewhere(mark: str) -> bool:
    """Whether the name `mark` was taken in another PID namespace (a container): its ids mean others here.

    One of an older flowd does not say where.
    """
    where = mark.split("-")[4:5]
    return where not in ([], [""], [namespace()])


def engine_state(mark: str) -> str:
    """The state, as the kernel's letter, of the process that took the name `mark`; empty where it is not to be seen.

    A reused process id has another start.
    """
    if is_elsewhere(mark):
        return ""
    pid, started = [*mark.split("-"), "", ""][:2]
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    lives = len(fields) > 19 and fields[19].decode() == started and fields[0] not in b"ZX"
    return fields[0].decode() if lives else ""


def engine_lives(mark: str) -> bool:
    """Whether the process that took the name `mark` still runs, or may: of another namespace nobody here knows."""
    return is_elsewhere(mark) or bool(engine_state(mark))


def command_line(pid: int) -> list[bytes]:
    """The words that a process was begun with; none where it may not be asked."""
    return _words(pid, "cmdline")


def _words(pid: int, name: str) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read().removesuffix(b"\0").split(b"\0")
    except OSError:
        return []


def end(pids: Iterable[int], *, kindly: bool, by: int = signal.SIGTERM) -> None:
    """SIGKILL, never for this process; kindly: SIGTERM, and SIGCONT so that those who are stopped hear it too.

    `by` is another signal than SIGTERM.
    """
    me = os.getpid()
    for pid in pids:
        if pid == me:
            continue
        for number in (by, signal.SIGCONT) if kindly else (signal.SIGKILL,):
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
