"""flowd runs pipelines: directed acyclic graphs of tasks, concurrently, and never forgets.

    from flowd import Engine, Pipeline, Retry

    prices = Pipeline("prices")

    @prices.task(outputs=["prices.json"], retry=Retry(attempts=3))
    async def ingest(ctx): ...

    async with Engine() as engine:
        result = await engine.run(prices)

This module is the table of contents; each name is imported when it is first used, so that
`import flowd` costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in typing, which takes a third of the interpreter's own start to import
if TYPE_CHECKING:
    from typing import Any

    from flowd.authoring.pipeline import Pipeline as Pipeline
    from flowd.authoring.retry import Retry as Retry
    from flowd.core.errors import BadParameters as BadParameters
    from flowd.core.errors import BadPipeline as BadPipeline
    from flowd.core.errors import BadRequest as BadRequest
    from flowd.core.errors import FlowdError as FlowdError
    from flowd.core.errors import NoSuchRun as NoSuchRun
    from flowd.core.errors import Problem as Problem
    from flowd.core.errors import RunFailed as RunFailed
    from flowd.core.errors import StateDamaged as StateDamaged
    from flowd.core.errors import StateLocked as StateLocked
    from flowd.core.errors import StorageFailing as StorageFailing
    from flowd.engine.handle import Result as Result
    from flowd.engine.handle import Run as Run
    from flowd.wiring.build import Engine as Engine
    from flowd.wiring.build import run as run

__version__ = "0.1.0"

_ROOMS = {
    "Engine": "flowd.wiring.build",
    "run": "flowd.wiring.build",
    "main": "flowd.cli.script",
    "Pipeline": "flowd.authoring.pipeline",
    "Retry": "flowd.authoring.retry",
    "Run": "flowd.engine.handle",
    "Result": "flowd.engine.handle",
    "BadParameters": "flowd.core.errors",
    "BadPipeline": "flowd.core.errors",
    "BadRequest": "flowd.core.errors",
    "FlowdError": "flowd.core.errors",
    "NoSuchRun": "flowd.core.errors",
    "Problem": "flowd.core.errors",
    "RunFailed": "flowd.core.errors",
    "StateDamaged": "flowd.core.errors",
    "StateLocked": "flowd.core.errors",
    "StorageFailing": "flowd.core.errors",
}

__all__ = list(_ROOMS)  # one list, in one place


def __getattr__(name: str) -> Any:
    """Import a public name from the room it lives in, once."""
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module 'flowd' has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(room), name)
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*__all__, "__version__"])
