"""Runs of a pipeline that were left: what waits for an answer, or was never gone on with, is said where one begins."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio

from flowd.adapters.journal.ending import seems_ended
from flowd.adapters.journal.file import FileJournal
from flowd.cli.finding import Found, look
from flowd.cli.summary import following
from flowd.cli.wording import age_text
from flowd.core import states as s
from flowd.core.errors import FlowdError
from flowd.core.views import INTERRUPTED, WAITING
from flowd.wiring.reading import reading

MOST_LOOKED_AT = 200
"""So many of the newest runs of a state directory are looked at: a glance at the end of a journal each."""
MOST_TOLD = 3


def left(state_dir: Path, name: str, folder: str, but: str | None = None) -> list[Found]:
    """The runs of the pipeline called `name` in `folder` that wait for somebody, newest first; `but` this one."""
    with reading(state_dir) as journal:
        found = [run for run in journal.runs()[:MOST_LOOKED_AT] if run != but and not _is_over(journal, run)]
        if not found:
            return []
        return list(anyio.run(_of_pipeline, journal, found, name, folder))


def _is_over(journal: FileJournal, run: str) -> bool:
    try:
        return seems_ended(journal.state_dir / "runs" / run)
    except (FlowdError, OSError):
        return True  # what cannot be read is the doctor's affair


async def _of_pipeline(journal: FileJournal, runs: list[str], name: str, folder: str) -> list[Found]:
    found = []
    for run in runs:
        try:
            definition = await journal.definition(run)
            if (definition.spec.name, definition.folder) != (name, folder):
                continue
            one = await look(journal, run)
        except FlowdError:
            continue
        begun = one.state.state not in s.RUN_ENDED | {s.RUN_NEW}
        if begun and (one.owner is None or one.status == WAITING):
            found.append(one)
    return found


def left_lines(found: list[Found], flags: str = "") -> Iterator[str]:
    """What is said of them, each with what goes on with it; `flags` is what commands to type need besides."""
    now = datetime.now(UTC)
    for one in found[:MOST_TOLD]:
        run = one.state
        age = age_text((now - run.started_at).total_seconds()) if run.started_at is not None else ""
        what = {WAITING: "waits for an answer", INTERRUPTED: "was left unfinished"}.get(one.status, "is paused")
        commands = following(run, one.status)
        yield f"run {run.id} of this pipeline, begun {age}, {what}: {'; '.join(f'{c}{flags}' for c in commands)}"
    if len(found) > MOST_TOLD:
        yield f"and {len(found) - MOST_TOLD} more runs of it were left; flowd runs lists them"


def left_documents(found: list[Found], flags: str = "") -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {"run": one.id, "state": one.status, "next": [f"{c}{flags}" for c in following(one.state, one.status)]}
        for one in found
    ]
