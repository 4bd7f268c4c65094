"""`flowd limits`: what the living engines of a state directory have to give, and who has it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import click

from flowd.adapters.inbox import ask, new_request_id
from flowd.adapters.journal.file import FileJournal
from flowd.cli.finding import place_of
from flowd.cli.options import JSON, STATE_DIR
from flowd.cli.streams import say, say_document
from flowd.cli.wording import age_text, number_text
from flowd.core.errors import NoSuchRun, StateDamaged
from flowd.ports.inbox import Request
from flowd.wiring.reading import reading


@click.command()
@STATE_DIR
@JSON
def limits(state_dir: str | None, *, as_json: bool) -> int:
    """Show each limit: its use, who holds it since when, and who waits in which order."""
    with reading(place_of(state_dir)) as journal:
        owners = _owners(journal)
        found = anyio.run(_asked, owners)
    if as_json:
        say_document({"engines": found, "state_dir": str(journal.state_dir)})
        return 0
    if not found:
        say("nothing runs here, so no limit is in use")
    for engine in found:
        if len(found) > 1:
            say(f"pid {engine['pid']}")
        for name, limit in engine["limits"].items():
            for line in _lines(name, limit, datetime.now(UTC)):
                say(line)
        if not engine["limits"]:
            say(f"pid {engine['pid']} runs without limits")
    return 0


def _owners(journal: FileJournal) -> dict[int, Path]:
    """The living engines' processes, each with the folder of a run that it owns."""
    found: dict[int, Path] = {}
    for run in journal.runs():
        with suppress(NoSuchRun, StateDamaged):  # removed meanwhile, or damaged: it is not what was asked for
            owner = journal.is_owned(run)
            if owner is not None:
                found.setdefault(owner.pid, journal.run_folder(run))
    return found


async def _asked(owners: dict[int, Path]) -> list[dict[str, Any]]:
    found = []
    for pid, folder in owners.items():
        answer = await ask(folder, Request(id=new_request_id(), kind="limits"))
        if answer is not None and not answer.error:
            found.append({"pid": pid, "limits": answer.data})
    return found


def _lines(name: str, limit: dict[str, Any], now: datetime) -> list[str]:
    capacity = "no bound" if limit["capacity"] is None else number_text(limit["capacity"])
    lines = [f"{name}   {number_text(limit['used'])} of {capacity} used"]
    for holder in limit["holders"]:
        since = datetime.fromisoformat(holder["since"]) if holder["since"] else now
        held = f"{number_text(holder['weight'])} by {holder['task']} of {holder['run']}"
        lines.append(f"  held     {held}, since {age_text((now - since).total_seconds())}")
    for place, waiter in enumerate(limit["waiters"], 1):
        lines.append(f"  waiter {place} {number_text(waiter['weight'])} for {waiter['task']} of {waiter['run']}")
    return lines
