"""How a task's function is called, and a pipeline that was checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from flowd.core.spec import PipelineSpec, TaskSpec


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """How to call a task's function beside its `with`: all by keyword.

    `result_parameters` are needs whose results it takes under their names, `item_parameters` those
    of `item`, `index` and `matrix` that it takes, where it is called for each item of a list.
    """

    wants_ctx: bool
    result_parameters: tuple[str, ...]
    item_parameters: tuple[str, ...] = ()


class Checked(msgspec.Struct, frozen=True, eq=False):
    """A specification without a problem, with its functions and how each is called."""

    spec: PipelineSpec
    functions: Mapping[str, Callable[..., Any]]
    bindings: Mapping[str, Binding]


def reconcile_key(task: str) -> str:
    """The name under which a task's `reconcile` stands among the functions: no task can have it."""
    return f"reconcile {task.partition('[')[0]}"


def item_names(task: TaskSpec) -> tuple[str, ...]:
    """What a function is given for the item that it is called for."""
    return ("matrix", "index") if task.matrix else ("item", "index") if task.foreach is not None else ()
