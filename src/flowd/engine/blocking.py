"""For plain scripts without an event loop: one call that runs a pipeline to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio

from flowd.authoring.pipeline import Pipeline
from flowd.core.errors import BadRequest
from flowd.engine.engine import Engine
from flowd.engine.handle import Result


def run_blocking(make_engine: Callable[[], Engine], pipeline: Pipeline, *tasks: str, **options: Any) -> Result:
    """Run `pipeline` in a loop of its own; BadRequest inside a running loop, which it would block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise BadRequest("flowd.run() cannot be used inside a running event loop; write `await engine.run(…)`")

    async def main() -> Result:
        async with make_engine() as engine:
            return await engine.run(pipeline, *tasks, **options)

    return anyio.run(main)
