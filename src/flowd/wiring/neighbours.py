"""The other runs of a state directory that go on, found by their journals and asked by their inboxes."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

import anyio.to_thread

from flowd.adapters.inbox import ask, new_request_id
from flowd.adapters.journal.file import FileJournal
from flowd.core import states as s
from flowd.core.errors import NoSuchRun, StateDamaged
from flowd.core.run import fold
from flowd.ports.inbox import Answer, Request


class FileNeighbours:
    """As in the port. Only runs that somebody holds are looked at."""

    def __init__(self, journal: FileJournal) -> None:
        self._journal = journal

    async def serving(self, pipeline: str, folder: str, task: str, before: datetime) -> list[str]:
        """The runs in which this service serves now, the newest first."""
        return await anyio.to_thread.run_sync(self._serving, pipeline, folder, task, before)

    def _serving(self, pipeline: str, folder: str, task: str, before: datetime) -> list[str]:
        found = []
        for run in self._journal.runs():
            with suppress(NoSuchRun, StateDamaged):  # removed meanwhile, or damaged: nothing to take over
                if self._journal.is_owned(run) is not None and self._serves(run, pipeline, folder, task, before):
                    found.append(run)
        return found

    def _serves(self, run: str, pipeline: str, folder: str, task: str, before: datetime) -> bool:
        definition = self._journal.defined(run)
        if (definition.spec.name, definition.folder) != (pipeline, folder):
            return False
        state = fold(run, definition.spec, self._journal.records(run))
        if task not in state.shape.index or state.task(task).state != s.SERVING:
            return False
        if state.started_at is None or state.started_at >= before:
            return False
        below = state.shape.reach([number := state.shape.index[task]], down=True) - {number}
        return all(state.tasks[other].state in s.ENDED for other in below)

    async def ask(self, run: str, kind: str, task: str, by: str) -> Answer | None:
        """Ask by its inbox."""
        try:
            return await ask(
                self._journal.run_folder(run), Request(id=new_request_id(), kind=kind, tasks=(task,), by=by)
            )
        except (NoSuchRun, OSError):  # it has just been removed: nobody is left to answer
            return None
