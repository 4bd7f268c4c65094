"""How the service of a new run takes the place of that of an older one, whose owner is asked by its inbox.

With any port the new one is ready before the old one stops. A port of its own only one can have: the
old one stands back, and is begun again where the new one does not get ready.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from flowd.ports.executor import Work

if TYPE_CHECKING:
    from flowd.engine.channel import AttemptChannel
    from flowd.engine.driver import Driver

_PERIOD_S = 0.1
_MORE_S = 5.0
"""How long, beyond its grace, an older instance may take to stand back, in seconds."""


class HandOver:
    """The older instances of one service, as its new attempt meets them."""

    def __init__(self, driver: Driver, work: Work, channel: AttemptChannel) -> None:
        self._driver = driver
        self._work = work
        self._channel = channel
        self._older: list[str] = []
        self._back: list[str] = []

    async def prepare(self) -> None:
        """Find who serves now; those on the port that is wanted stand back."""
        work, service = self._work, self._work.task.service
        assert service is not None
        self._older = await self._serving()
        if not service.port:
            return
        for run in self._older:
            if await self._asked(run, "stand_back"):
                self._back.append(run)
        with anyio.move_on_after(work.grace.total_seconds() + _MORE_S):
            while set(self._back) & set(await self._serving()):  # noqa: ASYNC110  # it is asked of another process
                await anyio.sleep(_PERIOD_S)

    async def serves(self) -> None:
        """The new one serves: the older ones have done what they were begun for."""
        self._back = []
        for run in self._older:
            await self._asked(run, "stop")

    async def failed(self) -> None:
        """The new one does not get ready: whoever stood back for it goes on."""
        back, self._back = self._back, []
        for run in back:
            await self._asked(run, "take_back")

    async def _serving(self) -> list[str]:
        definition, run = self._driver.program.definition, self._driver.run
        neighbours = self._driver.services.adapters.neighbours
        begun = run.started_at or self._driver.now()
        return await neighbours.serving(run.spec.name, definition.folder, self._work.task.name, begun)

    async def _asked(self, run: str, kind: str) -> bool:
        by = f"run {self._driver.run.id}"
        answer = await self._driver.services.adapters.neighbours.ask(run, kind, self._work.task.name, by)
        wrong = "nobody answered" if answer is None else answer.error
        if wrong:
            self._channel.log("warning", f"the older instance, of run {run}, was asked to {kind}: {wrong}", {})
        return not wrong
