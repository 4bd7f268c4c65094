"""What a person has to type for a run that waits for people, task by task."""

from __future__ import annotations

from shlex import quote
from typing import Final

from flowd.core import states as s
from flowd.core.items import name_of
from flowd.core.run import RunState

VERDICT: Final = (
    "VERDICT"  # for a person to fill in; the three words with bars between them would be a shell's pipeline
)


def open_commands(run: RunState) -> list[str]:
    """The commands that say what became of uncertain tasks, and then those that answer questions."""
    uncertain, asked = [], dict[str, None]()
    for number, task in enumerate(run.tasks):
        if task.state == s.UNCERTAIN:
            uncertain.append(f"flowd resolve {run.id} {quote(name_of(run, number))} --as {VERDICT}")
        elif task.state == s.WAITING and task.child is not None and task.child.commands:
            for command in task.child.commands:  # what goes on with the whole comes last, and once
                asked.pop(command, None)
                asked[command] = None
        elif task.state == s.WAITING:
            asked[approval_command(run, run.shape.specs[number].name)] = None
    return [*uncertain, *asked]


def asks_nobody(run: RunState, name: str) -> str:
    """Why there is nothing to answer to a task; empty where it is one that asks."""
    number = run.shape.index[name]
    if run.shape.specs[number].approve is not None:
        return ""
    child, why = run.tasks[number].child, "it has no `approve`"
    if child is not None and child.commands:
        why = f"it is the run {child.run}, which waits for: {child.commands[0]}"
    return f"task {name} of run {run.id} asks nobody: {why}"


def approval_command(run: RunState, task: str) -> str:
    """What says yes to a task that waits for an answer, with the fields that have to be filled in."""
    asked = run.shape.specs[run.shape.index[task]].approve
    empty = [name for name, param in asked.form.items() if param.required] if asked is not None else []
    return " ".join([f"flowd approve {run.id} {quote(task)}", *(f"--set {name}=VALUE" for name in empty)])
