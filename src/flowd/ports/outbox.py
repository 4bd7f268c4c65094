"""The port to the notices that are to be told, were told, and could not be: the daemon's durable memory of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from flowd.core.lateness import Outcome
from flowd.core.notices import Notice


class Seen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a run's journal was read for notices: up to event `seq`, when the journal's stamp was `stamp`.

    `pipeline` is its name, `folder` where it lies; `outcomes` are how it ended each time that it did; `ended` says when
    it did last: None while it goes on.
    """

    run: str
    seq: int
    stamp: int = 0
    pipeline: str = ""
    folder: str = ""
    ended: datetime | None = None
    outcomes: tuple[Outcome, ...] = ()


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A notice that is to be delivered, and since when."""

    notice: Notice
    added: datetime


class GivenUp(msgspec.Struct, frozen=True, kw_only=True):
    """A notice that could not be delivered: when that was given up, and why."""

    notice: Notice
    at: datetime
    why: str


class Outbox(Protocol):
    """All writes are on disk when they return, or raise StorageFailing and are written with the next one."""

    @property
    def born(self) -> datetime:
        """When it was begun: nobody is told of what happened before."""
        ...

    def knows(self, notice: str) -> bool:
        """Whether a notice was ever added, whatever became of it."""
        ...

    def waiting(self) -> Sequence[Waiting]:
        """What is to be delivered, in the order in which it was added."""
        ...

    def given_up(self) -> Sequence[GivenUp]:
        """What could not be delivered lately, the oldest first."""
        ...

    def seen(self) -> Mapping[str, Seen]:
        """How far each run was read."""
        ...

    async def add(self, notices: Collection[Notice], seen: Seen | None, now: datetime) -> list[Notice]:
        """Take in notices, those that it knows left out, and remember how far a run was read; those that were new."""
        ...

    async def delivered(self, notice: str, now: datetime) -> None:
        """It has arrived."""
        ...

    async def give_up(self, notice: str, why: str, now: datetime) -> None:
        """It is tried no more."""
        ...

    def is_used(self, nonce: str) -> bool:
        """Whether a link was used."""
        ...

    async def claim(self, nonce: str, until: datetime, now: datetime) -> bool:
        """Use a link up, which would be good `until` then; False where it was used before."""
        ...

    async def release(self, nonce: str, now: datetime) -> None:
        """Let a link be used again: nothing came of its use."""
        ...
