"""`flowd stop` and `flowd services`: what goes on serving here, since when, and its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import anyio
import click

from flowd.adapters.inbox import ask, new_request_id
from flowd.cli.again import asked_of_owner, person
from flowd.cli.finding import Found, look, looked_up, place_of
from flowd.cli.options import JSON, STATE_DIR
from flowd.cli.reads import logs
from flowd.cli.screen import failure_text
from flowd.cli.streams import say, say_document
from flowd.cli.wording import duration_text, number_text
from flowd.core import states as s
from flowd.core.errors import BadRequest, NoSuchRun, StateDamaged
from flowd.core.views import moment
from flowd.ports.inbox import Request
from flowd.wiring.reading import reading

_PERIOD_S = 0.1
_MORE_S = 5.0
"""How long, beyond its grace, an end is waited for, in seconds."""


@click.group()
def services() -> None:
    """List the services that run here, stop one, or print what it said."""


@services.command(name="list")
@STATE_DIR
@JSON
def list_(state_dir: str | None, *, as_json: bool) -> int:
    """List the services of all runs that go on, with where they serve and since when."""
    found = list(_found(state_dir))
    if as_json:
        say_document({"services": found})
        return 0
    if not found:
        say("no service runs here")
    now = datetime.now(UTC)
    for one in found:
        since = datetime.fromisoformat(one["since"]) if one["since"] else None
        up = f"for {duration_text((now - since).total_seconds())}" if since and one["state"] == s.SERVING else ""
        restarts = f"   {one['restarts']} restarts" if one["restarts"] else ""
        told = "".join(f"   {name}={number_text(value)}" for name, value in one["metrics"].items())
        told += f"   not ready: {one['probe']}" if one["probe"] else ""
        text = f"{one['task']}  {one['state']} {up}".rstrip()
        say(f"{text}   {one['url'] or ''}   run {one['run']}{restarts}{told}")
    return 0


def _found(state_dir: str | None) -> Iterator[dict[str, Any]]:
    with reading(place_of(state_dir)) as journal:
        for run in journal.runs():
            with suppress(NoSuchRun, StateDamaged):  # removed meanwhile, or damaged: `doctor` speaks of it
                if journal.is_owned(run) is not None:
                    yield from _of_run(anyio.run(look, journal, run))


def _of_run(found: Found) -> Iterator[dict[str, Any]]:
    answer = anyio.run(ask, found.folder, Request(id=new_request_id(), kind="services"))
    told = answer.data or {} if answer is not None else {}
    for spec, task in found.state.own():
        if spec.service is None or task.state in s.ENDED:
            continue
        known = task.service
        yield {
            "run": found.id,
            "pipeline": found.state.spec.name,
            "task": spec.name,
            "state": task.state,
            "url": known.url or None if known is not None else None,
            "pid": known.pid if known is not None else None,
            "since": moment(known.since) if known is not None else None,
            "restarts": known.restarts if known is not None else 0,
            "keep": spec.service.keep,
            "metrics": told.get(spec.name, {}).get("metrics", {}),
            "probe": told.get(spec.name, {}).get("probe", ""),
        }


@click.command()
@click.argument("run")
@click.argument("task")
@STATE_DIR
@JSON
def stop(run: str, task: str, state_dir: str | None, *, as_json: bool) -> int:
    """Stop the service TASK of RUN; it has then succeeded, and the run ends if nothing else goes on."""
    found = looked_up(state_dir, run)
    if task not in found.state.shape.index:
        raise BadRequest(f"run {found.id} has no task {task}; its tasks are {', '.join(found.state.shape.index)}")
    service = found.state.shape.specs[found.state.shape.index[task]].service
    if service is None:
        raise BadRequest(f"task {task} of run {found.id} is no service; flowd cancel {found.id} stops the whole run")
    if found.owner is None:
        raise BadRequest(f"service {task} does not run: run {found.id} is {found.status}, and nobody has it")
    asked_of_owner(found, Request(id=new_request_id(), kind="stop", by=person(), tasks=(task,)))
    spec = found.state.shape.specs[found.state.shape.index[task]]
    after = _until_stopped(state_dir, found.id, task, (service.stop.grace or spec.grace).total_seconds())
    if as_json:
        say_document(after.document())
    elif after.state.task(task).state == s.SUCCEEDED:
        say(f"service {task} of run {found.id} is stopped")
    else:
        say(f"service {task} of run {found.id}: {failure_text(after.state.task(task))}")
    return 0


def _until_stopped(state_dir: str | None, run: str, task: str, grace_s: float) -> Found:
    due = time.monotonic() + grace_s + _MORE_S
    while True:
        found = looked_up(state_dir, run)
        if found.state.task(task).state != s.SERVING or time.monotonic() >= due:
            return found
        time.sleep(_PERIOD_S)


services.add_command(stop)
services.add_command(logs)
