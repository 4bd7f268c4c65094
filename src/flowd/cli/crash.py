"""`flowd crashtest`: proof, for a pipeline of one's own, that a kill at any boundary changes nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click
import msgspec

from flowd.cli.options import JSON, PARAMS, given_params
from flowd.cli.sources import FILE, load, named
from flowd.cli.streams import say, say_document, style_of

_WORDS = {
    "before_start": "before its start is on record",
    "after_start": "after its start is on record",
    "before_end": "after its work, before its end is on record",
    "after_end": "after its end is on record",
    "in_retry_wait": "while it waits for its retry",
    "in_cancel": "while the run is being cancelled",
}

_REMEDY = (
    "let the task that writes it write it anew in each attempt, and declare it in `outputs`; where something may "
    "happen once only, `idempotent: false`, with a `reconcile` that looks whether it has happened"
)


@click.command()
@FILE
@click.argument("tasks", nargs=-1)
@PARAMS
@JSON
def crashtest(file: str | None, tasks: tuple[str, ...], params: tuple[str, ...], *, as_json: bool) -> int:
    """Kill copies of a pipeline at every durable boundary, resume them, and compare the ends.

    Compared are how tasks end, their results, and every file of the copied folder, declared or not,
    but for .flowd, log lines and what interpreters cache; what differs between runs without any kill
    is left out and said. What tasks do outside of the folder is real, and is done again for each kill.
    """
    from flowd.cli.check import refuse_unknown
    from flowd.testing.crashtest import Case
    from flowd.testing.crashtest import crashtest as kill_and_compare

    definition = load(file).definition()
    refuse_unknown(tasks, {task.name for task in definition.spec.tasks}, f"pipeline {definition.spec.name}")
    width = max(len(task.name) for task in definition.spec.tasks)
    style = style_of("stdout")

    def tell(case: Case) -> None:
        if as_json:
            return
        mark = "✓" if case.ok else "✗"
        word = case.verdict.replace("_", " ") + (f": {case.detail}" if case.detail else "")
        say(style.text(f"  {mark} {case.task:<{width}}  {_WORDS[case.point]:<44}{case.body_runs:>3}   {word}"))

    if not as_json:
        say(style.text(f"  {'':<{width + 2}}  {'killed':<44}ran   then"))
    with tempfile.TemporaryDirectory(prefix="flowd-crashtest-") as scratch:
        found = kill_and_compare(
            named(file), Path(scratch), tasks=tasks, params=dict(given_params(definition, params)), tell=tell
        )
    if as_json:
        say_document({**msgspec.to_builtins(found), "ok": found.ok})
        return 0 if found.ok else 1
    say("")
    if found.varies:
        say(style.text(f"not compared, since two runs without any kill differ in: {', '.join(found.varies)}"))
    for path in sorted({path for case in found.cases for path in case.undeclared}):
        say(style.text(f"{path} is declared by no task: {_REMEDY}"))
    bad = sum(not case.ok for case in found.cases)
    say(f"{len(found.cases)} kills, " + (f"{bad} of them changed the end" if bad else "and every end was the same"))
    return 1 if bad else 0
