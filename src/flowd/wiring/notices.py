"""Notices as the daemon has them: on its state directory, with the real outside world."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from flowd.adapters import disk
from flowd.adapters.journal.file import FileJournal
from flowd.adapters.notifiers.routes import Notifiers
from flowd.adapters.outbox import FileOutbox
from flowd.adapters.secrets import SecretReader
from flowd.core.errors import BadRequest, StateDamaged
from flowd.core.events import Envelope
from flowd.core.links import SHORTEST_KEY
from flowd.core.secrecy import Secrecy
from flowd.core.spec import Definition
from flowd.daemon.notices import Notices, Pipelines
from flowd.engine.saying import say_damage
from flowd.ports.clock import Clock
from flowd.wiring.reading import reading


class JournalsRead:
    """The runs of a state directory, read beside their owners."""

    def __init__(self, journal: FileJournal) -> None:
        self._journal = journal

    def runs(self) -> list[str]:
        """The ids of all runs, newest first."""
        return self._journal.runs()

    def stamp(self, run: str) -> int:
        """When its last commit was made; of a run whose mark is lost, when its folder was changed last."""
        folder = self._journal.place(run)
        for path in (folder / "mark", folder):
            with suppress(FileNotFoundError, NotADirectoryError):
                return path.stat().st_mtime_ns
        return 0

    async def definition(self, run: str) -> Definition:
        """What a run was created with."""
        return await self._journal.definition(run)

    def select(self, run: str, events: Sequence[str], after: int = 0) -> AsyncIterator[Envelope]:
        """The durable records of these events, in order."""
        return self._journal.select(run, events, after)


@contextmanager
def notices(
    state_dir: Path,
    clock: Clock,
    pipelines: Pipelines,
    *,
    allow: Iterable[str] = (),
    base_url: str = "",
    secrecy: Secrecy | None = None,
    deliver: Any = None,
    **options: Any,
) -> Iterator[Notices]:
    """The part that tells people. `allow` is `private` of flowd.yaml: BadRequest where it is none.

    The daemon holds its state directory by then: the outbox has one writer. StorageFailing.
    """
    try:
        deliver = deliver or Notifiers(clock, allow)
    except ValueError as error:
        raise BadRequest(f"private: {error}") from None
    with reading(state_dir) as journal, closing(FileOutbox(state_dir, clock.now(), report=say_damage)) as outbox:
        yield Notices(
            outbox,
            deliver,
            clock,
            pipelines,
            JournalsRead(journal),
            SecretReader(),
            secrecy=secrecy,
            base_url=base_url,
            link_key=link_key(state_dir),
            place=f"{socket.gethostname()}, {state_dir}",
            **options,
        )


def link_key(state_dir: Path) -> bytes:
    """The key that signs links, made with the first start, for its owner alone. StateDamaged, StorageFailing."""
    path = state_dir / "daemon" / "link.key"
    with disk.failing(path, "make the key of links"):
        disk.make_folders(path.parent)
        if not os.path.lexists(path):
            disk.write_atomic(path, secrets.token_bytes(32))
        key = disk.read_regular(path)
    if len(key) < SHORTEST_KEY:
        raise StateDamaged(f"{path}: damaged at offset 0: no key; remove it, and links that were sent are void")
    return key
