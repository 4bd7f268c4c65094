"""What the expressions of a task refer to, and what of it can do without any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flowd.core import conditions
from flowd.core.expressions import references_of
from flowd.core.gates import references
from flowd.core.spec import Call, Run, TaskSpec


def is_plain(task: TaskSpec) -> bool:
    """Whether nothing that is written in a task holds an expression."""
    return isinstance(task.action, Call) and not (task.with_ or task.inputs or task.outputs or task.env)


def is_bare(task: TaskSpec) -> bool:
    """Whether a task is a call and nothing else: nothing stands beside it to judge, look at, hold or keep."""
    return is_plain(task) and not (task.uses or task.cache or asks(task))


def is_literal(task: TaskSpec, env: Mapping[str, str]) -> bool:
    """Whether no expression stands anywhere in a task, nor in the `env` of its pipeline."""
    action = task.action
    if isinstance(action, Run) and "{{" in (action.text if action.text is not None else str(action.argv)):
        return False
    if any("{{" in ref.path for ref in task.inputs) or any("{{" in ref.path for ref in task.outputs):
        return False
    return not any(texts and "{{" in str(texts) for texts in (task.with_, task.env, env))


def referenced_results(task: TaskSpec) -> set[str]:
    """The tasks whose results the expressions of `task` refer to."""
    if is_literal(task, {}) and not asks(task):
        return set()
    return {name for name, *fields in _references(task) if fields[:1] in ([], ["result"])}


def asks(task: TaskSpec) -> bool:
    """Whether expressions stand beside the action of a task: a `when`, gates, a question and so on."""
    if task.when is not None or task.approve is not None or task.repeat is not None:
        return True
    return bool(task.gate) or isinstance(task.allow_failure, str)


def referenced_tasks(task: TaskSpec) -> set[str]:
    """The tasks of which the expressions of `task` refer to anything at all."""
    return {name for name, *_ in _references(task)}


def _references(task: TaskSpec) -> Iterator[Sequence[str]]:
    """What follows `tasks.` in each reference of the task's expressions."""
    for expression in conditions.expressions(task):
        for place, *fields in expression.references:
            if place == "tasks" and fields:
                yield fields
    action = task.action
    texts: list[Any] = [task.with_, task.env, [ref.path for ref in task.inputs], [ref.path for ref in task.outputs]]
    if task.approve is not None:
        texts += [task.approve.message, list(task.approve.show)]
    if isinstance(action, Run):
        texts.append(action.text if action.text is not None else list(action.argv or ()))
    for place, *fields in (*(access for text in texts for access in references_of(text)), *references(task.gate)):
        if place == "tasks" and fields:
            yield fields
