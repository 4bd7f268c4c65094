"""`Task`: what a decorated function becomes, still callable as itself."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Task(Generic[P, R]):
    """A function that is a task of a pipeline. Calling it calls the function, as a test would.

    `name` is the task's name; the object may stand in another task's `needs`.
    """

    def __init__(self, name: str, function: Callable[P, R]) -> None:
        functools.update_wrapper(self, function)  # first: a function may have attributes of these names
        self.name = name
        self.function = function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """What the function gives."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.name}>"


def plain_function(found: Any) -> Any:
    """The function behind a task object; anything else as it is."""
    return found.function if isinstance(found, Task) else found
