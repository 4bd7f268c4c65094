"""Tasks that are repeated: what follows a round after which another is to come, or none can."""

from __future__ import annotations

from flowd.core import events as e
from flowd.core import states as s
from flowd.core import stimuli as st
from flowd.core.deciding.decision import Decision
from flowd.core.reasons import because


def round_over(decision: Decision, report: st.AttemptEnded) -> None:
    """The round is on record, and when the next one begins: that holds over restarts."""
    outcome, run = report.outcome, decision.run
    assert isinstance(outcome, st.RoundOver)
    number = run.shape.index[report.task]
    repeat, task = run.shape.specs[number].repeat, run.tasks[number]
    assert repeat is not None
    assert task.rounds is not None
    ended, next_at = task.rounds.ended + 1, decision.now + repeat.every
    decision.say(
        e.TaskRoundEnded(
            task=report.task,
            attempt=report.attempt,
            round=ended,
            delay=repeat.every,
            next_at=next_at,
            result=outcome.result,
            exit_code=outcome.exit_code,
            metrics=outcome.metrics,
            ending=outcome.ending,
            reason=because(
                "repeat", round=ended, until=repeat.until, why=outcome.why, at=f"{next_at:%Y-%m-%d %H:%M:%S} UTC"
            ),
        )
    )


def repeat_timed_out(decision: Decision, found: st.RepeatTimedOut) -> None:
    """The time was over before another round could begin, as after a restart that came late."""
    task = decision.run.task(found.task)
    if task.state in s.STARTABLE:
        decision.say(
            e.TaskTimedOut(
                task=found.task, attempt=task.attempt, error=found.error, reason=found.reason, allowed=found.allowed
            )
        )
