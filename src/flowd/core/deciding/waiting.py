"""Tasks that wait for a moment: when it is known, and when it has come."""

from __future__ import annotations

from flowd.core import events as e
from flowd.core import states as s
from flowd.core import stimuli as st
from flowd.core.deciding.decision import Decision
from flowd.core.reasons import because
from flowd.core.spec import Wait
from flowd.core.waits import until


def timer_started(decision: Decision, asked: st.TimerStarted) -> None:
    """Write down until when a task waits: after a restart it waits no longer."""
    run = decision.run
    number = run.shape.index[asked.task]
    action = run.shape.specs[number].action
    if isinstance(action, Wait) and run.tasks[number].state == s.PENDING and run.may_start(number):
        moment = until(action, decision.now)
        reason = because("until", at=f"{moment:%Y-%m-%d %H:%M:%S} UTC")
        decision.say(e.TaskTimerStarted(task=asked.task, until=moment, reason=reason))


def timer_fired(decision: Decision, fired: st.TimerFired) -> None:
    """The task has succeeded, if its moment has come."""
    task = decision.run.task(fired.task)
    if task.state == s.SLEEPING and task.until is not None and task.until <= decision.now:
        decision.say(e.TaskSucceeded(task=fired.task, attempt=0))
