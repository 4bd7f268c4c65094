"""`flowd resolve`, `approve`, `reject`: what a person answers, of a task whose end nobody knows or that asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import msgspec

from flowd.adapters.inbox import new_request_id
from flowd.cli.again import EVENTS, LOG_FORMAT, NO_RUN, answered, given_pipeline, person
from flowd.cli.check import refuse_unknown
from flowd.cli.finding import looked_up
from flowd.cli.options import JSON, NO_INPUT, STATE_DIR, pairs_of
from flowd.core import states as s
from flowd.core.answers import asks_nobody
from flowd.core.errors import BadRequest
from flowd.core.spec import TaskSpec
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
@NO_INPUT
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


@click.command()
@click.argument("run")
@click.argument("task")
@click.option("--comment", default="", metavar="C", help="What to say with it; it is recorded, and in scope below.")
@click.option("--set", "fields", multiple=True, metavar="K=V", help="Fill in a field of the form; may be given again.")
@NO_RUN
@STATE_DIR
@JSON
@EVENTS
@LOG_FORMAT
@NO_INPUT
def approve(
    run: str,
    task: str,
    comment: str,
    fields: tuple[str, ...],
    state_dir: str | None,
    *,
    no_run: bool,
    **wishes: Any,
) -> int:
    """Say yes to a task that waits for an answer; the run then goes on."""
    found = looked_up(state_dir, run)
    refuse_unknown((task,), set(found.state.shape.index), f"run {found.id}")
    if refused := asks_nobody(found.state, task):
        raise BadRequest(refused)
    values = typed_fields(found.state.shape.specs[found.state.shape.index[task]], fields)
    request = Request(
        id=new_request_id(), kind="approve", by=person(), tasks=(task,), comment=comment, values=dict(values)
    )
    given = given_pipeline()

    def begin(engine: Any) -> Any:
        more = {"by": request.by, "pipeline": given, "go_on": not no_run}
        return engine.approve(found.id, task, comment=comment, values=values, **more)

    return answered(found, wishes, request, begin, f"{task} is approved", no_run=no_run)


@click.command()
@click.argument("run")
@click.argument("task")
@click.option("--comment", default="", metavar="C", help="Why; it is recorded.")
@click.option("--back-to", default="", metavar="TASK", help="Do it again from this task on, which sees the comment.")
@NO_RUN
@STATE_DIR
@JSON
@EVENTS
@LOG_FORMAT
@NO_INPUT
def reject(
    run: str, task: str, comment: str, back_to: str, state_dir: str | None, *, no_run: bool, **wishes: Any
) -> int:
    """Say no to a task that waits for an answer: it has failed, and is not tried again."""
    found = looked_up(state_dir, run)
    refuse_unknown((task,), set(found.state.shape.index), f"run {found.id}")
    refuse_unknown((back_to,) if back_to else (), set(found.state.shape.index), f"run {found.id}")
    request = Request(id=new_request_id(), kind="reject", by=person(), tasks=(task,), comment=comment, back_to=back_to)
    given = given_pipeline()

    def begin(engine: Any) -> Any:
        more = {"by": request.by, "pipeline": given, "go_on": not no_run}
        return engine.reject(found.id, task, comment=comment, back_to=back_to, **more)

    what = f"{task} is sent back to {back_to}" if back_to else f"{task} is rejected"
    return answered(found, wishes, request, begin, what, no_run=no_run)


def typed_fields(task: TaskSpec, given: Sequence[str]) -> Mapping[str, Any]:
    """`K=V` by the types of the task's form. BadRequest, BadParameters."""
    from flowd.authoring.params import resolve_params

    assert task.approve is not None
    return resolve_params(task.approve.form, pairs_of(given, "--set"), text=True, what="field", option="--set")
