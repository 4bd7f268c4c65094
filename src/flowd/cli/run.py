"""`flowd run`: a pipeline, from its file to its end."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowd.cli.options import FORCE, FORCE_TASK, JSON, NO_INPUT, PARAMS, STATE_DIR, TARGET, given_params, in_targets
from flowd.cli.sources import FILE, load
from flowd.cli.state_dir import find_state_dir, flags_of
from flowd.cli.streams import tell
from flowd.core.errors import BadRequest

if TYPE_CHECKING:
    from flowd.adapters.shelf import FileShelf


@click.command()
@FILE
@click.argument("tasks", nargs=-1)
@PARAMS
@FORCE
@FORCE_TASK
@click.option("--only", multiple=True, metavar="T", help="Run this task alone; checkpoints stand in for its needs.")
@click.option("--until", multiple=True, metavar="T", help="Run this task and what it needs.")
@TARGET
@click.option("--max-concurrency", type=click.IntRange(min=1), metavar="N", help="Bound on attempts at a time.")
@STATE_DIR
@click.option("--run-id", metavar="ID", help="The run's id; given again, it names the same run.")
@JSON
@click.option("--events", is_flag=True, help="Print each event as a JSON line on stdout, once durable.")
@click.option("--log-format", type=click.Choice(["console", "json"]), help="How log lines look.")
@click.option("--log-file", metavar="P", help="Write the log lines to this file, too.")
@NO_INPUT
def run(
    file: str | None,
    tasks: tuple[str, ...],
    params: tuple[str, ...],
    only: tuple[str, ...],
    until: tuple[str, ...],
    targets: tuple[str, ...],
    *,
    run_id: str | None,
    state_dir: str | None,
    max_concurrency: int | None,
    **more: Any,
) -> int:
    """Run a pipeline: the named tasks and what they need, or all of them."""
    if only and (tasks or until or targets):
        raise BadRequest("--only names tasks that run alone; leave the other tasks, --until and --target out")
    shelves: list[FileShelf] = []
    pipeline = load(file, partial(_shelf, shelves, state_dir))
    definition = pipeline.definition()
    typed = given_params(definition, params)
    from flowd.cli.foreground import Foreground
    from flowd.cli.left import left, left_lines
    from flowd.cli.outlets import Wishes

    folder = Path(definition.folder)
    force, force_tasks = more.pop("force"), more.pop("force_tasks")
    place = find_state_dir(state_dir, folder, os.environ)
    flags = flags_of(place)
    for line in left_lines(left(place, definition.spec.name, definition.folder, run_id), flags):
        tell(line)
    foreground = Foreground(
        definition.spec,
        folder,
        place,
        Wishes(**more),
        max_concurrency=max_concurrency,
        flags=flags,
    )
    code = foreground.carry_out(
        lambda engine: engine.start(
            pipeline,
            *(only or (*tasks, *until, *in_targets(definition, targets))),
            params=typed,
            run_id=run_id,
            force=force,
            force_tasks=force_tasks,
            only=bool(only),
        )
    )
    for shelf in shelves:
        shelf.write()
    return code


def _shelf(shelves: list[FileShelf], asked: str | None, folder: Path) -> FileShelf:
    """Where a file in `folder` finds what was made of it before."""
    from flowd.adapters.shelf import FileShelf

    shelf = FileShelf(find_state_dir(asked, folder, os.environ))
    shelves.append(shelf)
    return shelf
