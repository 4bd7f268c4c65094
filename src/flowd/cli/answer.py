"""`flowd resolve`: what a person says of a task whose end nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from flowd.adapters.inbox import new_request_id
from flowd.cli.again import EVENTS, LOG_FORMAT, NO_RUN, answered, given_pipeline, person
from flowd.cli.check import refuse_unknown
from flowd.cli.finding import looked_up
from flowd.cli.options import JSON, STATE_DIR
from flowd.core import states as s
from flowd.core.errors import BadRequest
from flowd.ports.inbox import Request


@click.command()
@click.argument("run")
@click.argument("task")
@click.option(
    "--as",
    "verdict",
    type=click.Choice(tuple(s.RESOLUTIONS)),
    required=True,
    help="What became of it, or run it again.",
)
@click.option("--result", metavar="FILE", help="The JSON result of a task that succeeded.")
@NO_RUN
@STATE_DIR
@JSON
@EVENTS
@LOG_FORMAT
def resolve(
    run: str, task: str, verdict: str, result: str | None, state_dir: str | None, *, no_run: bool, **wishes: Any
) -> int:
    """Say what became of an uncertain task; the run then goes on."""
    found = looked_up(state_dir, run)
    refuse_unknown((task,), found.state.shape.index, f"run {found.id}")
    value = _read(result, verdict) if result is not None else None
    request = Request(id=new_request_id(), kind="resolve", by=person(), tasks=(task,), verdict=verdict, result=value)
    given = given_pipeline()

    def begin(engine: Any) -> Any:
        more = {"by": request.by, "pipeline": given, "go_on": not no_run}
        return engine.resolve(found.id, task, verdict, result=value, **more)

    return answered(found, wishes, request, begin, f"{task} is resolved as {verdict}", no_run=no_run)


def _read(file: str, verdict: str) -> Any:
    if verdict != "succeeded":
        raise BadRequest(f"--result goes with --as succeeded, not with {verdict}")
    try:
        return msgspec.json.decode(Path(file).read_bytes())
    except OSError as error:
        raise BadRequest(f"--result {file} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"--result {file} is no JSON: {error}") from error
