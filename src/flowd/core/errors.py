"""Every error flowd raises on purpose, and the exit code that each one means.

One root, few families. An error says whose fault it is, what was found, and what to do;
its `exit_code` is what the command line ends with when the error reaches it.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec

OF_STORAGE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE})
"""A disk that is full, over quota, at its limit of a file's size, read-only, broken, or of a forgetful server."""


class FlowdError(Exception):
    """The root of all errors raised by flowd; `exit_code` is the command line's answer."""

    exit_code: ClassVar[int] = 2


class Problem(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One thing wrong in a pipeline, where it stands and what to write instead.

    `file` is as the user named it; `line` and `column` count from 1 (None: not from a text
    file); `key` is the dotted path of the key; `code` is stable; `hint` may be empty.
    """

    file: str
    line: int | None = None
    column: int | None = None
    key: str = ""
    code: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """`FILE:LINE:COLUMN  key.path  what is wrong; what to write instead`."""
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        text = f"{self.message}; {self.hint}" if self.hint else self.message
        return "  ".join(part for part in (place, self.key, text) if part)


class BadPipeline(FlowdError):
    """A pipeline was refused whole, before anything ran; `problems` holds every reason."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class BadSettings(FlowdError):
    """A daemon's configuration was refused whole; `problems` holds every reason."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class BadParameters(FlowdError):
    """Parameters of a run were refused before it started; `problems` holds every reason."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class BadRequest(FlowdError):
    """A well-formed request that cannot be met as things stand, such as an unknown task."""


class NoSuchRun(FlowdError):
    """No run has this id or prefix in the state directory."""


class StateLocked(FlowdError):
    """Another living owner holds the run; the message names its pid, host and start."""

    exit_code = 6


class StorageFailing(FlowdError):
    """The disk refused a write that had to be durable; nothing after it was reported."""

    exit_code = 4


def cause(error: OSError) -> str:
    """What the system says of an error, with its name: `No space left on device (ENOSPC)`."""
    name = errno.errorcode.get(error.errno or 0, "")
    return f"{error.strerror or error} ({name})" if name else str(error)


def is_of_storage(error: OSError) -> bool:
    """Whether it is the disk that refuses, whatever was asked of it."""
    return error.errno in OF_STORAGE


class StateDamaged(FlowdError):
    """A record on disk is not what flowd wrote; the message names file and offset."""

    exit_code = 5


class RunFailed(FlowdError):
    """Raised by `Result.raise_for_failure()` only; a failed run is otherwise a value."""

    exit_code = 1


class IllegalTransition(FlowdError):
    """An event that its task's state does not allow: a defect in flowd or a forged journal."""

    exit_code = 5
