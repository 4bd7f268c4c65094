"""What follows from the state of a run alone: ends that spread downwards, and the run's own end."""

from __future__ import annotations

from collections.abc import Collection

from flowd.core import events as e
from flowd.core import states as s
from flowd.core.deciding.decision import Decision, named
from flowd.core.deciding.fanning import settle_items
from flowd.core.reasons import because
from flowd.core.rules import ALL_SUCCEEDED, judge
from flowd.core.run import RunState


def settle(decision: Decision) -> None:
    """What follows from the state alone, to a fixed point; settling twice says nothing new."""
    run = decision.run
    while run.unmet or run.unruled:
        if run.unruled:
            _end_as_needs(decision, run.unruled.popleft())
            continue
        number = run.unmet.popleft()
        task = run.tasks[number]
        if task.state in s.ENDED and not task.ok:
            for successor in run.shape.counted[number]:
                _end_as_needs(decision, successor)
    if run.fans:
        settle_items(decision)
    if run.state == s.RUN_CANCELLING:
        kept = run.shape.finals if run.closing is None else ()
        for number in range(run.declared):
            if run.tasks[number].state in s.IDLE and number not in kept:
                decision.say(e.TaskCancelled(task=run.shape.specs[number].name, reason=run.cancelling))
    if run.state in {s.RUN_RUNNING, s.RUN_CANCELLING}:
        if run.shape.finals and run.closing is None and run.is_done:
            decision.say(_close(run))
        if run.unended == 0:
            decision.say(_finish(run))


def _end_as_needs(decision: Decision, number: int) -> None:
    """End a task that its needs keep from starting, as its rule says."""
    run = decision.run
    if run.tasks[number].state not in s.IDLE:
        return
    name, rule = run.shape.specs[number].name, run.shape.rules.get(number, ALL_SUCCEEDED)
    verdict = judge(rule, run.tallies.get(number) or run.tally(number))
    if verdict == "cancel":
        need = _first(run, number, {s.CANCELLED})
        decision.say(e.TaskCancelled(task=name, reason=because("cancelled.upstream", need=need)))
    elif verdict == "upstream_failed":
        decision.say(e.TaskUpstreamFailed(task=name, cause=_first(run, number, s.BAD - {s.CANCELLED})))
    elif verdict == "skip" and rule == "any_failed":
        decision.say(e.TaskSkipped(task=name, reason=because("no_failure")))
    elif verdict == "skip":
        reason = because("upstream_skipped", need=_first(run, number, {s.SKIPPED}))
        decision.say(e.TaskSkipped(task=name, reason=reason))


def _first(run: RunState, number: int, states: Collection[str]) -> str:
    """The first of a task's needs that stands so and is not ok."""
    needs = run.shape.needs[number]
    return next(run.shape.specs[n].name for n in needs if run.tasks[n].state in states and not run.tasks[n].ok)


def _finish(run: RunState) -> e.RunFinished:
    if run.closing is None:
        state, reason = _outcome(run)
        return e.RunFinished(state=state, reason=reason)
    state, reason = run.closing.state, run.closing.reason
    if state in {
        s.RUN_SUCCEEDED,
        s.RUN_PARTIAL,
    }:  # what stands under `finally` may spoil it; what was spoilt before stays as it is
        if run.state == s.RUN_CANCELLING:
            return e.RunFinished(state=s.RUN_CANCELLED, reason=run.cancelling)
        if broken := named(run, s.BROKEN) or named(run, {s.UPSTREAM_FAILED}):
            return e.RunFinished(state=s.RUN_FAILED, reason=because("task_failed", tasks=broken))
    return e.RunFinished(state=state, reason=reason)


def _close(run: RunState) -> e.RunClosing:
    state, reason = _outcome(run)
    broken = [spec for spec, task in run.own() if task.state in s.BROKEN and not task.allowed]
    names = tuple(spec.name for spec in broken if not spec.final)
    return e.RunClosing(state=state, reason=reason, failed=names)


def _outcome(run: RunState) -> tuple[str, e.Reason | None]:
    """How the run ends, as its tasks did; those under `finally` have no part in it."""
    if run.state == s.RUN_CANCELLING and run.cancelling is not None:
        failed = run.cancelling.code in {"deadline", "fail_fast"}
        return s.RUN_FAILED if failed else s.RUN_CANCELLED, run.cancelling
    left_out = run.shape.finals
    if broken := named(run, s.BROKEN, left_out) or named(run, {s.UPSTREAM_FAILED}, left_out):
        return s.RUN_FAILED, because("task_failed", tasks=broken)
    if cancelled := named(run, {s.CANCELLED}, left_out):  # before, and it was not asked for again
        return s.RUN_CANCELLED, because("cancelled.before", tasks=cancelled)
    if partial := named(run, {s.PARTIAL}, left_out):
        return s.RUN_PARTIAL, because("partial.run", tasks=partial)
    return s.RUN_SUCCEEDED, None
