"""Tasks that are carried out for each item of a list: their expansion, and what their items make of them."""

from __future__ import annotations

from flowd.core import events as e
from flowd.core import states as s
from flowd.core import stimuli as st
from flowd.core.deciding.decision import Decision
from flowd.core.fanout import Fan, enough
from flowd.core.items import name_of
from flowd.core.reasons import because
from flowd.core.run import RunState


def expanded(decision: Decision, found: st.Expanded) -> None:
    """The items of a task are known: they are on record before one of them begins."""
    if decision.run.task(found.task).state == s.PENDING:
        decision.say(e.TaskExpanded(task=found.task, count=found.count, keys=found.keys, result=found.items))


def gathered(decision: Decision, found: st.Gathered) -> None:
    """All items of a task have ended, and what they left is gathered."""
    run = decision.run
    number = run.shape.index[found.task]
    fan = run.fans.get(number)
    if fan is None or run.tasks[number].state != s.EXPANDED or not fan.is_done:
        return
    task, facts = found.task, {"failed": fan.count - fan.good, "count": fan.count, "names": found.failed}
    if fan.good == fan.count:
        source = _fresh_from(run, fan)
        if source:
            fresh = because("fresh", run=source)
            decision.say(
                e.TaskFresh(task=task, source=source, result=found.result, outputs=found.outputs, reason=fresh)
            )
        else:
            decision.say(e.TaskSucceeded(task=task, attempt=0, result=found.result, outputs=found.outputs))
    elif enough(fan.template.foreach, fan.good, fan.count):
        reason = because("partial", **facts)
        decision.say(e.TaskPartial(task=task, result=found.result, outputs=found.outputs, reason=reason))
    else:
        reason = because("items_failed", **facts)
        error = e.Error(type="ItemsFailed", message=reason.sentence)
        allowed = fan.template.allow_failure is True
        failed = e.TaskFailed(task=task, attempt=0, error=error, reason=reason, outputs=found.outputs, allowed=allowed)
        decision.say(failed)


def _fresh_from(run: RunState, fan: Fan) -> str:
    """The newest run that items are from, where all of them were found fresh."""
    sources = set[str]()
    for number in fan.numbers():
        task = run.tasks[number]
        if task.state != s.FRESH:
            return ""
        sources.add(task.source or "")
    return max(sources, default="")


def settle_items(decision: Decision) -> None:
    """Items that have begun and shall not go on are cancelled, and then their task: what has not begun ends with it."""
    run = decision.run
    cancelling = run.state == s.RUN_CANCELLING
    for fan in list(run.fans.values()):
        if run.tasks[fan.parent].state != s.EXPANDED or not (cancelling or fan.halted):
            continue
        reason = run.cancelling if cancelling else because("fail_fast.item")
        if fan.live:
            for number in fan.numbers():
                if run.tasks[number].state == s.RETRYING:
                    decision.say(e.TaskCancelled(task=name_of(run, number), reason=reason))
        if cancelling and not fan.live:
            decision.say(e.TaskCancelled(task=fan.template.name, reason=reason))
