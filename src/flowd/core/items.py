"""What the events of expanded tasks and of their items leave in a run: a part of the fold, as `run` is.

House rules of this room: those of `run`. A specification under an item's own name is held only while it
is handed out, or has begun and has not ended; all others have their task's, since there may be a
hundred thousand of them.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from flowd.core import events as e
from flowd.core import states as s
from flowd.core.fanout import Fan, is_fanned, item_name, item_spec
from flowd.core.reasons import because
from flowd.core.task_state import TaskState, end_attempt, reset

if TYPE_CHECKING:
    from flowd.core.run import RunState

_DROPPED = TaskState(s.CANCELLED)
"""What stands for the items of a list that is no longer anyone's."""
_BEGUN = frozenset({s.RUNNING, s.RETRYING, s.UNCERTAIN})


def find(run: RunState, name: str) -> int | None:
    """The number of the item that is called so; None where there is none."""
    task, bracket, key = name.partition("[")
    parent = run.shape.index.declared(task) if bracket and key.endswith("]") else None
    fan = None if parent is None else run.fans.get(parent)
    place = None if fan is None else fan.place(key[:-1])
    return None if fan is None or place is None else fan.base + place


def fan_of(run: RunState, number: int) -> Fan | None:
    """The fan that an item belongs to; None for a declared task."""
    if number < run.declared:
        return None
    fan = run.fans.get(run.owners[number - run.declared])
    return fan if fan is not None and number in fan.numbers() else None  # it may be of a list that was forgotten


def owner(run: RunState, number: int) -> int:
    """The declared task that a task belongs to."""
    return number if number < run.declared else run.owners[number - run.declared]


def name_of(run: RunState, number: int) -> str:
    """What a task is called, an item that has ended included."""
    fan = fan_of(run, number)
    return run.shape.specs[number].name if fan is None else item_name(fan.template.name, fan.key(number - fan.base))


def hold(run: RunState, number: int) -> None:
    """Give an item its own specification, for as long as it is handed out or has begun."""
    fan = fan_of(run, number)
    if fan is not None:
        run.shape.specs[number] = item_spec(fan.template, fan.key(number - fan.base))


def take(run: RunState, fan: Fan) -> int | None:
    """The next item to be begun, handed out once; None where there is none."""
    if fan.halted or run.tasks[fan.parent].state != s.EXPANDED:
        return None
    number = fan.take(lambda number: run.tasks[number].state == s.PENDING)
    if number is not None:
        hold(run, number)
    return number


def lay_out(run: RunState, parent: int, count: int, keys: tuple[str, ...], tasks: list[TaskState] | None = None) -> Fan:
    """Number the items of a task, behind all that have a number; `tasks` are their states where they are known."""
    shape, base = run.shape, len(run.tasks)
    fan = run.fans[parent] = Fan(parent, base, count, keys, shape.specs[parent])
    run.tasks += [TaskState() for _ in range(count)] if tasks is None else tasks
    run.missing += [0] * count
    run.owners += [parent] * count
    shape.specs += [shape.specs[parent]] * count
    shape.needs += [shape.needs[parent]] * count
    for edges in {id(edges): edges for edges in (shape.successors, shape.counted, shape.ruled)}.values():
        edges.extend([()] * count)
    return fan


def moved(run: RunState, number: int, left: str, event: e.TaskEvent) -> None:
    """A task has changed its state: an item is counted, and what of an ended task had not begun ends with it."""
    target = run.tasks[number].state
    if number < run.declared:
        if left == s.EXPANDED and target in s.ENDED:
            _end_items(run, number)
        return
    fan = fan_of(run, number)
    if fan is None:
        return
    fan.live += (target in _BEGUN) - (left in _BEGUN)
    fan.open += (left in s.ENDED) - (target in s.ENDED)
    allowed = bool(getattr(event, "allowed", False))
    if left in s.ENDED:
        _count(fan, left, -1, allowed=run.tasks[number].allowed)
    if target in s.ENDED:
        _count(fan, target, 1, allowed=allowed)
    if target in s.ENDED:
        run.shape.specs[number] = fan.template
    elif target in _BEGUN and left not in _BEGUN:
        hold(run, number)
    if fan.is_done and run.tasks[fan.parent].state == s.EXPANDED:
        run.ready.append(fan.parent)


def is_well(item: TaskState) -> bool:
    """Whether an item has ended, and its task lacks nothing by it."""
    return item.ok or item.state == s.SKIPPED


