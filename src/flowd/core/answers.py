"""What a person has to type for a run that waits for people, task by task."""

from __future__ import annotations

from shlex import quote
from typing import Final

from flowd.core import states as s
from flowd.core.items import name_of
from flowd.core.run import RunState
from flowd.core.spec import TaskSpec

VERDICT: Final = (
    "VERDICT"  # for a person to fill in; the three words with bars between them would be a shell's pipeline
)


def open_commands(run: RunState) -> list[str]:
    """The commands that say what became of uncertain tasks, and then those that answer questions."""
    uncertain, asked = [], dict[str, None]()
    for number, task in enumerate(run.tasks):
        if task.state == s.UNCERTAIN:
            uncertain.append(resolve_line(run.id, name_of(run, number)))
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
    return approve_line(run.id, run.shape.specs[run.shape.index[task]])


def approve_line(run: str, task: TaskSpec) -> str:
    """The same by the task's specification alone."""
    empty = [name for name, param in task.approve.form.items() if param.required] if task.approve is not None else []
    return " ".join([f"flowd approve {run} {quote(task.name)}", *(f"--set {name}=VALUE" for name in empty)])


def resolve_line(run: str, task: str) -> str:
    """What says what became of an uncertain task."""
    return f"flowd resolve {run} {quote(task)} --as {VERDICT}"
