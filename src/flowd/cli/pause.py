"""`flowd pause`: nothing new starts in a run until it is resumed."""

from __future__ import annotations

import anyio
import click

from flowd.cli.again import asked_of_owner, person
from flowd.cli.finding import Found, looked_up
from flowd.cli.options import JSON, RUN, STATE_DIR
from flowd.cli.streams import say, say_document
from flowd.core import states as s
from flowd.core.errors import BadRequest
from flowd.ports.inbox import Request


@click.command()
@RUN
@STATE_DIR
@JSON
def pause(run: str | None, state_dir: str | None, *, as_json: bool) -> int:
    """Start nothing new in a run (the newest, where RUN is left out); what runs goes on to its end.

    It stays paused over crashes and restarts, until `flowd resume`.
    """
    found = looked_up(state_dir, run)
    if found.state.state in s.RUN_ENDED:
        raise BadRequest(f"run {found.id} has already {found.state.state}")
    if found.owner is not None:
        from flowd.adapters.inbox import new_request_id

        asked_of_owner(found, Request(id=new_request_id(), kind="pause", by=person()))
    elif found.status != s.RUN_PAUSED:
        if found.state.state == s.RUN_CANCELLING:
            raise BadRequest(f"run {found.id} is being cancelled; to let that come to its end: flowd resume {found.id}")
        anyio.run(_pause, found)
    from flowd.cli.state_dir import flags_of

    after = looked_up(state_dir, found.id)
    if as_json:
        say_document(after.document())
        return 0
    running = len(after.state.live)
    still = f"; {running} of its tasks still run to their ends" if running else ""
    say(f"run {found.id} is paused{still}")
    say(f"next: flowd resume {found.id}{flags_of(found.place)}")
    return 0


async def _pause(found: Found) -> None:
    from flowd.wiring.build import Engine

    async with Engine(found.place) as engine:
        paused = await engine.pause(found.id, person())
        await paused.wait()
