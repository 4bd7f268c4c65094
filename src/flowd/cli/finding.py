"""Which run a person means: an id, a unique beginning of one, `last`, or nothing for the newest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import msgspec

from flowd.adapters.journal.file import FileJournal
from flowd.adapters.journal.lock import Owner, read_owner
from flowd.cli.state_dir import find_state_dir
from flowd.cli.streams import tell
from flowd.core import states as s
from flowd.core.errors import BadRequest, FlowdError, NoSuchRun
from flowd.core.lineage import is_child, parent_of
from flowd.core.run import RunState
from flowd.core.spec import Definition, PipelineSpec
from flowd.core.views import INTERRUPTED, run_document, run_status
from flowd.ports.executor import log_path
from flowd.wiring.reading import reading

LAST = "last"


def find_run(text: str | None, runs: Sequence[str], place: str) -> str:
    """The one of `runs` (newest first) that is meant.

    NoSuchRun with what comes close, BadRequest where several begin so; `place` is where was looked.
    """
    if not runs:
        raise NoSuchRun(f"there is no run in {place} yet; start one with: flowd run FILE")
    if text in {None, "", LAST}:
        return next((run for run in runs if not is_child(run)), runs[0])
    assert text is not None
    if text in runs:
        return text
    found = [run for run in runs if run.startswith(text) and is_child(run) <= is_child(text)]
    if len(found) == 1:
        return found[0]
    if found:
        raise BadRequest(f"{len(found)} runs begin with {text}: {_some(found)}; write more of the id")
    import difflib

    close = difflib.get_close_matches(text, runs, 3, 0.5) or runs[:3]
    raise NoSuchRun(f"there is no run {text} in {place}; did you mean {_some(close)}?")


def _some(runs: Sequence[str]) -> str:
    return ", ".join(runs[:5]) + (" …" if len(runs) > 5 else "")


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


def place_of(asked: str | None) -> Path:
    """The state directory that a command without a file means."""
    return find_state_dir(asked, Path.cwd(), os.environ)


def found_run(journal: FileJournal, text: str | None) -> str:
    """The id of the run that is meant."""
    return find_run(text, journal.runs(), str(journal.state_dir))


async def look(journal: FileJournal, run: str) -> Found:
    """A run as it stands, with nothing written. Raises NoSuchRun, StateDamaged."""
    owner = journal.is_owned(run)  # first: a run that ends meanwhile is then shown as ended, not as interrupted
    definition = await journal.definition(run)
    state = RunState(run, definition.spec)
    async for envelope in journal.read(run):
        state.apply(envelope.event, envelope.at)
    began, definition = definition.spec, msgspec.structs.replace(definition, spec=state.spec)
    return Found(journal.state_dir, run, journal.run_folder(run), definition, state, owner, began)


def unfinished(asked: str | None) -> tuple[list[Found], list[FlowdError]]:
    """Every run that has not ended and that nobody owns, the oldest first; and what kept others from being read."""

    async def look_at_all(journal: FileJournal) -> tuple[list[Found], list[FlowdError]]:
        found, wrong = [], []
        for run in reversed(journal.runs()):
            try:
                seen = await look(journal, run)
            except FlowdError as error:
                tell(str(error))
                wrong.append(error)
                continue
            if seen.owner is None and seen.state.state not in s.RUN_ENDED | {s.RUN_NEW}:
                found.append(seen)
        ids = {one.id for one in found}  # a run goes on with those that are its tasks
        return [one for one in found if parent_of(one.state.trigger) not in ids], wrong

    with reading(place_of(asked)) as journal:
        return anyio.run(look_at_all, journal)


def looked_up(asked: str | None, text: str | None) -> Found:
    """The run that is meant, as it stands."""
    with reading(place_of(asked)) as journal:
        run = found_run(journal, text)
        return anyio.run(look, journal, run)
