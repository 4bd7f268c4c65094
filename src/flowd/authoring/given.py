"""What is given to a `Pipeline` in Python, as a file would say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flowd.authoring.task import Task

Needs = str | Task[..., Any] | Sequence["str | Task[..., Any]"]
"""Tasks that come before: names or task objects, or one of them."""


def file_of(module: Mapping[str, Any]) -> Path | None:
    """The file of a module's names, where it has one."""
    file = module.get("__file__")
    return Path(file).absolute() if isinstance(file, str) else None


def call_of(function: Any) -> str:
    """A function as `module:function`."""
    name = getattr(function, "__qualname__", f"<{type(function).__name__}>")
    return f"{getattr(function, '__module__', None) or '__main__'}:{name}"


def written(policies: Mapping[str, Any]) -> dict[str, Any]:
    """Policies under the keys of a file: `with_` for `with`; what is None is not given."""
    return {key.removesuffix("_"): value for key, value in policies.items() if value is not None}


def names(needs: Needs) -> list[str]:
    """The names of the tasks that are needed."""
    if isinstance(needs, str | Task):
        needs = [needs]
    return [need.name if isinstance(need, Task) else need for need in needs]


def listed(foreach: Any) -> list[str]:
    """The task whose result is the list, where it stands there itself."""
    over = foreach.get("over") if isinstance(foreach, Mapping) else foreach
    return [over.name] if isinstance(over, Task) else []


def not_callable() -> None:
    """What stands for the function of a task that has none. TypeError."""
    raise TypeError("a command is no function; it is run by flowd")
