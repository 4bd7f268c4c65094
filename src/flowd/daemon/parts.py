"""The parts of a daemon that go on side by side: one that fails is begun again, and takes no other down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential_jitter

from flowd.daemon.saying import LOGGER
from flowd.ports.clock import Clock

_HEALTHY_S = 60.0
"""A part that went on for so long has begun well: its next wait is the first again."""


class Part(msgspec.Struct, kw_only=True, eq=False):
    """Something that goes on for as long as the daemon does; `failures` since it last went on for a minute.

    `error` is what ended it last, and None while it goes on.
    """

    name: str
    run: Callable[[], Awaitable[None]]
    failures: int = 0
    error: str | None = None
    since: datetime | None = None


async def keep_going(part: Part, clock: Clock) -> None:
    """Run a part for ever, with growing waits where it fails."""

    async def once() -> None:
        began, part.since, part.error = clock.monotonic(), clock.now(), None
        try:
            await part.run()
        finally:
            if clock.monotonic() - began > _HEALTHY_S:
                part.failures = 0
                retrying.statistics["attempt_number"] = 0

    def failed(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        part.failures, part.error = part.failures + 1, f"{type(error).__name__}: {error}"
        wait = round(state.upcoming_sleep, 1)
        extra = {"fields": {"part": part.name, "again_in_s": wait, "failures": part.failures}}
        LOGGER.error("part_failed", exc_info=error, extra=extra)

    async def sleep(seconds: float) -> None:
        await clock.sleep_until(clock.monotonic() + seconds)

    retrying = AsyncRetrying(
        sleep=sleep,
        retry=retry_if_exception_type(Exception),
        wait=wait_exponential_jitter(multiplier=1, max=60, jitter=1),
        before_sleep=failed,
    )
    await retrying(once)
