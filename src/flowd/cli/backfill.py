"""`flowd backfill`: runs for the past slots of a schedule, each with its own logical time."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO
from zoneinfo import ZoneInfo

import anyio
import click

from flowd.cli.instants import instant
from flowd.cli.options import JSON, PARAMS, STATE_DIR, given_params
from flowd.cli.sources import FILE, load
from flowd.cli.streams import style_of, tell
from flowd.core.errors import BadRequest

if TYPE_CHECKING:
    from flowd.authoring.pipeline import Pipeline
    from flowd.core.declared import Schedule
    from flowd.core.slots import Slot
    from flowd.core.spec import Definition
    from flowd.engine.backfilling import Filled

MOST: Final = 10_000
"""Of so many slots, or more, fewer days are asked for."""

_PLANNED = {
    "begun": ("·", "would be begun"),
    "resumed": ("·", "would go on"),
    "retried": ("·", "would be tried again"),
    "good": ("=", "has succeeded"),
    "left": ("…", "was cancelled"),
    "held": ("…", "is going on"),
    "damaged": ("✗", "is damaged"),
}
_LOOKS = {
    "succeeded": ("✓", "good"),
    "failed": ("✗", "bad"),
    "partial": ("✗", "bad"),
    "refused": ("✗", "bad"),
    "waiting": ("?", "warn"),
}
_TO_LOOK_AT = frozenset({"failed", "partial", "waiting"})


@click.command()
@FILE
@click.option("--from", "begin", required=True, metavar="D", help="The first day or time; a day is one of its zone.")
@click.option("--to", "end", required=True, metavar="D", help="The day or time before which it ends.")
@click.option("--schedule", "name", metavar="NAME", help="Which, where the pipeline has several.")
@click.option(
    "--max-parallel", "at_once", type=click.IntRange(1, 1000), default=1, metavar="N", help="Runs at once (1)."
)
@click.option("--force", is_flag=True, help="Run every slot anew, and all its tasks, whatever became of it before.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@PARAMS
@STATE_DIR
@JSON
def backfill(
    file: str | None,
    begin: str,
    end: str,
    name: str | None,
    params: tuple[str, ...],
    state_dir: str | None,
    *,
    at_once: int,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Run a pipeline once for each past slot of its schedule, from one day up to another, with that slot's time.

    The same command again goes on: slots that succeeded are left out, unfinished ones are gone on with,
    and failed ones tried again as the pipeline is now.
    """
    from flowd.cli.prints import kept_stdout, routed
    from flowd.cli.state_dir import find_state_dir

    pipeline = load(file)
    definition = pipeline.definition()
    schedule = _schedule_of(definition, name)
    times, span = _times_of(schedule, begin, end)
    place = find_state_dir(state_dir, Path(definition.folder), os.environ)
    chosen = {**schedule.params, **(given_params(definition, params) if params else {})}
    command = _Command(pipeline, definition, schedule, place, chosen, as_json=as_json)
    with kept_stdout(aside=as_json) as command.results, routed(aside=as_json):
        carry_out = partial(command.main, times, anew=span if force else "", at_once=at_once, dry_run=dry_run)
        return anyio.run(carry_out)


def _schedule_of(definition: Definition, name: str | None) -> Schedule:
    """The schedule that is meant. BadRequest where none is, or several may be."""
    there = {one.name: one for one in definition.spec.schedule}
    if not there:
        raise BadRequest(f'pipeline {definition.spec.name} has no schedule; write `schedule: {{cron: "0 6 * * mon"}}`')
    if name is None and len(there) > 1:
        raise BadRequest(f"pipeline {definition.spec.name} has several schedules; add --schedule {' or '.join(there)}")
    if name is not None and name not in there:
        raise BadRequest(
            f"pipeline {definition.spec.name} has no schedule {name}: its schedules are {', '.join(there)}"
        )
    return there[name] if name is not None else next(iter(there.values()))


def _times_of(schedule: Schedule, begin: str, end: str) -> tuple[list[datetime], str]:
    """The slots from the one instant to before the other, as far as they have come; and the span by its ends."""
    from flowd.core.occurrences import between, count, counted_in_words

    first, last = (instant(text, schedule.timezone, option) for text, option in ((begin, "--from"), (end, "--to")))
    if first >= last:
        raise BadRequest(f"--from {begin} is not before --to {end}; --to is the first day that is left out")
    now, just_before = datetime.now(UTC), timedelta(microseconds=1)
    if last > now:
        tell("slots that are still to come are left to the schedule")
    after, until = first - just_before, min(last, now) - just_before
    if (number := count(schedule, after, until)) >= MOST:
        raise BadRequest(
            f"that is {counted_in_words(number, schedule)} slots, and fewer than {MOST} can be filled at once; "
            "name fewer days"
        )
    return [one.at for one in between(schedule, after, until)], f"{first.isoformat()} {last.isoformat()}"


