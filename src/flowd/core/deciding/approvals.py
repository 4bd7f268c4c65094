"""What follows from questions to people: that one is asked, what the answer makes of the task, and silence."""

from __future__ import annotations

from typing import Final

from flowd.core import events as e
from flowd.core import states as s
from flowd.core import stimuli as st
from flowd.core.deciding.decision import Decision
from flowd.core.durations import format_duration
from flowd.core.reasons import because
from flowd.core.run import RunState
from flowd.core.spec import Ask

MESSAGE: Final = "{{ message }}"
"""What differs, in place of a path, where a question is worded otherwise than it was."""
BY_TIMEOUT: Final = "timeout"
"""Who has answered where nobody did in time and the task says `then: approve`."""


def approval_asked(decision: Decision, asked: st.ApprovalAsked) -> None:
    """Ask a person; or ask anew, where what was asked about is not as it was."""
    run = decision.run
    number = run.shape.index[asked.task]
    spec, task = run.shape.specs[number], run.tasks[number]
    lapses = bool(asked.lapsed) and task.approval is not None and not task.approval.begun
    may_ask = task.state == s.PENDING and run.state == s.RUN_RUNNING and not run.missing[number]
    if spec.approve is None or not (may_ask or (task.state == s.WAITING and lapses)):
        return
    if not lapses and not run.is_held(number):
        return
    reason = because("approval", message=asked.message)
    if lapses:
        changed = "approval_lapsed.message" if asked.lapsed == MESSAGE else "approval_lapsed"
        reason = because(changed, path=asked.lapsed)
    timeout = spec.approve.timeout
    decision.say(
        e.TaskApprovalRequested(
            task=asked.task,
            message=asked.message,
            show=asked.show,
            expires_at=None if timeout is None else decision.now + timeout,
            reason=reason,
        )
    )


def approved(decision: Decision, answer: st.Approved) -> None:
    """A person says yes: what was held may start, and an answer that is all of the task has succeeded."""
    if not _waits(decision.run, answer.task):
        return
    decision.say(
        e.TaskApproved(
            task=answer.task,
            by=answer.by,
            answered_at=answer.answered_at,
            comment=answer.comment,
            values=answer.values,
            result=answer.result,
        )
    )
    finish_answered(decision)


def rejected(decision: Decision, answer: st.Rejected) -> None:
    """A person says no."""
    if _waits(decision.run, answer.task):
        key = "rejected.back" if answer.back_to else "rejected.said" if answer.comment else "rejected"
        comment = answer.comment or "without a comment"
        spec = decision.run.shape.specs[decision.run.shape.index[answer.task]]
        reason = because(key, by=answer.by or "a person", comment=comment, back_to=answer.back_to)
        decision.say(
            e.TaskRejected(
                task=answer.task,
                by=answer.by,
                answered_at=answer.answered_at,
                comment=answer.comment,
                back_to=answer.back_to,
                reason=reason,
                allowed=spec.allow_failure is True and not answer.back_to,
            )
        )
        finish_sent_back(decision)


def approval_expired(decision: Decision, expired: st.ApprovalExpired) -> None:
    """Nobody has answered in time: what the task says is done then."""
    run = decision.run
    if not _waits(run, expired.task):
        return
    spec, task = run.shape.specs[run.shape.index[expired.task]], run.task(expired.task)
    assert spec.approve is not None
    assert task.approval is not None
    due = task.approval.expires_at
    if due is None or decision.now < due:
        return
    reason = because("approval_timed_out", timeout=format_duration(due - task.approval.requested_at))
    if spec.approve.then == "skip":
        decision.say(e.TaskSkipped(task=spec.name, reason=reason))
    elif spec.approve.then == "approve" and expired.yes is not None:
        approved(decision, expired.yes)
    else:
        error = e.Error(type="ApprovalTimedOut", message=reason.sentence)
        allowed = spec.allow_failure is True
        decision.say(e.TaskFailed(task=spec.name, attempt=task.attempt, error=error, reason=reason, allowed=allowed))


def finish_answered(decision: Decision) -> None:
    """Tasks that are an answer and nothing else have succeeded once it is yes; also where a crash came in between."""
    run = decision.run
    for number, task in enumerate(run.tasks):
        asked, spec = task.approval, run.shape.specs[number]
        if task.state == s.PENDING and asked is not None and asked.state == "approved" and isinstance(spec.action, Ask):
            decision.say(e.TaskSucceeded(task=spec.name, attempt=0, result=asked.result))


def finish_sent_back(decision: Decision) -> None:
    """What was sent back is done again from there on; also where a crash has cut that off.

    From above to below, the rejected task last: as long as it stands as rejected, there is something to do.
    """
    run = decision.run
    rejected_ones = [n for n, task in enumerate(run.tasks) if task.approval is not None and task.approval.back_to]
    for number in rejected_ones:
        answer, name = run.tasks[number].approval, run.shape.specs[number].name
        assert answer is not None
        assert answer.answered_at is not None
        start = run.shape.index[answer.back_to]
        again = between(run, start, number)
        note = e.SentBack(task=name, by=answer.by, comment=answer.comment, at=answer.answered_at)
        for one in [one for one in run.shape.order() if one in again and one != number] + [number]:
            if run.tasks[one].state in s.ENDED:
                sent_back = note if one == start else None
                decision.say(e.TaskReset(task=run.shape.specs[one].name, by=answer.by, sent_back=sent_back))
    if rejected_ones:
        run.find_ready()


def between(run: RunState, start: int, end: int) -> set[int]:
    """The tasks on the ways from one task down to another, both included, and what below did not end well."""
    below = run.shape.reach([start], down=True)
    return {n for n in below if n in run.shape.reach([end], down=False) or run.tasks[n].state in s.ENDED - s.OK}


def _waits(run: RunState, task: str) -> bool:
    known = run.task(task)
    return known.state == s.WAITING and known.approval is not None and known.approval.state == "waiting"
