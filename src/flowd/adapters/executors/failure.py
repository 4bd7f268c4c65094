"""Puts an exception of the user's code into words that outlive the process it happened in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec

from flowd.core.events import Error
from flowd.ports.executor import CommandFailed

if TYPE_CHECKING:
    from traceback import TracebackException

MOST_MESSAGE = 4_000
MOST_TRACEBACK = 20_000
CHILDS_ROOM = 40
"""What has yet to be searched for secrets is cut far from where it will be cut then: none is seen in half."""

_OURS = str(Path(__file__).resolve().parents[2])
_ATTRIBUTE = "__flowd_error__"
_INSTALLED = ("site-packages", "dist-packages")


def describe(
    failure: BaseException, folder: Path, hide: Callable[[str], str] = lambda text: text, *, room: int = 1
) -> Error:
    """`failure` as data: type, message, traceback, and the innermost line of `folder` it came through.

    Texts go through `hide`; those that are too long are then cut, and say so, at `room` times the
    usual length. What a command or a child process already described is only cut.
    """
    error = failure.error if isinstance(failure, CommandFailed) else getattr(failure, _ATTRIBUTE, None)
    if not isinstance(error, Error):
        error = Error(
            type=type(failure).__name__,
            message=_message(failure),
            where=_where(failure, folder),
            traceback=_traceback(failure),
        )
    trace = error.traceback
    return msgspec.structs.replace(
        error,
        message=cut(hide(error.message), room * MOST_MESSAGE),
        traceback=None if trace is None else cut(hide(trace), room * MOST_TRACEBACK),
    )


def described(failure: BaseException, error: Error) -> BaseException:
    """`failure`, for which `describe` will say `error`."""
    setattr(failure, _ATTRIBUTE, error)
    return failure


def cut(text: str, most: int) -> str:
    """`text`, or its beginning and end with a note of how much is missing between them."""
    if len(text) <= most:
        return text
    head, tail = text[: most // 2], text[len(text) - most // 2 :]
    return f"{head}\n… ({len(text) - len(head) - len(tail)} characters are left out here) …\n{tail}"


def _message(failure: BaseException) -> str:
    try:
        return str(failure)
    except Exception as error:  # noqa: BLE001  # the text is the user's code too
        return f"(its text could not be made: {type(error).__name__})"


def _where(failure: BaseException, folder: Path) -> str | None:
    folders = {str(folder), str(folder.resolve())}
    if isinstance(failure, SyntaxError) and failure.filename:
        found = _inside(failure.filename, folders)
        if found:
            return f"{found}:{failure.lineno}"
    places = [_inside(frame.tb_frame.f_code.co_filename, folders) for frame in _frames(failure.__traceback__)]
    lines = [frame.tb_lineno for frame in _frames(failure.__traceback__)]
    inside = [f"{place}:{line}" for place, line in zip(places, lines, strict=True) if place]
    return inside[-1] if inside else None


def _frames(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _inside(filename: str, folders: set[str]) -> str | None:
    """The path relative to the pipeline's folder, for code that was written there and not installed."""
    path = Path(filename)
    if any(part in _INSTALLED for part in path.parts) or _is_ours(filename):
        return None
    for folder in folders:
        if path.is_relative_to(folder):
            return str(path.relative_to(folder))
    return None


def _is_ours(filename: str) -> bool:
    return filename.startswith(_OURS + "/")


def _traceback(failure: BaseException) -> str:
    import traceback

    try:
        told = traceback.TracebackException.from_exception(failure)
        _leave_out_machinery(told, set())
        return "".join(told.format())
    except Exception as error:  # noqa: BLE001  # an exception that cannot be shown is still a failure
        return f"(its traceback could not be made: {type(error).__name__})\n"


def _leave_out_machinery(told: TracebackException, seen: set[int]) -> None:
    """Drop flowd's own frames, in the causes and members too."""
    if id(told) in seen:
        return
    seen.add(id(told))
    told.stack[:] = [frame for frame in told.stack if not _is_ours(frame.filename)]
    for other in (told.__cause__, told.__context__, *(told.exceptions or ())):
        if other is not None:
            _leave_out_machinery(other, seen)


def of_user_code(failure: BaseException, folder: Path) -> Exception:
    """`failure` as an ordinary exception: a task's `sys.exit` ends nothing but its own attempt."""
    if isinstance(failure, Exception):
        return failure
    error = describe(failure, folder, room=CHILDS_ROOM)
    if isinstance(failure, SystemExit):
        code = failure.code
        error = msgspec.structs.replace(
            error,
            message=f"the function called sys.exit({'' if code is None else repr(code)})",
            exit_code=code if isinstance(code, int) else 0 if code is None else 1,
        )
    return CommandFailed(error)