def _count(fan: Fan, state: str, change: int, *, allowed: bool) -> None:
    """One more has ended so, or has not any more. One that was skipped, or may fail, lacks nothing."""
    well = allowed or state in s.OK or state == s.SKIPPED
    fan.good += change * well
    fan.failed += change * (state in s.BROKEN and not well)


def _end_items(run: RunState, parent: int) -> None:
    fan = run.fans.get(parent)
    if fan is None or not fan.open:
        return
    for number in fan.numbers():
        if run.tasks[number].state not in s.ENDED:
            run.enter(number, s.CANCELLED)
            run.tasks[number].reason = because("cancelled.items")


def drop(run: RunState, parent: int) -> None:
    """Forget the items of a task that is asked for as a whole again, but for the numbers of their attempts."""
    fan = run.fans.pop(parent, None)
    if fan is not None:
        begun = {fan.key(number - fan.base): run.tasks[number] for number in fan.numbers() if run.tasks[number].attempt}
        run.tried[parent] = {**run.tried.get(parent, {}), **begun}
        run.tasks[fan.base : fan.base + fan.count] = [_DROPPED] * fan.count


# --- events ------------------------------------------------------------------------------------------


def _expanded(run: RunState, number: int, event: e.TaskExpanded, at: datetime) -> None:
    task = run.tasks[number]
    task.tried_at, task.items = at, event.result
    fan = lay_out(run, number, event.count, event.keys)
    for key, before in run.tried.pop(number, {}).items():
        if (place := fan.place(key)) is not None:
            again = run.tasks[fan.base + place]
            again.attempt, again.attempts = before.attempt, before.attempts
    run.unended += event.count
    if fan.is_done:
        run.ready.append(number)


def _partial(run: RunState, number: int, event: e.TaskPartial, at: datetime) -> None:
    task = run.tasks[number]
    end_attempt(task, event, at)
    task.ended_at, task.error, task.reason = at, None, event.reason
    task.result, task.outputs = event.result, event.outputs


def _reopened(run: RunState, number: int, event: e.TaskReopened, at: datetime) -> None:
    kept = run.tasks[number]
    items, yes = kept.items, kept.approval
    reset(kept, event)
    kept.items, kept.tried_at, kept.approval = items, at, yes  # one answer lets all its items begin
    fan = run.fans.get(number)
    if fan is None:
        return
    if event.items:
        chosen = [fan.base + place for key in event.items if (place := fan.place(key)) is not None]
    else:
        chosen = [item for item in fan.numbers() if not is_well(run.tasks[item])]
    ready = list(run.ready)  # they are handed out a few at a time
    for item in chosen:
        if run.tasks[item].state in s.ENDED:
            run.enter(item, s.PENDING)
            reset(run.tasks[item], event)
    run.ready = ready
    fan.look_again()
    if fan.is_done:
        run.ready.append(number)


def _reset(run: RunState, number: int, _event: e.TaskReset, _at: datetime) -> None:
    if number in run.fans:
        drop(run, number)
        run.tasks[number].items = None


EFFECTS: dict[type[e.Event], Any] = {
    e.TaskExpanded: _expanded,
    e.TaskPartial: _partial,
    e.TaskReopened: _reopened,
    e.TaskReset: _reset,
}


# --- another definition ------------------------------------------------------------------------------


def kept_items(run: RunState) -> dict[str, tuple[Fan, list[TaskState]]]:
    """The items of every task that has any, by its name."""
    return {fan.template.name: (fan, run.tasks[fan.base : fan.base + fan.count]) for fan in run.fans.values()}


def relaid(run: RunState, known: dict[str, tuple[Fan, list[TaskState]]]) -> None:
    """Lay the items out anew, of tasks whose lists are still the same; the others begin from their lists again."""
    for name, (old, tasks) in known.items():
        number = run.shape.index.declared(name)
        if number is None:
            continue
        spec, before = run.shape.specs[number], old.template
        if not is_fanned(spec) or (spec.foreach, spec.matrix) != (before.foreach, before.matrix):
            if run.tasks[number].state == s.EXPANDED:
                run.tasks[number] = TaskState()
            continue
        fan = lay_out(run, number, old.count, old.keys, tasks)
        for item, task in zip(fan.numbers(), tasks, strict=True):
            fan.open -= task.state in s.ENDED
            fan.live += task.state in _BEGUN
            if task.state in s.ENDED:
                _count(fan, task.state, 1, allowed=task.allowed)
            if task.state in _BEGUN:
                hold(run, item)
