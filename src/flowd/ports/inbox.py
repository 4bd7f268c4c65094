"""The port by which other processes ask something of a run's owner."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import msgspec


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What someone asks of a run; `by` says who.

    `kind` is `cancel` (with a `reason`), `pause`, `resume`, `stop` of the one service named (`stand_back` and
    `take_back` while another run takes its place), `retry` of `tasks` (or of their `failed_items`), or `resolve` of
    the one task named, with a `verdict` and the JSON `result` of one that succeeded; `approve` of the one task named
    with the fields of its form as `values`, or `reject`, perhaps going `back_to` a task, each with a `comment`;
    `limits` asks for the capacity of the whole engine, `services` for what those of the run have told.

    Of a daemon the same is asked about the `run` that is named, which nobody goes on with; and `schedules`, or
    `pause_schedule` and `resume_schedule` of the one `name`d.
    """

    id: str
    kind: str
    by: str = ""
    reason: str = ""
    tasks: tuple[str, ...] = ()
    downstream: bool = False
    failed_items: bool = False
    verdict: str = ""
    result: Any = None
    comment: str = ""
    values: dict[str, Any] = {}
    back_to: str = ""
    run: str = ""
    name: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a request; `error` is empty where it was done and is durable. `data` is what was asked for.

    `again`: nothing came of it since the owner lets go of the run; whoever asks can do it, or ask the next owner.
    """

    error: str = ""
    again: bool = False
    data: Any = None


class Inbox(Protocol):
    """Requests to the runs that this process owns."""

    async def take(self, runs: Collection[str]) -> list[tuple[str, Request]]:
        """The requests that wait, oldest first, each with its run; each is taken once."""
        ...

    async def answer(self, run: str, request: str, answer: Answer) -> None:
        """Tell whoever asked."""
        ...
