"""Which keys have a meaning beside which action, and what to write instead of one that has none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowd.authoring import nested
from flowd.authoring.findings import Findings, quoted
from flowd.authoring.format import Key

if TYPE_CHECKING:
    from flowd.authoring.build import Draft

ALONE = "approve"
"""Beside an action it holds that action's start; without one it is all of the task."""
_OF_ACTIONS = frozenset(
    {"inputs", "outputs", "idempotent", "cache", "fresh_for", "code", "retry", "timeout", "grace", "uses", "executor"}
    | {"env", "logs", "reconcile", "gate"}
)
"""Keys that have no meaning where nothing is carried out."""
_OF_SERVICES = frozenset(
    {"outputs", "cache", "fresh_for", "repeat", "timeout", "foreach", "matrix", "gate", "reconcile"}
)
"""Keys of what ends by itself."""
_UNFIT = {ALONE: _OF_ACTIONS, "wait": _OF_ACTIONS, "pipeline": nested.UNFIT}
_OF_MANY = frozenset({"foreach", "matrix", "allow_failure", "with", "cwd", "shell"})


def fits(draft: Draft, key: Key) -> bool:
    """Whether a key says anything in its task."""
    if draft.is_service and key.name in _OF_SERVICES:
        return False
    if key.fits == ("service",):
        return draft.is_service
    if key.fits:
        return draft.kind in key.fits
    return key.name not in _UNFIT.get(draft.kind, ()) and not (draft.kind == "wait" and key.name in _OF_MANY)


_BESIDE = {
    "approve": "`approve` alone",
    "wait": "`wait`",
    "call": "`call`",
    "text": "`run`",
    "pipeline": "`pipeline`, whose own tasks have it",
    "argv": "`run` with a list, which no shell sees",
}
_INSTEAD_OF_SERVICE = {
    "outputs": "a file that stands while it serves is the `marker` of `ready`",
    "timeout": "write `timeout` within `ready`, or a `lifetime`",
}
_INSTEAD = {"with": "write the value into the command as `{{ … }}`, or pass it by `env`"}


def unfit(findings: Findings, draft: Draft, key: Key) -> None:
    """Report a key that has no meaning in its task, with what to write instead."""
    beside = "`service`" if draft.is_service else _BESIDE[draft.kind]
    message = f"{quoted(key.name)} has no meaning beside {beside}"
    hint = "remove it, or add an action" if draft.kind == ALONE else _INSTEAD.get(key.name, "remove it")
    if draft.kind == ALONE and key.name == "timeout":
        hint = "write it within `approve`"
    if draft.is_service:
        hint = _INSTEAD_OF_SERVICE.get(key.name, hint)
    findings.add("unfit_key", (*draft.path, key.name), message, hint, at_key=True)
