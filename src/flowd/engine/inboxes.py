"""What other processes ask of the runs that this engine owns: taken, journaled, answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import anyio

from flowd.core import states as s
from flowd.core.again import refusal
from flowd.core.errors import FlowdError, StateDamaged
from flowd.core.stimuli import RetryAsked
from flowd.engine import secrecy
from flowd.engine.approving import approve, reject
from flowd.engine.capacity import capacity_document, waiting_document
from flowd.engine.driver import Driver
from flowd.engine.resolving import resolve
from flowd.engine.saying import warn
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
        try:
            for run, request in await self._inbox.take(tuple(self._drivers)):
                await self._inbox.answer(run, request.id, await self._carry_out(run, request))
        except (
            OSError,
            StateDamaged,
        ) as error:  # a folder that cannot be read or written: whoever asks sees no answer, and runs go on
            warn("inbox_failed", error=str(error))

    async def _carry_out(self, run: str, request: Request) -> Answer:
        """Do what is asked and return once it is durable; or what refuses it, in words."""
        driver = self._drivers.get(run)
        if driver is None or driver.at_rest:
            return Answer(error="its owner has just let go of it", again=True)
        if request.kind == "limits":
            services = driver.services
            limits = capacity_document(services.admission)
            return Answer(data={"limits": limits, "waiting": waiting_document(services.admission, services.sharing)})
        if request.kind == "services":
            return Answer(data=driver.servings.document())
        try:
            with driver.approvals.staying():
                error = await _do(driver, request)
                await driver.recorded()
        except (FlowdError, OSError) as failure:
            return Answer(error=str(failure))
        return Answer(error=error)


async def _do(driver: Driver, request: Request) -> str:
    if driver.run.state in s.RUN_ENDED:
        return f"the run has already {driver.run.state}"
    unknown = [name for name in request.tasks if name not in driver.run.shape.index]
    if unknown:
        return f"the run has no task {unknown[0]}"
    if request.kind == "cancel":
        said = await secrecy.typed_to(driver, reason=request.reason)
        driver.cancel(said["reason"], request.by)
    elif request.kind == "pause":
        if driver.run.state == s.RUN_CANCELLING:
            return "the run is being cancelled"
        driver.pause(request.by)
    elif request.kind == "resume":
        if not driver.resume():
            return "the run has just come to rest; ask again"
    elif request.kind == "retry":
        asked = RetryAsked(
            tasks=request.tasks, downstream=request.downstream, by=request.by, failed_items=request.failed_items
        )
        if refused := refusal(driver.run, asked):
            return refused
        driver.tell(asked)
    elif request.kind in _ANSWERS and len(request.tasks) == 1:
        await _ANSWERS[request.kind](driver, request.tasks[0], request)
    else:
        return f"this flowd cannot {request.kind}"
    return ""


async def _of_service(ask: Callable[[str], None], task: str) -> None:
    ask(task)


_ANSWERS: Mapping[str, Callable[[Driver, str, Request], Awaitable[None]]] = {
    "resolve": lambda driver, task, said: resolve(driver, task, said.verdict, by=said.by, value=said.result),
    "approve": lambda driver, task, said: approve(driver, task, comment=said.comment, values=said.values, by=said.by),
    "stop": lambda driver, task, _said: _of_service(driver.servings.stop, task),
    "stand_back": lambda driver, task, _said: _of_service(driver.servings.stand_back, task),
    "take_back": lambda driver, task, _said: _of_service(driver.servings.take_back, task),
    "reject": lambda driver, task, said: reject(driver, task, comment=said.comment, by=said.by, back_to=said.back_to),
}
"""What a person answers of one task."""
