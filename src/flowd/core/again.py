"""Which tasks of a run a person's `retry` runs again, and which it cannot: judged alike by who asks and who does it."""

from __future__ import annotations

from flowd.core import states as s
from flowd.core.items import owner
from flowd.core.run import RunState
from flowd.core.stimuli import RetryAsked
from flowd.core.task_state import TaskState


def asked_for(run: RunState, asked: RetryAsked) -> set[int]:
    """The tasks that are meant: those named, else all that did not end well.

    A task that was skipped ended as it was to; it is judged anew where something above it is run again.
    """
    if asked.tasks:
        chosen = {run.shape.index[name] for name in asked.tasks}
        return {number for number in chosen if not asked.failed_items or lost_items(run, number)}
    bad = {number for number, (_, task) in enumerate(run.own()) if _ended_badly(task)}
    return {number for number in bad if not asked.failed_items or lost_items(run, number)}


def _ended_badly(task: TaskState) -> bool:
    return task.state == s.PARTIAL or (task.state in s.BAD and not task.allowed)


def lost_items(run: RunState, number: int) -> bool:
    """Whether a task has items that have not ended well, and nothing else of it has to run again."""
    fan = run.fans.get(number)
    return fan is not None and fan.good < fan.count


def items_asked_for(run: RunState, asked: RetryAsked, task: int) -> tuple[str, ...]:
    """The keys of those items of a task that are named; none: the task itself is, or all that did not end well."""
    fan, chosen = run.fans.get(task), asked_for(run, asked)
    if fan is None or task in chosen:
        return ()
    return tuple(fan.key(number - fan.base) for number in sorted(chosen) if number in fan.numbers())


def to_reset(run: RunState, asked: RetryAsked) -> set[int]:
    """The tasks that have ended and run again, with what has to run before or after those that are meant."""
    chosen = {owner(run, number) for number in asked_for(run, asked)}
    if run.closing is not None and run.state not in s.RUN_ENDED:  # of the others nothing is run again by now
        chosen &= run.shape.finals
    below = run.shape.reach(chosen, down=True)
    above = _kept_from(run, chosen)
    serving = run.shape.services & run.shape.reach(chosen, down=False)  # what is run again may ask them
    return {
        number
        for number, (_, task) in enumerate(run.own())
        if (
            task.state in {s.WAITING, s.SLEEPING} and number in below - chosen
        )  # asked anew, once what it stands on is there again
        or (
            task.state in s.ENDED
            and (
                number in chosen
                or (number in below and (asked.downstream or not task.ok))
                or (number in above and not task.ok)
                or number in serving
            )
        )
    }


def _kept_from(run: RunState, chosen: set[int]) -> set[int]:
    """What lies above tasks that could not start as their needs stand now."""
    found, queue = set[int](), list(chosen)
    while queue:
        number = queue.pop()
        if run.missing[number]:
            new = [need for need in run.shape.needs[number] if need not in found]
            found.update(new)
            queue += new
    return found


def not_ended(run: RunState, asked: RetryAsked) -> dict[str, str]:
    """Those named that cannot run again, since they have not ended, each with a sentence that says so."""
    words = {
        s.RUNNING: "is running, and has not ended",
        s.RETRYING: "waits for its next attempt, and has not ended",
        s.SLEEPING: "waits for its moment, and has not ended",
        s.WAITING: "waits for an answer, and has not ended",
    }
    found = {name: run.task(name).state for name in asked.tasks}
    return {
        name: f"{name} {words.get(state, 'has not run yet')}"
        for name, state in found.items()
        if state not in s.ENDED | {s.UNCERTAIN}
    }


def refusal(run: RunState, asked: RetryAsked) -> str:
    """Why nothing would come of a retry of tasks that are named; empty where something does, or none is named."""
    if asked.failed_items and not asked_for(run, asked):
        return "no items of its tasks have failed: there is nothing to run again"
    if run.closing is not None and run.state not in s.RUN_ENDED and not to_reset(run, asked):
        return "its finally tasks run now; a retry can follow once the run has ended"
    left = not_ended(run, asked)
    if not left or len(left) < len(set(asked.tasks)) or to_reset(run, asked):
        return ""
    return f"{'; '.join(left.values())}: there is nothing to run again"
