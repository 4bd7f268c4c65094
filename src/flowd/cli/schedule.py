"""`flowd schedule`: which there are, when they are due, and whether they fire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import anyio
import click

from flowd.cli.again import person
from flowd.cli.instants import instant
from flowd.cli.options import JSON, STATE_DIR
from flowd.cli.serve import CONFIG, place_of, settings_of
from flowd.cli.sources import FILE, load
from flowd.cli.streams import say, say_document, style_of
from flowd.core.errors import BadRequest, StateLocked
from flowd.core.views import moment

if TYPE_CHECKING:
    from flowd.core.declared import Schedule
    from flowd.core.occurrences import Occurrence
    from flowd.daemon.planner import Planner

_MARKS = {
    "": "",
    "gap": "   the clock leaps over its own time",
    "fold": "   the first of two",
    "fold_second": "   the second of two",
}


@click.group()
def schedule() -> None:
    """List schedules, say when one is due, and pause or resume one."""


# --- preview -------------------------------------------------------------------------------------------------


@schedule.command()
@FILE
@click.option("--schedule", "named", metavar="NAME", help="This one of the pipeline's schedules.")
@click.option("--cron", metavar="EXPR", help="Five fields, instead of a file's schedules.")
@click.option("--every", metavar="D", help="A duration, instead of a file's schedules.")
@click.option("--timezone", default="UTC", show_default=True, metavar="Z", help="The time zone of --cron.")
@click.option("--gap", type=click.Choice(["shift", "skip"]), default="shift", help="A time of --cron that a day lacks.")
@click.option(
    "--fold", type=click.Choice(["first", "second", "both"]), default="first", help="One that a day has twice."
)
@click.option(
    "--from", "since", metavar="T", help="From when on, in the schedule's zone where none is named; now where left out."
)
@click.option("--next", "most", type=click.IntRange(1, 10_000), default=10, show_default=True, help="How many.")
@JSON
def preview(file: str | None, named: str | None, since: str | None, most: int, *, as_json: bool, **given: Any) -> int:
    """Say when a pipeline's schedules are due next, or a --cron or --every, with the changes of the clock marked."""
    chosen = _given(**given) or _of_file(file, named)
    found = {name: list(islice(_from(one, since), most)) for name, one in chosen.items()}
    if as_json:
        each = {
            name: [{"at": moment(one.at), "mark": one.mark or None} for one in times] for name, times in found.items()
        }
        fires = sorted(moment(one.at) or "" for times in found.values() for one in times)
        say_document({"fires": fires, "schedules": each})
        return 0
    for name, times in found.items():
        for line in _lines(name, chosen[name], times):
            say(style_of("stdout").text(line))
    return 0


def _from(one: Schedule, since: str | None) -> Iterator[Occurrence]:
    """The occurrences from the named instant on, itself included."""
    from flowd.core.occurrences import occurrences

    after = datetime.now(UTC) if since is None else instant(since, one.timezone, "--from")
    return occurrences(one, after - timedelta(microseconds=1))


def _lines(name: str, one: Schedule, times: list[Occurrence]) -> Iterator[str]:
    from flowd.core.occurrences import explained

    yield f"{name}  {explained(one)}"
    zone = ZoneInfo(one.timezone)
    for found in times:
        yield f"  {found.at.astimezone(zone):%a %Y-%m-%d %H:%M:%S %Z}   {moment(found.at)}{_MARKS[found.mark]}"
    if not times:
        yield "  never"


def _given(cron: str | None, every: str | None, timezone: str, gap: str, fold: str) -> dict[str, Schedule]:
    """The schedule of the options; none where they name none. BadPipeline with what is wrong with it."""
    if cron is None and every is None:
        return {}
    from flowd.authoring import schedules
    from flowd.authoring.findings import Findings, NoText
    from flowd.core.errors import BadPipeline

    findings = Findings(NoText("--cron" if cron is not None else "--every"))
    written: dict[str, Any] = {"every": every} if every is not None else {}
    if cron is not None:
        written |= {"cron": cron, "timezone": timezone, "dst": {"gap": gap, "fold": fold}}
    read = schedules.read_one(findings, written)
    if read is None:
        raise BadPipeline(findings.problems)
    return {cron or str(every): read}


def _of_file(file: str | None, named: str | None) -> dict[str, Schedule]:
    spec = load(file).definition().spec
    found = {one.name: one for one in spec.schedule if named in {None, one.name}}
    if not found:
        there = ", ".join(one.name for one in spec.schedule)
        known = f"its schedules are {there}" if there else 'it has none; write `schedule: {cron: "0 6 * * mon"}`'
        raise BadRequest(f"pipeline {spec.name} has no schedule{f' {named}' if named else ''}: {known}")
    return found


# --- list, pause, resume -------------------------------------------------------------------------------------


@schedule.command(name="list")
@CONFIG
@STATE_DIR
@JSON
def list_(config: str | None, state_dir: str | None, *, as_json: bool) -> int:
    """List the schedules of the pipelines here: when each is due, and what came of it last."""
    place, rows = _asked(config, state_dir, "schedules", "", _all)
    if as_json:
        say_document({"schedules": rows, "state_dir": str(place)})
        return 0
    for row in rows:
        state = f"paused by {row['paused']}" if row["paused"] else f"next {row['next'] or 'never'}"
        last = f"   last run {row['last_run']}" if row["last_run"] else ""
        say(style_of("stdout").text(f"{row['name']}   {row['when']}   {state}{last}"))
    if not rows:
        say("no pipeline here has a schedule")
    return 0


async def _all(planner: Planner) -> Any:
    return planner.schedules()


@schedule.command()
@click.argument("name")
@CONFIG
@STATE_DIR
def pause(name: str, config: str | None, state_dir: str | None) -> int:
    """Have the schedule NAME begin nothing, from now on, until it is resumed; also where no daemon runs now."""
    _asked(config, state_dir, "pause_schedule", name, lambda planner: planner.pause(name, person()))
    say(f"{name} is paused; flowd schedule resume {name} has it fire again")
    return 0


@schedule.command()
@click.argument("name")
@CONFIG
@STATE_DIR
def resume(name: str, config: str | None, state_dir: str | None) -> int:
    """Have the schedule NAME begin runs again; what was due in its pause is none of them."""
    _, row = _asked(config, state_dir, "resume_schedule", name, lambda planner: planner.resume(name, person()))
    say(f"{name} fires again, next {row['next'] or 'when the daemon runs'}")
    return 0


def _asked(
    config: str | None, state_dir: str | None, kind: str, name: str, here: Callable[[Planner], Any]
) -> tuple[Path, Any]:
    """Ask the daemon, or do it here where there is none."""
    from flowd.adapters.daemon_folder import FOLDER, living
    from flowd.adapters.inbox import ask, new_request_id
    from flowd.ports.inbox import Request

    settings = settings_of(config)
    place = place_of(settings, state_dir)
    daemon = living(place)
    if daemon is None:
        from flowd.wiring.serving.planning import planned

        return place, anyio.run(planned, settings, place, here)
    answer = anyio.run(ask, place / FOLDER, Request(id=new_request_id(), kind=kind, by=person(), name=name))
    if answer is None:
        raise StateLocked(f"the daemon (pid {daemon.pid}) did not answer in 10s; the request was withdrawn")
    if answer.error:
        raise BadRequest(answer.error)
    return place, answer.data
