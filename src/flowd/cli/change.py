"""`flowd cancel`, `flowd touch`, `flowd forget`: what a person changes about runs and checkpoints."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from flowd.cli.again import asked_of_owner, let_go, person
from flowd.cli.check import refuse_unknown
from flowd.cli.finding import Found, looked_up
from flowd.cli.options import JSON, PARAMS, RUN, STATE_DIR, given_params
from flowd.cli.sources import FILE, load
from flowd.cli.state_dir import find_state_dir
from flowd.cli.streams import say, say_document
from flowd.cli.wording import tasks_text
from flowd.core import states as s
from flowd.core.errors import BadRequest
from flowd.core.events import RunStarted
from flowd.core.run import RunState
from flowd.core.views import WAITING
from flowd.ports.inbox import Request
from flowd.ports.stores import Checkpoint

if TYPE_CHECKING:
    from flowd.authoring.pipeline import Pipeline

TOUCHED = "touch"
"""The run that a checkpoint is said to come from where no run ever made one."""


@click.command()
@RUN
@click.option("--reason", default="", metavar="TEXT", help="Why; it stands in the run's journal.")
@STATE_DIR
@JSON
def cancel(run: str | None, reason: str, state_dir: str | None, *, as_json: bool) -> int:
    """Stop a run for good; what it had finished stays finished, and what stands under `finally` runs."""
    found = looked_up(state_dir, run)
    if found.state.state in s.RUN_ENDED and found.state.state != s.RUN_CANCELLED:
        raise BadRequest(f"run {found.id} has already {found.state.state}")
    if found.owner is not None:
        from flowd.adapters.inbox import new_request_id

        if not asked_of_owner(found, Request(id=new_request_id(), kind="cancel", by=person(), reason=reason)):
            found = let_go(found)
    if found.owner is None and found.state.state not in s.RUN_ENDED:
        anyio.run(_cancel, found, reason)
    from flowd.cli.state_dir import flags_of
    from flowd.cli.summary import following

    after = looked_up(state_dir, found.id)
    if as_json:
        say_document(after.document())
    elif after.state.state in s.RUN_ENDED:
        say(f"run {found.id} is cancelled")
    elif after.status == WAITING:
        say(f"run {found.id} is cancelled, and ends once it is said what became of what was cut off")
        for command in following(after.state, after.status):
            say(f"next: {command}{flags_of(found.place)}")
    elif after.owner is None:
        say(f"run {found.id} is cancelled, but for what stands under `finally`")
        say(f"next: flowd resume {found.id}{flags_of(found.place)}")
    else:
        say(f"run {found.id} is being cancelled")
    return 0


async def _cancel(found: Found, reason: str) -> None:
    from flowd.wiring.build import Engine

    async with Engine(found.place) as engine:
        cancelled = await engine.cancel(found.id, reason, person())
        await cancelled.wait()


@click.command()
@FILE
@click.argument("tasks", nargs=-1)
@PARAMS
@STATE_DIR
def touch(file: str | None, tasks: tuple[str, ...], params: tuple[str, ...], state_dir: str | None) -> int:
    """Mark tasks (all that can be fresh, where none is named) as fresh, with their outputs as they stand now."""
    pipeline = load(file)
    definition = pipeline.definition()
    refuse_unknown(tasks, {task.name for task in definition.spec.tasks}, f"pipeline {definition.spec.name}")
    typed = dict(given_params(definition, params))
    place = find_state_dir(state_dir, Path(definition.folder), os.environ)
    marked = anyio.run(_touch, pipeline, tasks, typed, place)
    say(f"{tasks_text(len(marked))} marked as fresh: {', '.join(marked)}" if marked else "no task can be fresh")
    return 0


async def _touch(pipeline: Pipeline, tasks: tuple[str, ...], params: dict[str, object], place: Path) -> list[str]:
    from flowd.core.expressions import ExpressionError
    from flowd.engine.files import Files, MissingOutput, collect
    from flowd.engine.prepare import Resolver
    from flowd.wiring.reading import checkpoints_of

    definition = pipeline.definition()
    spec, folder = definition.spec, Path(definition.folder)
    now = datetime.now(UTC)
    run = RunState(TOUCHED, spec)
    run.apply(RunStarted(pipeline=spec.name, spec="", params=params), now)
    files = Files(folder)
    resolver = Resolver(run, files)
    marked: dict[str, Checkpoint] = {}
    with checkpoints_of(place, spec.name, folder) as (checkpoints, key):
        known = await checkpoints.load(key)
        for task in spec.tasks:
            if not (task.name in tasks if tasks else task.cache):
                continue
            if not task.cache:
                raise BadRequest(f"{task.name} always runs: it declares no outputs, and no `cache: true`")
            try:
                outputs = resolver.outputs(task)
                artifacts = collect(files, outputs, {})
            except (ExpressionError, MissingOutput) as error:
                raise BadRequest(f"{task.name} cannot be marked as fresh: {error}") from error
            before = known.get(task.name)
            marked[task.name] = Checkpoint(
                run=before.run if before else TOUCHED,
                at=now,
                attempt=before.attempt if before else 1,
                duration_s=before.duration_s if before else 0.0,
                result=before.result if before else None,
                outputs=artifacts,
                metrics=before.metrics if before else {},
                parts=before.parts if before else {},
                touched=True,
            )
        if marked:
            await checkpoints.merge(key, TOUCHED, marked)
    return list(marked)


@click.command()
@FILE
@click.argument("tasks", nargs=-1)
@STATE_DIR
def forget(file: str | None, tasks: tuple[str, ...], state_dir: str | None) -> int:
    """Drop tasks' checkpoints (all of the pipeline's, where none is named), so that they run again."""
    definition = load(file).definition()
    refuse_unknown(tasks, {task.name for task in definition.spec.tasks}, f"pipeline {definition.spec.name}")
    folder = Path(definition.folder)
    place = find_state_dir(state_dir, folder, os.environ)
    dropped = anyio.run(_forget, place, definition.spec.name, folder, tasks)
    say(f"{tasks_text(len(dropped))} forgotten: {', '.join(dropped)}" if dropped else "there was nothing to forget")
    return 0


async def _forget(place: Path, name: str, folder: Path, tasks: tuple[str, ...]) -> tuple[str, ...]:
    from flowd.wiring.reading import checkpoints_of

    with checkpoints_of(place, name, folder) as (checkpoints, key):
        return await checkpoints.forget(key, tasks)
