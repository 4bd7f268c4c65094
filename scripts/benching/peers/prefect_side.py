"""Prefect: a flow of async tasks against a server that it starts for the process, on sqlite."""

from __future__ import annotations

import asyncio
import logging
import os

from benching import steps
from benching.clock import Clock
from benching.peers.telling import asked, tell


async def main() -> None:
    """Warm up, then time."""
    what = asked()
    os.environ |= {"PREFECT_HOME": str(what.place), "PREFECT_LOGGING_LEVEL": "CRITICAL", "DO_NOT_TRACK": "1"}
    os.environ |= {
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    }
    from prefect import flow, task

    logging.disable(logging.CRITICAL)

    @task
    async def nothing() -> None: ...

    @flow
    async def fan_out(tasks: int) -> None:
        await nothing()
        await asyncio.gather(*(nothing() for _ in range(tasks - 1)))

    parse, check, price, total = (task(step) for step in (steps.parse, steps.check, steps.price, steps.total))

    @flow
    async def order() -> str:
        text: str = await total(await price(await check(await parse())))
        return text

    await fan_out(5)
    if what.case.name == "W8":
        clock = Clock()
        await asyncio.gather(*(order() for _ in range(what.tasks)))
    else:
        clock = Clock()
        await fan_out(what.tasks)
    tell(clock)


if __name__ == "__main__":
    asyncio.run(main())
