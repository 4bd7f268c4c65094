"""The port through which an attempt's action is carried out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import msgspec

from flowd.core.events import Ending, Error
from flowd.core.spec import TaskSpec


class Work(msgspec.Struct, kw_only=True, eq=False):
    """One attempt, fully resolved: everything an executor needs, and nothing to look up.

    `argv` is the program of a `run` action; `function` with `arguments` the call of a `call`
    action (`arguments` holds neither `ctx`: the executor passes its context where
    `wants_ctx`). `env` is what flowd adds to the environment; paths are absolute. `run_folder`
    is where the run is kept. `grace` may become shorter while the attempt runs: it is read when
    the attempt is stopped. What a command prints shows none of `redactions`; `closing` are called
    when the attempt has ended. A service has a `port` (0: none) and, perhaps, a `lifetime`; `began` is
    told its first process.
    """

    run_id: str
    task: TaskSpec
    attempt: int
    folder: Path
    cwd: Path
    run_folder: Path
    env: Mapping[str, str] = {}
    params: Mapping[str, Any] = {}
    inputs: tuple[Path, ...] = ()
    outputs: tuple[Path, ...] = ()
    argv: tuple[str, ...] = ()
    function: Callable[..., Any] | None = None
    wants_ctx: bool = False
    arguments: Mapping[str, Any] = {}
    grace: timedelta = timedelta(seconds=10)
    redactions: tuple[str, ...] = ()
    closing: tuple[Callable[[], None], ...] = ()
    port: int = 0
    lifetime: timedelta | None = None
    began: Callable[[int], None] | None = None

    @property
    def log(self) -> Path:
        """The attempt's own file. Made when it is asked for: most coroutines never have one."""
        return log_path(self.run_folder, self.task.name, self.attempt)


attempt_at_work: ContextVar[Work | None] = ContextVar("flowd attempt", default=None)
"""The attempt whose function runs in this context, where one does; executors set it in the function's own context."""


def log_path(run_folder: Path, task: str, attempt: int) -> Path:
    """The file of an attempt's own output."""
    return run_folder / "logs" / f"{file_name(task)}.{attempt}.log"


def file_name(task: str) -> str:
    """A task's name as a part of a file's: an item's key may hold what no file's name can."""
    if "[" not in task:
        return task
    from urllib.parse import quote

    safe = quote(task, safe="[]@:+=,") if "/" in task or len(task.encode()) > _MOST_NAME else task
    if len(safe.encode()) <= _MOST_NAME:
        return safe
    return f"{safe[:_MOST_NAME]}.{sha256(task.encode()).hexdigest()[:16]}"


_MOST_NAME = 180


class Channel(Protocol):
    """What a running attempt says while it runs; every method may be called from any thread."""

    def log(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """A line for people, with its fields."""
        ...

    def metric(self, name: str, value: float) -> None:
        """A named finite number; ValueError otherwise."""
        ...

    def progress(self, done: float, total: float | None) -> None:
        """How far the attempt is."""
        ...

    def ended(self, ending: Ending) -> None:
        """How the attempt's process ended; told before `Executor.run` returns or raises."""
        ...

    def probed(self, wrong: str) -> None:
        """The attempt is a service, and what its probe said last: empty where it has passed."""
        ...

    async def serves(self, url: str, pid: int) -> None:
        """The attempt is a service, and its probe has passed."""
        ...


class Executor(Protocol):
    """Carries out attempts of one kind; opened and closed with the engine."""

    async def __aenter__(self) -> Executor:
        """Open what is shared by all attempts."""
        ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all that is left and close."""
        ...

    async def run(self, work: Work, channel: Channel) -> object:
        """Do the work and return its value, or raise; ended by cancelling the caller's scope.

        After cancellation it returns only when nothing of the attempt is left, or raises
        Abandoned. A command that ends badly raises CommandFailed.
        """
        ...


class CommandFailed(Exception):
    """A command ended with a non-zero code or by a signal, or could not be found."""

    def __init__(self, error: Error) -> None:
        self.error = error
        super().__init__(error.message)


class EndUnknown(CommandFailed):
    """flowd lost sight of the attempt, and what was left of it was ended: nobody knows how far it had come."""


class NotStarted(Exception):
    """The attempt could not begin (no process, no memory): safe to try again in any case."""


class NoRoom(NotStarted):
    """The attempt could not begin since the disk refused a file that it needs: storage fails, not the task."""


class Abandoned(Exception):
    """The work could not be stopped and goes on; `finished` (awaitable) says when it ends."""

    def __init__(self, message: str, finished: Awaitable[object] | None = None) -> None:
        self.finished = finished
        super().__init__(message)
