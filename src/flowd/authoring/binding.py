"""How a task's function is called, and a pipeline that was checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from flowd.core.spec import PipelineSpec


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """How to call a task's function beside its `with`: all by keyword.

    `result_parameters` are needs whose results it takes under their names.
    """

    wants_ctx: bool
    result_parameters: tuple[str, ...]


class Checked(msgspec.Struct, frozen=True, eq=False):
    """A specification without a problem, with its functions and how each is called."""

    spec: PipelineSpec
    functions: Mapping[str, Callable[..., Any]]
    bindings: Mapping[str, Binding]


def reconcile_key(task: str) -> str:
    """The name under which a task's `reconcile` stands among the functions: no task can have it."""
    return f"reconcile {task}"
