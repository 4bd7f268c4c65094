"""The ports to what outlives a run: its checkpoints, its large results, and what saves work.

None holds a fact that the journals lack: checkpoints are rebuilt from them, what is on a shelf is made anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

import msgspec

from flowd.core.events import Artifact, Stored


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The newest durable success of one task: what freshness is judged against.

    `at` is when the task succeeded, `duration_s` how long its last attempt took. `touched`
    (a person's `flowd touch`) makes it fresh whatever its parts say, until its outputs change.
    `refused`: its gate has failed since the last success, so what is there is never fresh.
    """

    run: str
    at: datetime
    attempt: int = 1
    duration_s: float = 0.0
    result: Stored | None = None
    outputs: tuple[Artifact, ...] = ()
    metrics: dict[str, float] = {}
    parts: dict[str, str] = {}
    touched: bool = False
    refused: bool = False


class Checkpoints(Protocol):
    """The newest checkpoint of each task of each pipeline of one state directory.

    `key` names a pipeline: its name and its folder (`pipeline_key`).
    """

    async def load(self, key: str) -> dict[str, Checkpoint]:
        """The newest checkpoint by task, those of unmerged (crashed, living) runs included."""
        ...

    async def announce(self, key: str, run: str) -> None:
        """Remember, durably, that `run` may hold checkpoints that `load` has to look for."""
        ...

    async def merge(self, key: str, run: str, found: Mapping[str, Checkpoint]) -> None:
        """Take a finished run's checkpoints in, newest wins, then forget the announcement."""
        ...

    async def forget(self, key: str, tasks: tuple[str, ...]) -> tuple[str, ...]:
        """Drop checkpoints (all of them where `tasks` is empty); return those dropped."""
        ...


class Results(Protocol):
    """Large results, by content."""

    async def put(self, data: bytes, codec: str) -> str:
        """Keep `data`, synced, and return its sha256 in hex; the same content is kept once.

        `codec` is `json` or `pickle`; a pickle is signed, so that none but flowd's own is ever loaded.
        """
        ...

    async def get(self, digest: str, codec: str) -> bytes:
        """The bytes, checked. StateDamaged where they differ from `digest`, are gone or not signed as due."""
        ...


class Shelf(Protocol):
    """Where bytes are kept by a name, to save work; whatever is wrong with it, it keeps nothing and says nothing."""

    def get(self, name: str) -> bytes | None:
        """What was written there last, whole and as it was put; None where it is gone or damaged."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """Have it kept, by the next `write` at the latest."""
        ...

    def write(self) -> None:
        """Keep what was put."""
        ...
