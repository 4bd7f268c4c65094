"""The `ctx` that a task's function may take: what it is, what it is about, what it wants to say."""

from __future__ import annotations

import math

TYPE_CHECKING = False  # as in typing: a child process of every attempt imports this, and little else
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, MutableMapping
    from pathlib import Path
    from typing import Any

    from flowd.adapters.executors.voices import Subject, Voice

_LEVELS = {"warn": "warning", "fatal": "critical", "exception": "error", "msg": "info"}


class Context:
    """Handed to a task's function as `ctx`; every member may be used from any thread."""

    __slots__ = ("_cancelled", "_log", "_spawn", "_subject", "_voice")

    def __init__(
        self,
        subject: Subject,
        voice: Voice,
        cancelled: Callable[[], bool] | None = None,
        spawn: Callable[..., Any] | None = None,
    ) -> None:
        self._subject = subject
        self._voice = voice
        self._cancelled = cancelled
        self._spawn = spawn
        self._log: Any = None

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self._subject.run_id

    @property
    def task(self) -> str:
        """The name of the task."""
        return str(self._subject.task.name)

    @property
    def attempt(self) -> int:
        """Which try of the task this is, counted from 1."""
        return self._subject.attempt

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters of the run."""
        return self._subject.params

    @property
    def inputs(self) -> list[Path]:
        """The task's inputs, absolute."""
        return list(self._subject.inputs)

    @property
    def outputs(self) -> list[Path]:
        """The task's outputs, absolute."""
        return list(self._subject.outputs)

    @property
    def cancelled(self) -> bool:
        """Whether the attempt is being stopped: a long function asks this and returns early."""
        return self._cancelled is not None and self._cancelled()

    @property
    def log(self) -> Any:
        """A structlog logger whose lines carry run, task and attempt; the host's settings do not touch it."""
        if self._log is None:
            self._log = _logger(self._voice)
        return self._log

    def metric(self, name: str, value: float) -> None:
        """Record a named number. ValueError where it is not finite, TypeError where it is no number."""
        self._voice.metric(name, finite(name, value))

    def progress(self, done: float, total: float | None = None) -> None:
        """Tell how far the task is: `done` of `total`, in any unit."""
        self._voice.progress(done, total)

    def spawn(
        self,
        program: str | os.PathLike[str],
        *arguments: str | os.PathLike[str],
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        check: bool = True,
    ) -> Any:
        """Run a program to its end; nothing of it outlives the attempt, whatever ends that.

        To be awaited in a coroutine; in a thread it returns when the program has ended. Gives its
        `exit_code`, `signal`, `tail` (the last 50 lines it said; all of it is in the attempt's log),
        `cpu_s` and `peak_rss`. `env` comes on top of the task's own, `cwd` is relative to where the
        task works. No shell sees the arguments. Raises CommandFailed where it ended badly, unless
        `check` is false; RuntimeError where the attempt is being stopped, or in executor process. What a
        coroutine has not awaited when its attempt ends is cancelled.
        """
        if self._spawn is None:
            raise RuntimeError(
                "ctx.spawn is for coroutines and threads; a function in executor process has a process of its own, "
                "with which whatever it begins by `subprocess` ends"
            )
        return self._spawn(program, *arguments, env=env, cwd=cwd, check=check)


def finite(name: str, value: Any) -> float:
    """`value` as the metric `name`; ValueError or TypeError that names it."""
    if not isinstance(name, str) or not name:
        raise TypeError(f"a metric needs a name, not {name!r}")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"metric {name} is {value!r}, not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"metric {name} is {number}, not a finite number")
    return number


def _logger(voice: Voice) -> Any:
    import structlog

    def hand_over(_logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        text = str(event.pop("event", ""))
        voice.log(_LEVELS.get(method, method), text, event)
        raise structlog.DropEvent

    return structlog.wrap_logger(
        None,
        processors=[structlog.processors.StackInfoRenderer(), structlog.processors.format_exc_info, hand_over],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        context_class=dict,
        cache_logger_on_first_use=False,
    ).bind()
