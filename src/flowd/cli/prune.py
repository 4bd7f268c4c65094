"""`flowd prune`: what is kept no longer is removed, or said beforehand."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowd.cli.finding import place_of
from flowd.cli.options import JSON, STATE_DIR
from flowd.cli.sources import load
from flowd.cli.state_dir import find_state_dir
from flowd.cli.streams import say, say_document, style_of, tell
from flowd.cli.wording import size_text
from flowd.core.declared import Retention
from flowd.core.errors import BadRequest

if TYPE_CHECKING:
    from flowd.wiring.pruning import Plan


@click.command()
@click.argument("files", nargs=-1)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@click.option("--runs", type=click.IntRange(min=1), metavar="N", help="Keep so many runs of each pipeline.")
@click.option("--age", metavar="D", help="Keep runs for so long, such as 90d.")
@click.option("--size", metavar="S", help="Keep runs up to so many bytes of each pipeline, such as 10GB.")
@STATE_DIR
@JSON
def prune(
    files: tuple[str, ...],
    runs: int | None,
    age: str | None,
    size: str | None,
    state_dir: str | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Remove the runs and results that are kept no longer: of all pipelines here, or of those in FILES.

    A pipeline's `retention` says what is kept of it, else 100 runs are. Runs that have not ended, the newest, and
    those that a fresh task comes from stay in any case. Options stand in for what pipelines say.
    """
    from flowd.wiring.pruning import Pruner

    place, only = _meant(files, state_dir)
    pruner = Pruner(place, instead=_bounds(runs, age, size))
    plan = pruner.plan(datetime.now(UTC), only)
    if not dry_run:
        plan = pruner.carry_out(plan)
    if as_json:
        say_document({**_document(plan), "dry_run": dry_run, "state_dir": str(place)})
    else:
        style = style_of("stdout")
        for line in _lines(plan, dry_run=dry_run):
            say(style.text(line))
    for run in plan.damaged:
        tell(f"run {run} cannot be read: it stays, and so do all results; flowd doctor says what is wrong")
    return 0


def _meant(files: Sequence[str], asked: str | None) -> tuple[Path, list[str] | None]:
    """The state directory, and the pipelines in it that are meant; None: all. BadRequest where files have several."""
    from flowd.adapters.checkpoints import pipeline_key

    if not files:
        return place_of(asked), None
    definitions = [load(file).definition() for file in files]
    places = {find_state_dir(asked, Path(one.folder), os.environ) for one in definitions}
    if len(places) > 1:
        some = ", ".join(sorted(map(str, places)))
        raise BadRequest(f"these pipelines have several state directories: {some}; name those of one at a time")
    place = places.pop()
    return place, [pipeline_key(one.spec.name, Path(one.folder), place) for one in definitions]


def _bounds(runs: int | None, age: str | None, size: str | None) -> Retention | None:
    """The retention of the options; None where there are none. BadPipeline for what is no duration or size."""
    written = {name: value for name, value in (("runs", runs), ("age", age), ("size", size)) if value is not None}
    if not written:
        return None
    from flowd.authoring import triggers
    from flowd.authoring.findings import Findings, NoText
    from flowd.authoring.format import Key
    from flowd.core.errors import BadPipeline

    findings = Findings(NoText("flowd prune"))
    read = triggers.retention(findings, (), written, Key("retention", "retention", ""))
    if not isinstance(read, Retention):
        raise BadPipeline(findings.problems)
    return read


def _document(plan: Plan) -> dict[str, Any]:
    return {
        "runs": [
            {"run": one.run, "pipeline": one.pipeline, "size": one.size, "why": one.why, "last_written": one.moment}
            for one in plan.runs
        ],
        "results": [{"digest": digest, "size": size} for digest, size in plan.results.items()],
        "outputs": [{"path": str(one.path), "task": one.task, "size": one.artifact.size} for one in plan.outputs],
        "damaged": list(plan.damaged),
        "size": plan.size,
    }


def _lines(plan: Plan, *, dry_run: bool) -> Iterator[str]:
    for one in plan.runs:
        yield f"run {one.run}   {size_text(one.size)}   {one.why}"
    for output in plan.outputs:
        yield f"output {output.path}   {size_text(output.artifact.size)}   its retention is over, and it says delete"
    if plan.results:
        number = len(plan.results)
        what = "result" if number == 1 else "results"
        yield f"{number} {what} that nothing refers to   {size_text(sum(plan.results.values()))}"
    would = "would be removed" if dry_run else "removed"
    if not (plan.runs or plan.outputs or plan.results):
        yield "there is nothing to remove"
    else:
        yield f"{len(plan.runs)} runs, {size_text(plan.size)} in all, {would}"
