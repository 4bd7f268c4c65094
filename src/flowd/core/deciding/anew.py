"""What is run again, or answered by a person: retries, another definition, verdicts on uncertain tasks."""

from __future__ import annotations

from collections.abc import Collection

from flowd.core import events as e
from flowd.core import states as s
from flowd.core import stimuli as st
from flowd.core.again import asked_for, items_asked_for, lost_items, to_reset
from flowd.core.deciding.decision import Decision
from flowd.core.items import name_of
from flowd.core.run import RunState
from flowd.core.spec import PipelineSpec, task_map


def retry_asked(decision: Decision, asked: st.RetryAsked) -> None:
    """Run tasks again that have ended, with what lies below them."""
    run = decision.run
    chosen, again = asked_for(run, asked), to_reset(run, asked)
    uncertain = sorted(n for n in chosen if run.tasks[n].state == s.UNCERTAIN)  # to name one is to answer for it
    for number in uncertain:
        decision.say(e.TaskResolved(task=name_of(run, number), verdict="rerun", by=asked.by))
    if not again:
        return
    if again - run.shape.finals:  # there will be another end
        again |= {number for number in run.shape.finals if run.tasks[number].state in s.ENDED}
    if run.state in s.RUN_ENDED:
        decision.say(e.RunReopened(by=asked.by))
    _reset(decision, again, asked)


def _reset(decision: Decision, again: Collection[int], asked: st.RetryAsked) -> None:
    """What lies below first: cut off anywhere, no task waits for ever behind one that is done."""
    run = decision.run
    for number in (number for number in reversed(run.shape.order()) if number in again):
        name, items = run.shape.specs[number].name, items_asked_for(run, asked, number)
        above = run.shape.reach([number], down=False) - {number}
        if items or (lost_items(run, number) and above.isdisjoint(again)):  # else its list may be another
            decision.say(e.TaskReopened(task=name, items=items, by=asked.by))
        else:
            decision.say(e.TaskReset(task=name, by=asked.by))
    run.find_ready()


def redefined(decision: Decision, asked: st.Redefined) -> None:
    """Go on with another definition; what its changes made possible is settled anew."""
    run = decision.run
    if run.live or run.state not in {s.RUN_RUNNING, *s.RUN_ENDED}:
        return
    if run.state in s.RUN_ENDED:
        decision.say(e.RunReopened(by=asked.by))
    before, tasks = run.shape.index, still_chosen(run, asked.definition)
    now = tasks or tuple(task.name for task in asked.definition.tasks)
    decision.say(
        e.RunRedefined(
            spec=asked.spec,
            definition=asked.definition,
            params=asked.params,
            tasks=tasks,
            added=tuple(name for name in now if name not in before),
            removed=tuple(name for name in before if name not in now),
            by=asked.by,
        )
    )
    for number in [number for number, task in enumerate(run.tasks) if task.state == s.WAITING]:
        decision.say(e.TaskReset(task=run.shape.specs[number].name, by=asked.by))  # it may ask otherwise by now
    again = set[int]()  # their needs have gone, or were gone through anew: nothing bad is above them any more
    for number in run.shape.order():
        needs = run.shape.needs[number]
        if run.tasks[number].state == s.UPSTREAM_FAILED and not any(
            run.tasks[need].state in s.BAD and not run.tasks[need].allowed and need not in again for need in needs
        ):
            again.add(number)
    _reset(decision, again, st.RetryAsked(by=asked.by))
    if asked.again is not None:
        retry_asked(decision, asked.again)


def still_chosen(run: RunState, definition: PipelineSpec) -> tuple[str, ...]:
    """The tasks of a run that goes on with another definition; none: all, as before.

    Of a run of some tasks, those that are still there, and whatever they need that has not ended well.
    """
    if len(run.shape) == len(run.spec.tasks):
        return ()
    known, chosen = task_map(definition), set[str]()
    queue = [name for name in run.shape.index if name in known]
    while queue:
        name = queue.pop()
        if name not in chosen:
            chosen.add(name)
            if name not in run.shape.index or not run.task(name).ok:
                queue += known[name].needs
    return tuple(name for name in known if name in chosen)


def resolved(decision: Decision, answer: st.Resolved) -> None:
    """A person, or `reconcile`, says what became of an uncertain task."""
    if decision.run.task(answer.task).state == s.UNCERTAIN:
        decision.say(
            e.TaskResolved(
                task=answer.task,
                verdict=answer.verdict,
                allowed=answer.verdict == "failed" and _always_allowed(decision.run, answer.task),
                by=answer.by,
                result=answer.result,
                outputs=answer.outputs,
                parts=answer.parts,
            )
        )


def _always_allowed(run: RunState, task: str) -> bool:
    """Whether a task may fail in any case; of one for which it depends on how, nothing is known here."""
    return run.shape.specs[run.shape.index[task]].allow_failure is True
