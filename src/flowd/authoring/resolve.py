"""From `module:function` to a function, and how an attempt passes it what it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from flowd.authoring.binding import Binding, reconcile_key
from flowd.authoring.findings import did_you_mean, listed, plain
from flowd.authoring.importing import CallError, import_beside
from flowd.authoring.task import plain_function

__all__ = [
    "Binding",
    "CallError",
    "bind",
    "binding_of",
    "is_async",
    "mismatches",
    "outline",
    "parameters_of",
    "reconcile_key",
    "resolve_call",
]


def bind_reconcile(
    function: Callable[..., Any], needs: Collection[str], with_: Collection[str], items: Collection[str] = ()
) -> Binding:
    """As `bind`, for a task's `reconcile`, which takes of `with` what it likes."""
    taken = parameters_of(function)
    return bind(function, needs, [name for name in with_ if name in taken], items)


def resolve_call(folder: Path, module: str, function: str) -> Callable[..., Any]:
    """The function that `module:function` names; CallError says why there is none.

    The module is looked for in `folder` first.
    """
    found: Any = import_beside(folder, module)
    for part in function.split("."):
        owner = found
        try:
            found = getattr(owner, part)
        except AttributeError:
            known = [name for name in dir(owner) if not name.startswith("_") and callable(getattr(owner, name, None))]
            hint = did_you_mean(part, known, f"it has {listed(known)}" if known else f"define it in `{plain(module)}`")
            raise CallError("missing_function", f"`{plain(module)}` has no function `{plain(part)}`", hint) from None
        except Exception as error:  # whatever a user's own `__getattr__` raises is said, not passed on
            message = f"looking up `{plain(part)}` in `{plain(module)}` failed: {type(error).__name__}: {error}"
            raise CallError("missing_function", message) from error
    if not callable(found):
        kind = type(found).__name__
        raise CallError(
            "not_callable", f"`{plain(module)}:{plain(function)}` cannot be called: it is a {kind}", "name a function"
        )
    return plain_function(found)  # type: ignore[no-any-return]  # any callable of the user's


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives something to await."""
    while isinstance(function, partial):
        function = function.func
    if inspect.iscoroutinefunction(function):
        return True
    return (
        not inspect.isroutine(function)
        and not isinstance(function, type)
        and inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004  # the method itself is looked at
        )
    )


def bind(
    function: Callable[..., Any], needs: Collection[str], with_: Collection[str], items: Collection[str] = ()
) -> Binding:
    """What the function takes of `ctx`, of its needs' results and of its item; CallError where it does not fit.

    A parameter is `ctx`, a key of `with`, a direct need, one of `items`, or has a default.
    """
    for code, message, hint in mismatches(function, [*needs, *items], with_):
        raise CallError(code, message, hint)
    return binding_of(parameters_of(function), needs, with_, items)


def binding_of(
    names: Collection[str], needs: Collection[str], with_: Collection[str], items: Collection[str] = ()
) -> Binding:
    """As `bind`, for a function that is known to fit and takes these names."""
    left = [name for name in names if name not in with_ and name != "ctx"]
    return Binding(
        wants_ctx="ctx" in names and "ctx" not in with_,
        result_parameters=tuple(name for name in left if name in needs and name not in items),
        item_parameters=tuple(name for name in left if name in items),
    )


_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def parameters_of(function: Callable[..., Any]) -> list[str]:
    """The names by which arguments can be passed; none where the function does not tell."""
    try:
        parameters = _parameters(function)
    except (TypeError, ValueError):
        return []
    return [parameter.name for parameter in parameters if parameter.kind in _NAMED]


def _parameters(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    """What a function takes. TypeError or ValueError where it does not tell."""
    try:
        return _kept_parameters(function)
    except TypeError:  # or it cannot be told from others, and so not be kept
        return tuple(inspect.signature(function).parameters.values())


@lru_cache(maxsize=256)  # one function may be called by thousands of tasks, and to look costs some 20 µs
def _kept_parameters(function: Callable[..., Any]) -> tuple[inspect.Parameter, ...]:
    return tuple(inspect.signature(function).parameters.values())


def outline(function: Callable[..., Any]) -> str:
    """All that a check looks at of a function: whether it is async, and what it takes."""
    try:
        parameters = _parameters(function)
    except (TypeError, ValueError):
        return "?"
    takes = [(one.name, one.kind.name, one.default is not inspect.Parameter.empty) for one in parameters]
    return repr((is_async(function), takes))


def mismatches(
    function: Callable[..., Any], needs: Collection[str], with_: Collection[str], known_tasks: Collection[str] = ()
) -> Iterator[tuple[str, str, str]]:
    """Every (code, message, hint) about a function's parameters; `known_tasks` make better hints."""
    try:
        parameters = _parameters(function)
    except (TypeError, ValueError):
        yield "bad_signature", "what this function takes cannot be found out", "call it from a function of your own"
        return
    called = plain(getattr(function, "__name__", "it"))
    for parameter in parameters:
        name, kind = parameter.name, parameter.kind
        if kind not in _NAMED:
            if kind is inspect.Parameter.POSITIONAL_ONLY and parameter.default is inspect.Parameter.empty:
                yield "bad_signature", f"`{called}` takes `{name}` by position only", "arguments are passed by name"
            continue
        if name == "ctx" or name in with_ or name in needs or parameter.default is not inspect.Parameter.empty:
            continue
        hint = (
            f"add {name} to `needs`"
            if name in known_tasks
            else f"give it in `with`, or a default, or name a need `{name}`"
        )
        yield "bad_signature", f"nothing is passed for `{name}`, which `{called}` takes", hint
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return
    taken = [parameter.name for parameter in parameters if parameter.kind in _NAMED]
    for name in with_:
        if name not in taken:
            hint = did_you_mean(name, taken, f"it takes {listed(taken)}" if taken else "it takes nothing")
            yield "bad_signature", f"`{called}` has no parameter `{plain(name)}`, which `with` gives", hint
