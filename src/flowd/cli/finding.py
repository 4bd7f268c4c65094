"""Which run a person means: an id, a unique beginning of one, `last`, or nothing for the newest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import anyio

from flowd.adapters.journal.file import FileJournal
from flowd.cli.state_dir import find_state_dir
from flowd.cli.streams import tell
from flowd.core import states as s
from flowd.core.errors import BadRequest, FlowdError, NoSuchRun
from flowd.core.lineage import is_child, parent_of
from flowd.wiring.looking import Found, look
from flowd.wiring.reading import reading

__all__ = ["Found", "find_run", "found_run", "look", "looked_up", "place_of", "unfinished"]

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


def place_of(asked: str | None) -> Path:
    """The state directory that a command without a file means."""
    return find_state_dir(asked, Path.cwd(), os.environ)


def found_run(journal: FileJournal, text: str | None) -> str:
    """The id of the run that is meant."""
    return find_run(text, journal.runs(), str(journal.state_dir))


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
