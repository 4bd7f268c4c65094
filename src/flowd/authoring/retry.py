"""`Retry`: a retry policy as it is written in Python, tenacity's own objects included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

Strategy = Callable[[Any], Any]
"""One of tenacity's stop, wait or retry objects: called with a RetryCallState."""

_POLICY = ("attempts", "backoff", "delay", "max_delay", "jitter", "on", "never_on", "max_elapsed")


class Retry:
    """When a failed attempt is tried again.

    `attempts` counts every try, the first included. The n-th wait is `delay` (constant),
    `delay * n` (linear) or `delay * 2**(n - 1)` (exponential), at most `max_delay`, plus a random
    part up to `jitter`; durations are `"200ms"` or timedelta. `on` and `never_on` hold exception
    names, exit codes or `"timeout"`. `stop`, `wait` and `retry` are objects of tenacity, which
    decide in place of the policy; with `stop`, `attempts` may be left out.
    """

    def __init__(
        self,
        attempts: int | None = None,
        *,
        backoff: str | None = None,
        delay: str | timedelta | None = None,
        max_delay: str | timedelta | None = None,
        jitter: str | timedelta | None = None,
        on: Sequence[str | int] | None = None,
        never_on: Sequence[str | int] | None = None,
        max_elapsed: str | timedelta | None = None,
        stop: Strategy | None = None,
        wait: Strategy | None = None,
        retry: Strategy | None = None,
    ) -> None:
        self.attempts = attempts
        self.backoff = backoff
        self.delay = delay
        self.max_delay = max_delay
        self.jitter = jitter
        self.on = on
        self.never_on = never_on
        self.max_elapsed = max_elapsed
        self.stop = stop
        self.wait = wait
        self.retry = retry

    def __repr__(self) -> str:
        return f"Retry({', '.join(f'{name}={value!r}' for name, value in self.written().items())})"

    def written(self) -> dict[str, Any]:
        """The policy as it would stand in a file: what was given, under its key."""
        return {name: getattr(self, name) for name in _POLICY if getattr(self, name) is not None}

    def strategies(self) -> tuple[Strategy | None, Strategy | None, Strategy | None] | None:
        """tenacity's objects (stop, wait, retry), None where there is none at all."""
        own = (self.stop, self.wait, self.retry)
        return None if own == (None, None, None) else own
