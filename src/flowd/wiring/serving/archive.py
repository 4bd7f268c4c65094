"""All runs of a state directory, by their journals and inboxes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import anyio.to_thread

from flowd.adapters.inbox import ask
from flowd.adapters.journal.file import FileJournal
from flowd.core.errors import NoSuchRun
from flowd.core.events import Envelope
from flowd.ports.archive import Moved, Seen
from flowd.ports.executor import log_path
from flowd.ports.inbox import Answer, Request
from flowd.wiring.looking import look


class FileArchive:
    """As in the port."""

    def __init__(self, journal: FileJournal) -> None:
        self._journal = journal

    def runs(self) -> list[str]:
        """The ids of all runs, newest first."""
        return self._journal.runs()

    async def look(self, run: str) -> Seen:
        """A run as it stands."""
        found = await look(self._journal, run)
        return Seen(
            state=found.state,
            definition=found.definition,
            status=found.status,
            owner=str(found.owner) if found.owner is not None else "",
            document=found.document(),
        )

    def is_owned(self, run: str) -> bool:
        """Whether some process goes on with a run."""
        return self._journal.is_owned(run) is not None

    def events(self, run: str, after: int = 0) -> AsyncIterator[Envelope]:
        """Its durable events."""
        return self._journal.read(run, after)

    def log(self, run: str, task: str, attempt: int) -> Path:
        """The file of what an attempt said."""
        return log_path(self._journal.run_folder(run), task, attempt)

    async def moved(self, since: datetime) -> Sequence[Moved]:
        """The runs whose journals were written to since."""
        return await anyio.to_thread.run_sync(self._moved, since)

    def _moved(self, since: datetime) -> list[Moved]:
        least, found = since.timestamp(), []
        try:
            entries = list(os.scandir(self._journal.state_dir / "runs"))
        except OSError:
            return []
        for entry in entries:
            try:
                written = os.stat(f"{entry.path}/mark").st_mtime
            except OSError:
                continue  # nothing of it is acknowledged yet, or it was just removed
            if written >= least:
                found.append(Moved(run=entry.name, at=datetime.fromtimestamp(written, UTC)))
        return sorted(found, key=lambda one: (one.at, one.run))

    async def ask(self, run: str, request: Request) -> Answer | None:
        """Ask by its inbox."""
        try:
            return await ask(self._journal.run_folder(run), request)
        except (NoSuchRun, OSError):  # it has just been removed: nobody is left to answer
            return None
