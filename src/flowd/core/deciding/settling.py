"""What follows from the state of a run alone: ends that spread downwards, and the run's own end."""

from __future__ import annotations

from flowd.core import events as e
from flowd.core import states as s
from flowd.core.deciding.decision import Decision, named
from flowd.core.deciding.fanning import settle_items
from flowd.core.reasons import because
from flowd.core.run import RunState


def settle(decision: Decision) -> None:
    """What follows from the state alone, to a fixed point; settling twice says nothing new."""
    run = decision.run
    while run.unmet:
        number = run.unmet.popleft()
        name = run.shape.specs[number].name
        state = run.tasks[number].state
        if state not in s.BAD and state != s.SKIPPED:
            continue
        for successor in run.shape.successors[number]:
            if run.tasks[successor].state not in s.STARTABLE:
                continue
            below = run.shape.specs[successor].name
            if state == s.CANCELLED:
                decision.say(e.TaskCancelled(task=below, reason=because("cancelled.upstream", need=name)))
            elif state == s.SKIPPED:
                decision.say(e.TaskSkipped(task=below, reason=because("upstream_skipped", need=name)))
            else:
                decision.say(e.TaskUpstreamFailed(task=below, cause=name))
    if run.fans:
        settle_items(decision)
    if run.state == s.RUN_CANCELLING:
        for number in range(run.declared):
            if run.tasks[number].state in s.STARTABLE:
                decision.say(e.TaskCancelled(task=run.shape.specs[number].name, reason=run.cancelling))
    if run.state in {s.RUN_RUNNING, s.RUN_CANCELLING} and run.unended == 0:
        decision.say(_finish(run))


def _finish(run: RunState) -> e.RunFinished:
    if run.state == s.RUN_CANCELLING and run.cancelling is not None:
        if run.cancelling.code in {"deadline", "fail_fast"}:
            return e.RunFinished(state=s.RUN_FAILED, reason=run.cancelling)
        return e.RunFinished(state=s.RUN_CANCELLED, reason=run.cancelling)
    if broken := named(run, s.BROKEN) or named(run, {s.UPSTREAM_FAILED}):
        return e.RunFinished(state=s.RUN_FAILED, reason=because("task_failed", tasks=broken))
    if cancelled := named(run, {s.CANCELLED}):  # before, and it was not asked for again
        return e.RunFinished(state=s.RUN_CANCELLED, reason=because("cancelled.before", tasks=cancelled))
    if partial := named(run, {s.PARTIAL}):
        return e.RunFinished(state=s.RUN_PARTIAL, reason=because("partial.run", tasks=partial))
    return e.RunFinished(state=s.RUN_SUCCEEDED)
