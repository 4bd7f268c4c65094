"""What commands ask of the daemon, by the requests that they leave in its folder: no token, no port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import anyio

from flowd.core.errors import FlowdError
from flowd.daemon.control import Control
from flowd.ports.inbox import Answer, Inbox, Request

PLACE: Final = "daemon"
_PERIOD_S: Final = 0.5

_Do = Callable[[Control, Request], Awaitable[Any]]


async def _schedules(control: Control, _asked: Request) -> Any:
    return control.schedules()


_KINDS: Final[Mapping[str, _Do]] = {
    "schedules": _schedules,
    "pause_schedule": lambda control, asked: control.pause_schedule(asked.name, asked.by),
    "resume_schedule": lambda control, asked: control.resume_schedule(asked.name, asked.by),
    "retry": lambda control, asked: control.retry(
        asked.run, asked.tasks, downstream=asked.downstream, failed_items=asked.failed_items, by=asked.by
    ),
    "resolve": lambda control, asked: control.resolve(asked.run, asked.tasks[0], asked.verdict, asked.result, asked.by),
    "approve": lambda control, asked: control.approve(asked.run, asked.tasks[0], asked.comment, asked.values, asked.by),
    "reject": lambda control, asked: control.reject(asked.run, asked.tasks[0], asked.comment, asked.back_to, asked.by),
}
"""What may be asked; those of a run answer nothing but that it is done."""


class Desk:
    """Takes requests, has `control` carry them out, and answers once that is durable."""

    def __init__(self, control: Control, inbox: Inbox) -> None:
        self._control = control
        self._inbox = inbox

    async def run(self) -> None:
        """Look again and again, for ever."""
        while True:
            await anyio.sleep(_PERIOD_S)
            await self.run_once()

    async def run_once(self) -> None:
        """Take what waits, do it, and answer."""
        for place, asked in await self._inbox.take((PLACE,)):
            await self._inbox.answer(place, asked.id, await self._carry_out(asked))

    async def _carry_out(self, asked: Request) -> Answer:
        do = _KINDS.get(asked.kind)
        if do is None:
            return Answer(error=f"this daemon cannot {asked.kind}")
        try:
            told = await do(self._control, asked)
        except (FlowdError, OSError) as refused:
            return Answer(error=str(refused))
        return Answer(data=told if asked.name or asked.kind == "schedules" else None)
