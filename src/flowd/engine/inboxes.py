"""What other processes ask of the runs that this engine owns: taken, journaled, answered."""

from __future__ import annotations

from collections.abc import Mapping

import anyio

from flowd.core import states as s
from flowd.core.stimuli import RetryAsked
from flowd.engine.driver import Driver
from flowd.ports.inbox import Answer, Inbox, Request

PERIOD = 0.25
"""Seconds between two looks: a request is taken well within half a second."""


class Inboxes:
    """Looks into the inboxes of all living runs, in one go."""

    def __init__(self, inbox: Inbox, drivers: Mapping[str, Driver]) -> None:
        self._inbox = inbox
        self._drivers = drivers

    async def run(self) -> None:
        """Look again and again, for ever; ended by cancellation."""
        while True:
            await anyio.sleep(PERIOD)
            await self.run_once()

    async def run_once(self) -> None:
        """Take what waits, do it, and answer once it is durable."""
        if not self._drivers:
            return
        for run, request in await self._inbox.take(tuple(self._drivers)):
            driver = self._drivers.get(run)
            error = "the run has just ended" if driver is None else _refusal(driver, request)
            if driver is not None and not error:
                _carry_out(driver, request)
                await driver.stream.durable()
            await self._inbox.answer(run, request.id, Answer(error=error))


def _refusal(driver: Driver, request: Request) -> str:
    if driver.run.state in s.RUN_ENDED:
        return f"the run has already {driver.run.state}"
    unknown = [name for name in request.tasks if name not in driver.run.shape.index]
    if unknown:
        return f"the run has no task {unknown[0]}"
    return "" if request.kind in {"cancel", "retry"} else f"this flowd cannot {request.kind}"


def _carry_out(driver: Driver, request: Request) -> None:
    if request.kind == "cancel":
        driver.cancel(request.reason, request.by)
    else:
        driver.tell(RetryAsked(tasks=request.tasks, downstream=request.downstream, by=request.by))
