"""`flowd backfill`: a run for each past time of a schedule that has none that went well."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import anyio
import click

from flowd.cli.options import JSON, PARAMS, STATE_DIR, given_params
from flowd.cli.sources import FILE, load
from flowd.cli.state_dir import find_state_dir, flags_of
from flowd.cli.streams import say, say_document, style_of, tell
from flowd.core.errors import BadRequest
from flowd.core.views import WAITING, exit_code, moment

if TYPE_CHECKING:
    from flowd.authoring.pipeline import Pipeline
    from flowd.core.declared import Schedule
    from flowd.engine.backfilling import Slot

INTERRUPTED = 130
_MOST = 10_000


@click.command()
@FILE
@click.option("--from", "since", required=True, metavar="D", help="The first time, or day: 2026-01-01.")
@click.option("--to", "until", required=True, metavar="D", help="The time, or day, before which it ends.")
@click.option("--schedule", "named", metavar="NAME", help="Which of the pipeline's schedules, where it has several.")
@click.option("--max-parallel", type=click.IntRange(min=1), default=1, show_default=True, help="Runs at a time.")
@click.option("--force", is_flag=True, help="Run tasks that are fresh, too.")
@click.option("--dry-run", is_flag=True, help="Say what would be run, and run nothing.")
@PARAMS
@STATE_DIR
@JSON
def backfill(
    file: str | None,
    since: str,
    until: str,
    named: str | None,
    max_parallel: int,
    params: tuple[str, ...],
    state_dir: str | None,
    *,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run a pipeline once for each past time of its schedule, from --from to before --to, with that time as its own.

    A time of which a run succeeded is left out, one that was cut off goes on, one that failed is tried again; so the
    command may be stopped and typed again. Days are those of the schedule's time zone.
    """
    pipeline = load(file)
    definition = pipeline.definition()
    schedule = _chosen(pipeline, named)
    zone = ZoneInfo(schedule.timezone)
    times = _times(schedule, _moment(since, zone, "--from"), _moment(until, zone, "--to"))
    place = find_state_dir(state_dir, Path(definition.folder), os.environ)
    typed = {**schedule.params, **(given_params(definition, params) if params else {})}
    filler = _Backfill(pipeline, schedule, typed, place, width=max_parallel, force=force, as_json=as_json)
    return anyio.run(filler.plan if dry_run else filler.run, times)


def _chosen(pipeline: Pipeline, named: str | None) -> Schedule:
    known = {one.name: one for one in pipeline.definition().spec.schedule}
    if named is None and len(known) == 1:
        return next(iter(known.values()))
    if named is None or named not in known:
        there = f"its schedules are {', '.join(known)}; name one with --schedule" if known else "it has no schedule"
        raise BadRequest(f"pipeline {pipeline.name}: {there}")
    return known[named]


def _moment(text: str, zone: ZoneInfo, option: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadRequest(f"{option} {text} is no time; write 2026-01-01, or 2026-01-01T06:00:00Z") from error
    return (found if found.tzinfo is not None else found.replace(tzinfo=zone)).astimezone(UTC)


def _times(schedule: Schedule, since: datetime, until: datetime) -> list[datetime]:
    from datetime import timedelta

    from flowd.core.occurrences import between

    if until <= since:
        raise BadRequest("--to is not later than --from; the times from --from to before --to are run")
    if until > (now := datetime.now(UTC)):
        raise BadRequest(f"--to lies ahead; the newest that can be named is {moment(now)}")
    instant = timedelta(microseconds=1)
    found = [one.at for one in islice(between(schedule, since - instant, until - instant), _MOST + 1)]
    if len(found) > _MOST:
        raise BadRequest(f"there are more than {_MOST} times of {schedule.name} in between; take a shorter piece")
    return found


class _Backfill:
    """One call of the command: what it tells, and what ends it."""

    def __init__(
        self,
        pipeline: Pipeline,
        schedule: Schedule,
        params: dict[str, Any],
        place: Path,
        *,
        width: int,
        force: bool,
        as_json: bool,
    ) -> None:
        self._pipeline = pipeline
        self._schedule = schedule
        self._params = params
        self._place = place
        self._width = width
        self._force = force
        self._as_json = as_json
        self._stopping = False

    async def plan(self, times: Sequence[datetime]) -> int:
        """Say what would be done with each time."""
        from flowd.engine.backfilling import Backfilling
        from flowd.wiring.planning import planning_engine

        async with planning_engine(self._place) as engine:
            filling = Backfilling(engine, self._pipeline, self._schedule, self._params, force=self._force)
            slots = [await filling.look(at) for at in times]
        self._tell(slots)
        return 0

    async def run(self, times: Sequence[datetime]) -> int:
        """Run what has to be run, so many at a time; the worst that came of it."""
        from flowd.engine.backfilling import Backfilling
        from flowd.wiring.build import Engine

        slots: list[Slot] = []
        async with Engine(self._place, on_exit="detach") as engine:
            filling = Backfilling(engine, self._pipeline, self._schedule, self._params, force=self._force)
            async with anyio.create_task_group() as group:
                group.start_soon(self._hear, filling, name="flowd signals")
                async for slot in filling.fill(times, self._width):
                    slots.append(slot)
                    if not self._as_json:
                        self._say(slot)
                group.cancel_scope.cancel()
        self._tell(slots, said=not self._as_json)
        if self._stopping:
            return INTERRUPTED
        codes = {exit_code(slot.state) for slot in slots if slot.state}
        return next((code for code in (INTERRUPTED, 3, 1) if code in codes), 0)

    async def _hear(self, filling: Any) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async for _ in signals:
                if self._stopping:
                    os._exit(INTERRUPTED)
                self._stopping = True
                tell("interrupting: nothing new begins, and what runs is being stopped; once more leaves at once")
                await filling.stop()

    def _say(self, slot: Slot) -> None:
        error = f"   {slot.error}" if slot.error else ""
        say(style_of("stdout").text(f"{moment(slot.at)}   {slot.did:<9}   {slot.state or '-':<11}   {slot.run}{error}"))

    def _tell(self, slots: Sequence[Slot], *, said: bool = False) -> None:
        if self._as_json:
            rows = [
                {"time": moment(one.at), "did": one.did, "run": one.run, "state": one.state, "error": one.error}
                for one in slots
            ]
            say_document({"slots": rows, "state_dir": str(self._place)})
            return
        for slot in () if said else slots:
            self._say(slot)
        counted = Counter(slot.did for slot in slots)
        words = ", ".join(f"{number} {word}" for word, number in counted.items())
        tell(f"{len(slots)} times{f': {words}' if words else ''}")
        waiting = next((slot.run for slot in slots if slot.state == WAITING), None)
        if waiting is not None:
            tell(f"next: flowd show {waiting}{flags_of(self._place)}")
