"""Where an action runs, and where it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowd.authoring.findings import Findings, quoted
from flowd.authoring.resolve import is_async
from flowd.core.spec import Ask, Call, Nested, Wait

if TYPE_CHECKING:
    from flowd.authoring.build import Draft


def executor_misfit(draft: Draft, executor: str) -> str:
    """Why an action cannot run there; empty where it can."""
    if draft.is_service != (executor == "service"):
        where = f"and does not run on {quoted(executor)}" if draft.is_service else "and this is none"
        return f"a service has a process of its own, {where}"
    if draft.is_service:
        return ""
    action, function = draft.action, draft.function
    if action is None or isinstance(action, Ask | Wait | Nested):
        return ""
    if not isinstance(action, Call):
        return "" if executor == "shell" else f"a command runs on `shell`, not on {quoted(executor)}"
    if executor == "shell":
        return "a function runs on `async`, `thread` or `process`, not on `shell`"
    if function is not None and is_async(function) != (executor == "async"):
        what = (
            "an async def, which runs on `async`"
            if is_async(function)
            else "a def, which runs on `thread` or `process`"
        )
        return f"{quoted(action.function)} is {what}"
    if executor == "process" and (action.module == "__main__" or "<" in action.function):
        return f"{quoted(action.function)} lives only in this program, where another process cannot find it"
    return ""


def chosen_executor(draft: Draft, wanted: str | None, findings: Findings) -> str:
    """Where a task's action runs: as it says, where that can be; else by what it is."""
    if wanted is not None:
        reason = executor_misfit(draft, wanted)
        if not reason:
            return wanted
        hint = "move it into a module" if "lives only" in reason else "leave `executor` out"
        findings.add("bad_executor", (*draft.path, "executor"), reason, hint)
    if draft.is_service:
        return "service"
    if isinstance(draft.action, Ask | Wait):
        return "none"
    if isinstance(draft.action, Nested):
        return "pipeline"
    if not isinstance(draft.action, Call):
        return "shell"
    return "async" if draft.function is not None and is_async(draft.function) else "thread"