class _Command:
    """One call of the command; `results` is where its document goes, if one was asked for."""

    results: TextIO

    def __init__(
        self,
        pipeline: Pipeline,
        definition: Definition,
        schedule: Schedule,
        place: Path,
        params: Mapping[str, Any],
        *,
        as_json: bool,
    ) -> None:
        self._pipeline = pipeline
        self._definition = definition
        self._schedule = schedule
        self._place = place
        self._params = params
        self._as_json = as_json
        self._transcript = sys.stderr if as_json else sys.stdout
        self._style = style_of("stderr" if as_json else "stdout")

    async def main(self, times: Sequence[datetime], *, anew: str, at_once: int, dry_run: bool) -> int:
        """Look, do and tell; the exit code. `anew` asks for all slots again."""
        from flowd.core.views import worst_code
        from flowd.wiring.backfilling import look_at_slots

        found = await look_at_slots(self._place, self._definition, self._schedule, times, anew)
        names = dict.fromkeys((self._definition.spec.name, self._schedule.name))
        self._write(f"{' '.join(names)}  {_slots_text(len(found))}")
        if dry_run:
            return self._tell_plan(found)
        done = sum(slot.step == "good" for slot in found)
        self._write("" if found else "  nothing was due then")
        if done:
            self._write(f"  = {_slots_text(done)} succeeded before")
        filled = await self._carry_out(found, at_once, force=bool(anew))
        code = worst_code(one.code for one in filled)
        self._tell_end(filled, code)
        if self._as_json:
            self._write_document([_filled_document(one) for one in filled], code)
        return code

    async def _carry_out(self, slots: Sequence[Slot], at_once: int, *, force: bool) -> list[Filled]:
        """Fill what is to be filled; the first signal stops so that the same command goes on, the second at once."""
        from flowd.cli.signals import heard, leave_at_once
        from flowd.wiring.backfilling import filling

        async with filling(
            self._place, self._pipeline, self._schedule, tell, params=self._params, force=force
        ) as backfill:

            def stop() -> None:
                if backfill.stopping:
                    leave_at_once()
                tell("interrupting: what runs is being stopped; once more leaves at once")
                backfill.stop()

            with heard(stop):
                return await backfill.carry_out(slots, self._tell_one, at_once=at_once)

    # --- telling -----------------------------------------------------------------------------------------

    def _tell_plan(self, slots: Sequence[Slot]) -> int:
        self._write("")
        for slot in slots:
            glyph, words = _PLANNED[slot.step]
            self._write_slot(glyph, slot, words, slot.note)
        if self._as_json:
            self._write_document([_slot_document(slot) for slot in slots], 0)
        return 0

    def _tell_one(self, filled: Filled) -> None:
        from flowd.cli.wording import duration_text

        word = filled.state or filled.did
        glyph, mood = _LOOKS.get(word, ("…", "warn"))
        words = f"{word} in {duration_text(filled.seconds)}" if filled.state else word
        self._write_slot(glyph, filled.slot, words, filled.error, mood)

    def _tell_end(self, filled: Sequence[Filled], code: int) -> None:
        from flowd.cli.state_dir import flags_of

        for one in filled:
            if one.slot.step in {"left", "held", "damaged"}:
                self._write_slot("…", one.slot, _PLANNED[one.slot.step][1], one.error, "warn")
        counts = Counter(one.state or one.did for one in filled)
        self._write("")
        self._write(", ".join(f"{number} {word}" for word, number in counts.items()) or "nothing to do")
        if looked_at := next((one.slot.run for one in filled if one.state in _TO_LOOK_AT), None):
            self._write(f"next: flowd show {looked_at}{flags_of(self._place)}")
        if code not in {0, 3}:
            self._write("the same command again goes on with what is unfinished, and tries again what failed")

    def _write_slot(self, glyph: str, slot: Slot, words: str, note: str, mood: str = "plain") -> None:
        at = slot.at.astimezone(ZoneInfo(self._schedule.timezone))
        text = f"  {glyph} {at:%a %Y-%m-%d %H:%M:%S %Z}   {words:<20}   {slot.run}"
        self._write(f"{text}   {note}".rstrip() if note else text, mood)

    def _write(self, text: str, mood: str = "plain") -> None:
        from contextlib import suppress

        from flowd.cli.screen import Line
        from flowd.cli.streams import put

        with suppress(OSError):  # that nobody reads it any more stops no run
            put(self._transcript, f"{self._style.line(Line(text, mood))}\n")
            self._transcript.flush()

    def _write_document(self, rows: list[dict[str, Any]], code: int) -> None:
        from flowd.cli.streams import document_line, put

        head = {"pipeline": self._definition.spec.name, "schedule": self._schedule.name}
        tail = {
            "counts": Counter(row["state"] or row["did"] for row in rows),
            "exit_code": code,
            "state_dir": str(self._place),
        }
        put(self.results, document_line({**head, "slots": rows, **tail}), is_json=True)


def _slots_text(number: int) -> str:
    return "1 slot" if number == 1 else f"{number} slots"


def _slot_document(slot: Slot) -> dict[str, Any]:
    from flowd.core.views import moment

    return {
        "time": moment(slot.at),
        "did": str(slot.step),
        "run": slot.run,
        "state": None,
        "error": slot.note or None,
    }


def _filled_document(filled: Filled) -> dict[str, Any]:
    told = {"did": str(filled.did), "state": filled.state or None, "error": filled.error or None}
    return {**_slot_document(filled.slot), **told, "exit_code": filled.code}
