"""A control group of the task processes' own, where this machine lets one be made (Linux, version 2, no controllers).

What a task begins may take off every other mark; out of its group it comes only by writing to the
kernel's files. The guardian stands in the group itself, so that whatever it begins is born there:
moving a process takes some 12 ms where none has moved lately (the kernel waits for all its
processors), which a guardian can afford once and an attempt cannot. Which attempt a process is of
is known by other marks (`processes`).

A group's name carries its incarnation, which no other engine ever has: by name alone it is found
again, wherever it stands, and no group of another name is ever touched.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from flowd.guardian import mounts, processes

SWITCH = "FLOWD_CGROUP"
"""The variable that, where it is `off`, keeps a guardian from making a group."""
PREFIX = "flowd-"


def available() -> tuple[bool, str]:
    """Whether a guardian that began now would get a group; and where, or why not.

    A group is made and removed again to find out.
    """
    if os.environ.get(SWITCH) == "off":
        return False, f"switched off by {SWITCH}=off"
    try:
        folder = _own_folder()
        probe = Group(f"{folder}/{PREFIX}probe-{os.getpid()}")
        with contextlib.suppress(FileExistsError):
            os.mkdir(probe.path)
        try:
            if _read(f"{probe.path}/cgroup.type").strip() == "domain invalid":
                return False, f"{folder} is a group of threads, which takes no processes below it"
            for needed in (folder, probe.path):
                if not os.access(f"{needed}/cgroup.procs", os.W_OK):
                    return False, f"{needed}/cgroup.procs cannot be written"
        finally:
            probe.remove()
    except OSError as error:
        return False, f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return True, f"task processes get a control group of their own in {folder}"


class Group:
    """The group whose folder is `path`, with all groups below it; it may be gone by now."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._left = False

    @property
    def mark(self) -> str:
        """The incarnation that it is named after."""
        return os.path.basename(self.path).removeprefix(PREFIX)

    def pids(self) -> set[int]:
        """The processes in it; none where some are of a container: from here it cannot be seen whose they are."""
        found = {pid for folder in _tree(self.path) for pid in _pids(folder)}
        return set() if 0 in found else found

    def kill(self) -> bool:
        """SIGKILL for all that is in it, at one instant; False where that cannot be, or this process is in it."""
        pids = self.pids()
        if not pids or os.getpid() in pids:
            return False
        try:
            _write(f"{self.path}/cgroup.kill", b"1")
        except OSError:
            return False
        return True

    def leave(self) -> bool:
        """Move this process out of it, into the group above; False where that cannot be."""
        if not self._left:
            with contextlib.suppress(OSError):
                _write(f"{os.path.dirname(self.path)}/cgroup.procs", b"0")
                self._left = True
        return self._left

    def remove(self) -> bool:
        """Remove it; False where somebody still lives in it."""
        try:
            for folder in reversed(list(_tree(self.path))):
                os.rmdir(folder)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True


def enter(mark: str) -> Group | None:
    """Move this process into the group of `mark`, made where it is not there; None where that cannot be."""
    if os.environ.get(SWITCH) == "off" or "/" in mark:
        return None
    try:
        folder = _own_folder()
        _sweep(folder)
        group = Group(f"{folder}/{PREFIX}{mark}")
        with contextlib.suppress(FileExistsError):
            os.mkdir(group.path)
        try:
            _write(f"{group.path}/cgroup.procs", b"0")
        except OSError:
            group.remove()
            raise
    except OSError:
        return None
    return group


def remove(mark: str) -> None:
    """Remove the group of `mark` from where this process would make it, if it is there and nobody is in it."""
    with contextlib.suppress(OSError):
        Group(f"{_own_folder()}/{PREFIX}{mark}").remove()


def groups_of(*marks: str) -> list[Group]:
    """The groups of these incarnations, wherever they stand: another owner of a run may have begun somewhere else."""
    found = []
    names = {PREFIX + mark for mark in marks}
    ahead = [mount for _, mount in _mounts()] if marks else []
    while ahead:
        for path in _below(ahead.pop()):
            if os.path.basename(path) in names:
                found.append(Group(path))
            else:
                ahead.append(path)
    return found


def _sweep(folder: str) -> None:
    """Remove the empty groups of engines that are dead, or not to be seen: nobody else came by.

    Of one that lives the guardian stands in it, so it cannot be removed.
    """
    for path in _below(folder):
        name = os.path.basename(path)
        if name.startswith(PREFIX):
            mark = name.removeprefix(PREFIX)
            if mark.split("-")[0].isdigit() and not processes.engine_state(mark):
                Group(path).remove()


def _own_folder() -> str:
    """Where this process's own group is to be seen. OSError says why it is not."""
    line = next((line for line in _read("/proc/self/cgroup").splitlines() if line.startswith("0::")), None)
    if line is None:
        raise OSError("the kernel has no control groups of version 2")
    group = line[3:].rstrip("/")
    for root, mount in _mounts():
        if f"{group}/".startswith(f"{root}/") and "/.." not in group:
            return mount + group[len(root) :]
    raise OSError("the control group of this process is mounted nowhere (no cgroup2 file system)")


def _mounts() -> list[tuple[str, str]]:
    """The root and the place of each mount of version 2, without a slash at their ends."""
    found = []
    with contextlib.suppress(OSError):
        for root, point, _, kind, *_ in mounts.rows(_read("/proc/self/mountinfo")):
            if kind == "cgroup2":
                found.append((root.rstrip("/"), point))
    return found


def _below(folder: str) -> list[str]:
    """The groups directly below one."""
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _tree(folder: str) -> Iterator[str]:
    """A group, then all below it, each after the one above it."""
    yield folder
    for path in _below(folder):
        yield from _tree(path)


def _pids(folder: str) -> list[int]:
    """The processes of one group; 0 stands for one of a container that this process cannot see into."""
    try:
        return [int(pid) for pid in _read(f"{folder}/cgroup.procs").split()]
    except OSError:
        return []


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
