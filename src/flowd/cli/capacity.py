"""`flowd limits`: what the living engines of a state directory have to give, and who has it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import click

from flowd.adapters.inbox import ask, new_request_id
from flowd.adapters.journal.file import FileJournal
from flowd.adapters.lock_table import living_pages
from flowd.cli.finding import place_of
from flowd.cli.options import JSON, STATE_DIR
from flowd.cli.streams import say, say_document
from flowd.cli.wording import age_text, number_text
from flowd.core.claims import Page
from flowd.core.errors import NoSuchRun, StateDamaged
from flowd.core.views import moment
from flowd.ports.inbox import Request
from flowd.wiring.reading import reading


@click.command()
@STATE_DIR
@JSON
def limits(state_dir: str | None, *, as_json: bool) -> int:
    """Show each limit: its use, who holds it since when, and who waits in which order."""
    place = place_of(state_dir)
    with reading(place) as journal:
        found = anyio.run(asked, _owners(journal))
    shared = together(found, living_pages(place))
    waiting = [wait for engine in found for wait in engine["waiting"]]
    if as_json:
        say_document({"limits": shared, "waiting": waiting, "engines": found, "state_dir": str(place)})
        return 0
    if not found and not shared:
        say("nothing runs here, so no limit is in use")
        return 0
    for name, limit in shared.items():
        for line in _lines(name, limit, datetime.now(UTC)):
            say(line)
    for wait in waiting:
        if wait["code"] not in {"limit_full", "run_full"}:  # those stand among the waiters
            say(f"{wait['task']} of {wait['run']}: {wait['sentence']} [{wait['code']}]")
    if not shared and not waiting:
        say("what runs here uses no limits")
    return 0


def together(engines: Sequence[Mapping[str, Any]], pages: Sequence[Page]) -> dict[str, dict[str, Any]]:
    """The limits of all engines as one: what is held as the lock table says, and all waiters in the order of theirs.

    A limit of one run alone is as its engine tells.
    """
    held: dict[str, list[dict[str, Any]]] = {}
    capacities: dict[str, float] = {}
    for page in pages:
        for hold in page.holds:
            for limit, weight in hold.uses.items():
                entry = {"run": hold.run, "task": hold.task, "weight": weight, "since": moment(hold.since)}
                held.setdefault(limit, []).append({**entry, "pid": page.pid})
                if limit in hold.capacities:
                    capacities[limit] = min(capacities.get(limit, math.inf), hold.capacities[limit])
    found: dict[str, dict[str, Any]] = {}
    for engine in engines:
        for name, limit in engine["limits"].items():
            one = found.setdefault(name, {"capacity": None, "used": 0.0, "holders": [], "waiters": []})
            known = [each for each in (one["capacity"], limit["capacity"]) if each is not None]
            one["capacity"] = min(known, default=None)
            one["waiters"] += [{**waiter, "pid": engine["pid"]} for waiter in limit["waiters"]]
            if " of " in name:
                one["holders"] += [{**holder, "pid": engine["pid"]} for holder in limit["holders"]]
    for name, holders in held.items():
        one = found.setdefault(name, {"capacity": None, "used": 0.0, "holders": [], "waiters": []})
        one["holders"] = holders
        known = [each for each in (one["capacity"], capacities.get(name)) if each is not None]
        one["capacity"] = min(known, default=None)
    for one in found.values():
        one["used"] = sum(holder["weight"] for holder in one["holders"])
        one["holders"].sort(key=lambda holder: holder["since"] or "")
        if len({waiter["pid"] for waiter in one["waiters"]}) > 1:
            one["waiters"].sort(key=lambda waiter: waiter["urgency"])
    return found


def _owners(journal: FileJournal) -> dict[int, Path]:
    """The living engines' processes, each with the folder of a run that it owns."""
    found: dict[int, Path] = {}
    for run in journal.runs():
        with suppress(NoSuchRun, StateDamaged):  # removed meanwhile, or damaged: it is not what was asked for
            owner = journal.is_owned(run)
            if owner is not None:
                found.setdefault(owner.pid, journal.run_folder(run))
    return found


async def asked(owners: dict[int, Path]) -> list[dict[str, Any]]:
    """What each engine says of its limits, and of who waits for what."""
    found = []
    for pid, folder in owners.items():
        answer = await ask(folder, Request(id=new_request_id(), kind="limits"))
        if answer is not None and not answer.error:
            found.append({"pid": pid, **answer.data})
    return found


def _lines(name: str, limit: dict[str, Any], now: datetime) -> list[str]:
    capacity = "no bound" if limit["capacity"] is None else number_text(limit["capacity"])
    lines = [f"{name}   {number_text(limit['used'])} of {capacity} used"]
    for holder in limit["holders"]:
        since = datetime.fromisoformat(holder["since"]) if holder["since"] else now
        held = f"{number_text(holder['weight'])} by {holder['task']} of {holder['run']}"
        lines.append(f"  held     {held}, since {age_text((now - since).total_seconds())}")
    for place, waiter in enumerate(limit["waiters"], 1):
        waited = age_text((now - datetime.fromisoformat(waiter["since"])).total_seconds())
        text = f"{number_text(waiter['weight'])} for {waiter['task']} of {waiter['run']}, since {waited}"
        lines.append(f"  waiter {place} {text}")
    return lines
