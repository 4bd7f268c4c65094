"""What several commands take, once; and parameters from the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from flowd.core.errors import BadRequest
from flowd.core.spec import Definition

Decorator = Callable[[Any], Any]

STATE_DIR: Decorator = click.option("--state-dir", metavar="D", help="The state directory, in place of the one found.")
JSON: Decorator = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
NO_INPUT: Decorator = click.option("--no-input", is_flag=True, help="Ask nothing, on a terminal either.")
RUN: Decorator = click.argument("run", required=False)
PARAMS: Decorator = click.option(
    "-p", "--param", "params", multiple=True, metavar="K=V", help="Set a parameter; may be given again."
)
FORCE: Decorator = click.option("--force", "--no-skip", "force", is_flag=True, help="Run all tasks, fresh or not.")
FORCE_TASK: Decorator = click.option(
    "--force-task", "force_tasks", multiple=True, metavar="T", help="Run this task, fresh or not."
)


TARGET: Decorator = click.option(
    "--target", "targets", multiple=True, metavar="N", help="Run a named group of tasks, and what they need."
)


def in_targets(definition: Definition, names: Sequence[str]) -> list[str]:
    """The tasks of the named targets. BadRequest where there is no such target."""
    known = definition.spec.targets
    for name in names:
        if name not in known:
            there = f"there are {', '.join(known)}" if known else "the pipeline has no `targets`"
            raise BadRequest(f"there is no target {name}: {there}")
    return [task for name in names for task in known[name]]


def given_params(definition: Definition, given: Sequence[str]) -> dict[str, Any]:
    """`K=V` by the pipeline's types; what is not given is left to its default.

    Raises BadParameters with every problem, and BadRequest for what is not `K=V`.
    """
    from flowd.authoring.params import resolve_params

    return resolve_params(definition.spec.params, pairs_of(given, "-p"), text=True)


def pairs_of(given: Sequence[str], option: str) -> dict[str, str]:
    """What `option` was given, by name. BadRequest for what is not `K=V`."""
    texts = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise BadRequest(f"{option} {pair} is not NAME=VALUE")
        texts[name] = value
    return texts
