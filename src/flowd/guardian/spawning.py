"""Begins a process: finds the program, opens its pipes, and says truthfully why it could not."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import stat
from collections.abc import Mapping, Sequence

from flowd.guardian.processes import tagged

_PRIVATE = 64  # descriptors to hand over are first moved out of the way of their new numbers
FIRST_PASSED = 3
_NO_RESOURCES = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT)
"""What a kernel says that can make no process: the last two of namespaces and keys, since no file is written then."""
OF_STORAGE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE})
"""As in `core.errors`, which is not to be imported here."""
_RESTORED = [
    number
    for name in ("SIGINT", "SIGHUP", "SIGPIPE", "SIGXFSZ", "SIGQUIT", "SIGTSTP", "SIGTTIN", "SIGTTOU")
    if (number := getattr(signal, name, None)) is not None
]


class CannotSpawn(Exception):
    """A process could not begin; `kind` is not_found, no_folder, denied, no_room, no_resources or other."""

    def __init__(self, kind: str, message: str) -> None:
        self.kind = kind
        super().__init__(message)


def from_error(error: OSError, doing: str) -> CannotSpawn:
    """`error` as what it means for the one who wanted a process."""
    said = f"{doing}: {os.strerror(error.errno)}" if error.errno else f"{doing}: {error}"
    if error.errno in _NO_RESOURCES:
        return CannotSpawn("no_resources", said)
    return CannotSpawn("denied" if error.errno in (errno.EACCES, errno.EPERM) else "other", said)


def find_program(name: bytes, env: Mapping[bytes, bytes]) -> bytes:
    """The path of the program `name`, looked for from the current folder as a shell would."""
    shown = os.fsdecode(name)
    if not name:
        raise CannotSpawn("not_found", "command not found: the command is empty")
    if b"/" in name:
        places = [name]
    else:
        path = env.get(b"PATH", os.fsencode(os.defpath))
        places = [os.path.join(folder or b".", name) for folder in path.split(b":")]
    refused = False
    for place in places:
        try:
            is_file = stat.S_ISREG(os.stat(place).st_mode)
        except OSError as error:
            refused = refused or error.errno == errno.EACCES
            continue
        if is_file and os.access(place, os.X_OK):
            return place
        refused = True
    if refused:
        raise CannotSpawn("denied", f"cannot execute {shown}: permission denied, or not a program")
    raise CannotSpawn("not_found", f"command not found: {shown}")


def move_away(descriptors: Sequence[int], expected: int) -> list[int]:
    """The same descriptors under high numbers, where no number given to a child can hide them.

    Where one cannot be moved, or did not even arrive, all stay as they were, and OSError is raised.
    """
    import fcntl

    if len(descriptors) < expected:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    moved: list[int] = []
    try:
        for descriptor in descriptors:
            moved.append(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _PRIVATE))  # noqa: PERF401  # those moved are closed on error
    except OSError:
        close(moved)
        raise
    close(descriptors)
    return moved


def close(descriptors: Sequence[int]) -> None:
    """Close all of them."""
    for descriptor in descriptors:
        os.close(descriptor)


def spawn(
    argv: Sequence[bytes],
    env: Mapping[bytes, bytes],
    cwd: bytes,
    *,
    output: tuple[int, int],
    passed: Sequence[int] = (),
    tag: int = 0,
    files: tuple[int, int] | None = None,
) -> int:
    """Begin `argv` in a session of its own and return its process id; raises CannotSpawn.

    `output` becomes its stdout and stderr, `passed` its descriptors from 3 on. `files` is the
    limit of open files that it gets back, where this process has raised its own.
    """
    try:
        os.chdir(cwd)
    except OSError as error:
        kind = "no_folder" if error.errno in (errno.ENOENT, errno.ENOTDIR) else "denied"
        said = f"the folder to run in, {os.fsdecode(cwd)}, cannot be entered: {os.strerror(error.errno or 0)}"
        raise CannotSpawn(kind, said) from None
    try:
        program = find_program(argv[0], env)
        moves = [(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in enumerate(output, 1)]
        moves += [(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in enumerate(passed, FIRST_PASSED)]
        own = resource.getrlimit(resource.RLIMIT_NOFILE)
        _limit_files(files)
        try:
            with tagged(tag):
                return os.posix_spawn(
                    program, list(argv), env, file_actions=moves, setsid=True, setsigmask=(), setsigdef=_RESTORED
                )
        finally:
            _limit_files(own)
    except FileNotFoundError:
        raise CannotSpawn(
            "not_found", f"cannot execute {os.fsdecode(program)}: its interpreter was not found"
        ) from None
    except OSError as error:
        raise from_error(error, f"cannot execute {os.fsdecode(argv[0])}") from None
    except ValueError as error:
        raise CannotSpawn("other", f"cannot execute {os.fsdecode(argv[0])}: {error}") from None
    finally:
        os.chdir("/")


def _limit_files(limits: tuple[int, int] | None) -> None:
    if limits is not None:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def raise_file_limit() -> tuple[int, int]:
    """Let this process open as many files as it may; returns the limits that stood before."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    _limit_files((before[1], before[1]))
    return before
