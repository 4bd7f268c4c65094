"""A run as it stands on disk, with nothing written: what it is, and who goes on with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from flowd.adapters.journal.file import FileJournal
from flowd.adapters.journal.lock import Owner, read_owner
from flowd.core import states as s
from flowd.core.run import RunState
from flowd.core.spec import Definition, PipelineSpec
from flowd.core.views import INTERRUPTED, run_document, run_status
from flowd.ports.executor import log_path


class Found(NamedTuple):
    """A run as it stands on disk; `owner` is who goes on with it at this moment.

    `definition` is what it goes on with, `began` the specification that it began with.
    """

    place: Path
    id: str
    folder: Path
    definition: Definition
    state: RunState
    owner: Owner | None
    began: PipelineSpec

    @property
    def status(self) -> str:
        """The run's state as shown."""
        return run_status(self.state, owned=self.owner is not None)

    @property
    def died(self) -> Owner | None:
        """Who went on with the run and died over it, as far as it left word; None where nobody did."""
        run = self.state
        cut = run.live or (self.status == INTERRUPTED and run.state != s.RUN_PAUSED)
        return read_owner(self.folder) if self.owner is None and cut else None

    def document(self) -> dict[str, Any]:
        """The document of `show --json`."""
        return run_document(
            self.state,
            owned=self.owner is not None,
            state_dir=str(self.place),
            log_of=lambda task, attempt: str(log_path(self.folder, task, attempt)),
        )


async def look(journal: FileJournal, run: str) -> Found:
    """A run as it stands, with nothing written. Raises NoSuchRun, StateDamaged."""
    owner = journal.is_owned(run)  # first: a run that ends meanwhile is then shown as ended, not as interrupted
    definition = await journal.definition(run)
    state = RunState(run, definition.spec)
    async for envelope in journal.read(run):
        state.apply(envelope.event, envelope.at)
    began, definition = definition.spec, msgspec.structs.replace(definition, spec=state.spec)
    return Found(journal.state_dir, run, journal.run_folder(run), definition, state, owner, began)
