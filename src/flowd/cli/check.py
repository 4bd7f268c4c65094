"""`flowd validate` and `flowd plan`: what a pipeline is and would do, with nothing run."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from flowd.cli.options import FORCE, FORCE_TASK, JSON, PARAMS, STATE_DIR, TARGET, given_params, in_targets
from flowd.cli.sources import DEFAULT_FILE, FILE, load
from flowd.cli.state_dir import find_state_dir, flags_of
from flowd.cli.streams import say, say_document, style_of, tell
from flowd.cli.wording import params_text, tasks_text
from flowd.core.errors import BadPipeline, BadRequest, FlowdError, Problem
from flowd.core.spec import Definition

if TYPE_CHECKING:
    from flowd.core.spec import Definition
    from flowd.engine.survey import Standing

REFUSED = 2


@click.command()
@click.argument("files", nargs=-1)
@click.option("--config", metavar="FILE", help="A daemon's configuration, instead of pipelines or beside them.")
@JSON
def validate(files: tuple[str, ...], config: str | None, *, as_json: bool) -> int:
    """Check pipelines and name every problem, with its place and what to write instead."""
    from flowd.authoring.declarations import inactive

    problems: list[Problem] = []
    good: list[str] = []
    notes: dict[str, list[str]] = {}
    if config is not None:
        problems += _of_settings(config)
        good += [] if problems else [f"{config}: ok"]
    for file in files or ((None,) if config is None else ()):
        try:
            definition = load(file).definition()
        except BadPipeline as refused:
            problems += refused.problems
        except FlowdError as refused:
            problems.append(Problem(file=file or DEFAULT_FILE, code="cannot_load", message=str(refused)))
        else:
            unusable = _unusable(file or DEFAULT_FILE, definition)
            problems += unusable
            if unusable:
                continue
            good.append(f"{file or DEFAULT_FILE}: ok, {tasks_text(len(definition.spec.tasks))}")
            if idle := inactive(definition.spec):
                notes[file or DEFAULT_FILE] = idle
                good.append(f"  checked, but nothing acts on it yet: {', '.join(idle)}")
    if as_json:
        say_document({"problems": [_document(problem) for problem in problems], "inactive": notes})
        return REFUSED if problems else 0
    for line in good:
        say(line)
    for problem in problems:
        tell(str(problem))
    return REFUSED if problems else 0


def _of_settings(file: str) -> Sequence[Problem]:
    from flowd.authoring.settings import load_settings
    from flowd.core.errors import BadSettings

    try:
        load_settings(Path(file))
    except BadSettings as refused:
        return refused.problems
    return ()


def _unusable(file: str, definition: Definition) -> list[Problem]:
    """What is wrong with secrets that are there; one that is not may be there where the pipeline runs."""
    if not definition.spec.secrets:
        return []
    from flowd.adapters.secrets import SecretReader
    from flowd.ports.secrets import SecretMissing

    problems = []
    for name, secret in definition.spec.secrets.items():
        try:
            SecretReader().glance(name, secret, Path(definition.folder))
        except SecretMissing as error:
            if error.unusable:
                problems.append(Problem(file=file, key=f"secrets.{name}", code="bad_secret", message=str(error)))
    return problems


def _document(problem: Problem) -> dict[str, object]:
    return {name: getattr(problem, name) for name in ("file", "line", "column", "key", "code", "message", "hint")}


@click.command()
@FILE
@click.argument("tasks", nargs=-1)
@PARAMS
@FORCE
@FORCE_TASK
@TARGET
@STATE_DIR
@JSON
def plan(
    file: str | None,
    tasks: tuple[str, ...],
    params: tuple[str, ...],
    targets: tuple[str, ...],
    state_dir: str | None,
    *,
    force: bool,
    force_tasks: tuple[str, ...],
    as_json: bool,
) -> int:
    """Say what a run started now would do with each task, and why; nothing is written."""
    from flowd.cli.left import left, left_documents, left_lines

    definition, typed, standings = standings_of(
        file, tasks, state_dir, params, targets, force=force, force_tasks=force_tasks
    )
    place = find_state_dir(state_dir, Path(definition.folder), os.environ)
    others, flags = left(place, definition.spec.name, definition.folder), flags_of(place)
    if as_json:
        document = {
            name: {"action": standing.action, "reason": standing.reason} for name, standing in standings.items()
        }
        head = {"pipeline": definition.spec.name, "state_dir": str(place), "params": typed}
        say_document({**head, "tasks": document, "left": left_documents(others, flags)})
        return 0
    order = {task.name: number for number, task in enumerate(definition.spec.tasks)}
    width = max((len(name) for name in standings), default=0)
    style = style_of("stdout")
    say(f"{definition.spec.name}  {tasks_text(len(standings))}")
    if typed:
        say(style.text(params_text(typed)))
    say("")
    for name in sorted(standings, key=order.__getitem__):
        standing = standings[name]
        word = standing.action.replace("_", " ")
        say(style.text(f"  {name:<{width}}   {word:<9}   {standing.reason.sentence}"))
    for line in left_lines(others, flags):
        tell(line)
    return 0


def standings_of(
    file: str | None,
    tasks: tuple[str, ...],
    state_dir: str | None,
    params: tuple[str, ...] = (),
    targets: tuple[str, ...] = (),
    *,
    force: bool = False,
    force_tasks: tuple[str, ...] = (),
) -> tuple[Definition, Mapping[str, Any], dict[str, Standing]]:
    """A pipeline as it is written, its parameters, and what a run of it started now would do with each task."""
    from flowd.adapters.shelf import FileShelf
    from flowd.wiring.planning import planning_engine

    # read from and never written to
    pipeline = load(file, lambda folder: FileShelf(find_state_dir(state_dir, folder, os.environ)))
    definition = pipeline.definition()
    typed = given_params(definition, params)
    place = find_state_dir(state_dir, Path(definition.folder), os.environ)
    chosen = (*tasks, *in_targets(definition, targets))

    async def ask() -> dict[str, Standing]:
        async with planning_engine(place) as engine:
            return await engine.plan(pipeline, *chosen, params=typed, force=force, force_tasks=force_tasks)

    return definition, typed, anyio.run(ask)


def refuse_unknown(tasks: tuple[str, ...], known: Collection[str], where: str) -> None:
    """BadRequest for a task that is not there."""
    import difflib

    for name in tasks:
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), 1)
            raise BadRequest(f"{where} has no task {name}" + (f"; did you mean {close[0]}?" if close else ""))
