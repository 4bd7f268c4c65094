"""Services: what follows when one has come up, and when the one who owned it has died."""

from __future__ import annotations

from flowd.core import events as e
from flowd.core import states as s
from flowd.core import stimuli as st
from flowd.core.deciding.decision import Decision
from flowd.core.run import RunState


def serves(decision: Decision, report: st.Serves) -> None:
    """What needs the task may start."""
    task = decision.run.task(report.task)
    if task.state == s.RUNNING and task.attempt == report.attempt:
        decision.say(
            e.TaskServing(task=report.task, attempt=report.attempt, url=report.url, port=report.port, pid=report.pid)
        )


def handed_over(decision: Decision, done: st.HandedOver) -> None:
    """It has done what it was begun for."""
    run = decision.run
    task = run.task(done.task)
    if task.state == s.PENDING and task.service is not None:
        decision.say(e.TaskSucceeded(task=done.task, attempt=task.attempt, metrics=task.metrics))


def is_kept(run: RunState) -> bool:
    """Whether nothing is left of a run but services that are kept always: it goes on, and holds nobody up."""
    left = [number for number, task in enumerate(run.tasks) if task.state not in s.ENDED]
    return bool(left) and all(run.tasks[number].state == s.SERVING and _always(run, number) for number in left)


def _always(run: RunState, number: int) -> bool:
    service = run.shape.specs[number].service
    return service is not None and service.keep == "always"


def is_needed(run: RunState, number: int) -> bool:
    """Whether a service has anything to go on for by itself: a task below that has not ended, or its run."""
    service = run.shape.specs[number].service
    if service is None or service.keep != "needed":
        return True
    below = run.shape.reach([number], down=True) - {number}
    return any(run.tasks[other].state not in s.ENDED for other in below)
