"""What must hold in every history, whoever was killed when: read from the journal and the ledger alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import msgspec

from flowd.core import events as e
from flowd.core import states as s
from flowd.core.errors import NoSuchRun
from flowd.core.fanout import base_name, is_fanned
from flowd.core.items import name_of, owner
from flowd.core.rules import ALL_SUCCEEDED
from flowd.core.run import RunState, fold
from flowd.core.spec import Ask, PipelineSpec, TaskSpec, Wait, task_map
from flowd.core.task_state import TaskState
from flowd.core.views import run_document
from flowd.engine.handle import Result
from flowd.testing.simulation.loop import BEGAN
from flowd.testing.simulation.world import World


class Broken(Exception):
    """A promise was not kept."""


def after_a_life(world: World, spec: PipelineSpec, run: str, succeeded: set[str]) -> None:
    """What holds after each life; `succeeded` were durably done when it began."""
    try:
        envelopes = world.envelopes(run)
    except NoSuchRun:  # killed before it was made
        return
    _told_is_on_disk(world, envelopes)
    _starts_are_legal(spec, run, envelopes)
    _nothing_silently_twice(world, spec, envelopes)
    _answers_count_once(world, envelopes)
    _nothing_begins_unasked(world, spec, envelopes)
    _limits_held(world, spec)
    asked_again = {envelope.event.task for envelope in envelopes if isinstance(envelope.event, e.TaskReset)}
    for did in world.ledger:
        if base_name(did.task) in asked_again:
            continue
        if did.life == world.life and did.what == "began" and did.task in succeeded:
            raise Broken(f"{did.task} was durably done and began again in life {did.life}")


def at_the_end(world: World, spec: PipelineSpec, run: str) -> None:
    """What holds once the run has ended for good."""
    envelopes = world.envelopes(run)
    state = fold(run, spec, envelopes)
    done = {(did.task, did.attempt) for did in world.ledger if did.what == "finished"}
    told = [envelope.event for envelope in envelopes]
    done |= {(event.task, event.attempt) for event in told if isinstance(event, e.TaskServing)}  # that was all of it
    resolved = {envelope.event.task for envelope in envelopes if isinstance(envelope.event, e.TaskResolved)}
    for number, known in enumerate(state.tasks):
        name = name_of(state, number)
        if known.state not in s.ENDED:
            raise Broken(f"the run is {state.state}, and {name} is {known.state}")
        if number in state.fans:
            _items_are_gathered(state, number)
            continue
        task = state.shape.specs[number]
        answered = isinstance(task.action, Ask) and known.approval is not None and known.approval.state == "approved"
        if isinstance(task.action, Ask) and known.state == s.SUCCEEDED and not answered:
            raise Broken(f"{name} is said to have succeeded, and nobody has said yes")
        if isinstance(task.action, Wait) and known.state == s.SUCCEEDED:
            _waited_long_enough(name, envelopes)
            continue
        by_itself = name not in resolved and not answered
        if known.state == s.SUCCEEDED and (name, known.attempt) not in done and by_itself:
            raise Broken(f"{name} is said to have succeeded in attempt {known.attempt}, which never finished")
    _attempts_are_counted(spec, run, envelopes)
    _rounds_are_counted(spec, envelopes)


def _waited_long_enough(name: str, envelopes: list[e.Envelope]) -> None:
    """A wait is over at the moment that was written down when its turn came, and not before."""
    moment = None
    for envelope in envelopes:
        event = envelope.event
        if isinstance(event, e.TaskTimerStarted) and event.task == name:
            moment = event.until
        elif isinstance(event, e.TaskSucceeded) and event.task == name and (moment is None or envelope.at < moment):
            raise Broken(f"record {envelope.seq}: the wait {name} is over before {moment}")


def _rounds_are_counted(spec: PipelineSpec, envelopes: list[e.Envelope]) -> None:
    """Rounds are numbered without a gap, and there are no more of them, nor any later, than the task says."""
    repeats = {task.name: task.repeat for task in spec.tasks}
    due, since = Counter[str](), dict[str, datetime]()
    for envelope in envelopes:
        event = envelope.event
        if isinstance(event, e.TaskReset | e.TaskReopened):
            for name in [name for name in due if base_name(name) == event.task]:
                del due[name], since[name]
        elif isinstance(event, e.TaskStarted) and (repeat := repeats[base_name(event.task)]) is not None:
            first = since.setdefault(event.task, envelope.at)
            due.setdefault(event.task, 1)
            if event.round != due[event.task] or (repeat.max is not None and event.round > repeat.max):
                raise Broken(f"record {envelope.seq}: round {event.round} of {event.task}, {due[event.task]} was due")
            if repeat.timeout is not None and envelope.at - first >= repeat.timeout:
                raise Broken(f"record {envelope.seq}: {event.task} goes on after {repeat.timeout}")
        elif isinstance(event, e.TaskRoundEnded):
            due[event.task] += 1


def _items_are_gathered(state: RunState, number: int) -> None:
    """The result of a task with items is the list of theirs, null for those that did not end well."""
    fan, task = state.fans[number], state.tasks[number]
    if task.state not in s.OK:
        return
    items = [state.tasks[item] for item in fan.numbers()]
    good = sum(item.ok or item.state == s.SKIPPED for item in items)
    if task.state != s.PARTIAL and good < fan.count:
        raise Broken(f"{fan.template.name} is {task.state}, and {fan.count - good} of its items are not")
    told = [inline_of(item.result) if item.state in s.OK else None for item in items]
    if inline_of(task.result) != told:
        raise Broken(f"the result of {fan.template.name} is {inline_of(task.result)}; its items say {told}")


def inline_of(stored: e.Stored | None) -> object:
    """A result that stands in the journal."""
    return None if stored is None or not isinstance(stored.inline, msgspec.Raw) else msgspec.json.decode(stored.inline)


def replay_equals_live(world: World, spec: PipelineSpec, run: str, result: Result) -> None:
    """The journal of a run tells what the living engine told."""
    replayed = run_document(fold(run, spec, world.envelopes(run)), owned=False)
    live = {name: result.document[name] for name in replayed if name != "tasks"}
    if {name: value for name, value in replayed.items() if name != "tasks"} != live:
        raise Broken(f"replayed, the run is {replayed['state']}; live it was {live['state']}")
    for name, task in replayed["tasks"].items():
        told = result.document["tasks"][name]
        if _without_logs(task) != _without_logs(told):
            raise Broken(f"replayed, {name} is {task}; live it was {told}")


def _without_logs(task: dict[str, Any]) -> dict[str, Any]:
    items = {key: {**item, "log": None, "outputs": None} for key, item in task["items"].items()}
    return {**task, "log": None, "items": items}


def _told_is_on_disk(world: World, envelopes: list[e.Envelope]) -> None:
    for told in world.told:
        if told.seq > len(envelopes) or envelopes[told.seq - 1] != told:
            raise Broken(f"record {told.seq} was told and is not in the journal: {told.event}")


def _starts_are_legal(spec: PipelineSpec, run: str, envelopes: list[e.Envelope]) -> None:
    state, tasks = RunState(run, spec), task_map(spec)
    for envelope in envelopes:
        event = envelope.event
        if isinstance(event, e.TaskStarted):
            base = base_name(event.task)
            if base != event.task and state.task(base).state != s.EXPANDED:
                raise Broken(f"record {envelope.seq}: {event.task} starts, and {base} is {state.task(base).state}")
            if tasks[base].final and not _all_have_ended(state):
                raise Broken(f"record {envelope.seq}: {event.task} stands under `finally`, and starts before the end")
            needs = [state.task(need) for need in tasks[base].needs]
            if base == event.task and not _lets_start(tasks[base].trigger_rule, needs):
                stand = ", ".join(need.state for need in needs)
                raise Broken(f"record {envelope.seq}: {event.task} starts, and its needs are {stand}")
            due = state.task(event.task).retry_at
            if due is not None and envelope.at < due:
                raise Broken(f"record {envelope.seq}: {event.task} starts {due - envelope.at} before its wait is over")
        state.apply(event, envelope.at)


def _all_have_ended(state: RunState) -> bool:
    """Whether every task that does not stand under `finally` has ended."""
    finals = state.shape.finals
    return all(task.state in s.ENDED for number, task in enumerate(state.tasks) if owner(state, number) not in finals)


def _lets_start(rule: str, needs: list[TaskState]) -> bool:
    """Whether a task may start whose needs stand so, as its trigger rule promises it."""
    if rule in {"any_succeeded", "any_failed"}:
        failed = s.BAD - {s.CANCELLED}
        return any(need.ok if rule == "any_succeeded" else need.state in failed and not need.allowed for need in needs)
    if rule == "all_done":
        return all(need.state in s.ENDED or need.state == s.SERVING for need in needs)
    skipped = rule == "none_failed"
    return all(need.ok or (skipped and need.state == s.SKIPPED) for need in needs) and (
        not skipped or not needs or any(need.ok for need in needs)
    )


def _answers_count_once(world: World, envelopes: list[e.Envelope]) -> None:
    """What a person was told is recorded is; any other answer is there once or not at all."""
    found = Counter(
        envelope.event.by for envelope in envelopes if isinstance(envelope.event, e.TaskApproved | e.TaskRejected)
    )
    for who, confirmed in world.answers.items():
        if found[who] > 1 or (confirmed and not found[who]):
            told = "confirmed" if confirmed else "not confirmed"
            raise Broken(f"the answer of {who} was {told}, and is there {found[who]} times")


def _asking_needs(task: TaskSpec, tasks: Mapping[str, TaskSpec]) -> list[str]:
    """The needs of a task that have to be answered by yes for it to begin."""
    needs = task.needs if task.trigger_rule == ALL_SUCCEEDED else ()
    return [need for need in needs if isinstance(tasks[need].action, Ask)]


def _nothing_begins_unasked(world: World, spec: PipelineSpec, envelopes: list[e.Envelope]) -> None:
    """What a person has to approve begins only once the yes is on disk; so does what stands or falls with an answer."""
    tasks = task_map(spec)
    answers = {name for name, task in tasks.items() if isinstance(task.action, Ask) and not task.allow_failure}
    asks = {
        name: {*([name] if task.approve else []), *answers.intersection(_asking_needs(task, tasks))}
        for name, task in tasks.items()
    }
    for did in world.ledger:
        if did.what != "began":
            continue
        for name in asks[base_name(did.task)]:
            yes = [envelope for envelope in envelopes if _says_yes(envelope, name)]
            if not any((envelope.at - BEGAN).total_seconds() <= did.at + 1e-6 for envelope in yes):
                raise Broken(f"{did.task} began at {did.at}, and no yes for {name} is on disk from before")


def _says_yes(envelope: e.Envelope, task: str) -> bool:
    event = envelope.event
    if isinstance(event, e.TaskResolved):
        return event.task == task and event.verdict == "succeeded"
    return isinstance(event, e.TaskApproved) and event.task == task


def _nothing_silently_twice(world: World, spec: PipelineSpec, envelopes: list[e.Envelope]) -> None:
    """A task that is not idempotent begins once, and again only by its own retry or a person's word."""
    guarded = {task.name for task in spec.tasks if not task.idempotent}
    started: defaultdict[str, set[int]] = defaultdict(set)
    allowed: dict[str, bool] = {}
    good = set[str]()
    for envelope in envelopes:
        event = envelope.event
        name = getattr(event, "task", None)
        if name is None or base_name(name) not in guarded:
            continue
        if isinstance(event, e.TaskSucceeded):
            good.add(name)
        elif isinstance(event, e.TaskReset | e.TaskReopened):
            good -= _all_of(name, started) if isinstance(event, e.TaskReset) else set()
            allowed.update(dict.fromkeys(_all_of(name, started) - good, True))
        elif isinstance(event, e.TaskStarted):
            if not allowed.get(name, True):
                raise Broken(f"record {envelope.seq}: {name} is not idempotent and starts again by itself")
            started[name].add(event.attempt)
            allowed[name] = False
        elif _asks_again(event):
            allowed[name] = True
    began = Counter((d.task, d.attempt) for d in world.ledger if d.what == "began" and base_name(d.task) in guarded)
    for (name, attempt), times in began.items():
        if times > 1:
            raise Broken(f"attempt {attempt} of {name} began {times} times, and it is not idempotent")
        if attempt not in started[name]:
            raise Broken(f"attempt {attempt} of {name} began before its start was durable, and it is not idempotent")


def _all_of(task: str, names: Collection[str]) -> set[str]:
    """A task, and its items among `names`."""
    return {name for name in names if base_name(name) == task}


def _asks_again(event: e.Event) -> bool:
    """Whether this lets what is not idempotent begin again."""
    by_itself = isinstance(event, e.TaskRetryScheduled | e.TaskRoundEnded)
    return by_itself or (isinstance(event, e.TaskResolved) and event.verdict == "rerun")


def _limits_held(world: World, spec: PipelineSpec) -> None:
    bounds = {**spec.limits, "": spec.max_concurrency}
    bounds |= {f"items of {task.name}": task.foreach.max_concurrency for task in spec.tasks if task.foreach}
    for limit, most in world.most.items():
        bound = bounds[limit]
        if bound is not None and most > bound:
            raise Broken(f"{most} of {limit or 'max_concurrency'} were used at once, and there are {bound:g}")


def _attempts_are_counted(spec: PipelineSpec, run: str, envelopes: list[e.Envelope]) -> None:
    """Failures between two words of a person are as many as the policy allows; an interruption counts for nothing."""
    allowed = {task.name: task.retry.attempts if task.retry else 1 for task in spec.tasks}
    fanned = {task.name for task in spec.tasks if is_fanned(task)}
    services = {task.name: task.service.restart for task in spec.tasks if task.service is not None}
    failures: Counter[str] = Counter()
    state = RunState(run, spec)
    for envelope in envelopes:
        event, cancelling = envelope.event, state.state == s.RUN_CANCELLING
        state.apply(event, envelope.at)
        if isinstance(event, e.TaskResolved | e.TaskRoundEnded):
            failures[event.task] = 0
        elif isinstance(event, e.TaskReset | e.TaskReopened):
            for name in [name for name in failures if base_name(name) == event.task]:
                failures[name] = 0
        elif isinstance(event, e.TaskFailed) and event.task in fanned:
            continue  # its items are counted
        elif isinstance(event, e.TaskRetryScheduled | e.TaskFailed) and event.task in services:
            served, policy = state.task(event.task).service, services[event.task]
            if served is not None and served.restarts > (policy.attempts - 1 if policy is not None else 0):
                raise Broken(f"{event.task} was begun again {served.restarts} times")
        elif isinstance(event, e.TaskRetryScheduled | e.TaskFailed | e.TaskTimedOut) and not _is_bounded(event):
            failures[event.task] += 1
            known, most = failures[event.task], allowed[base_name(event.task)]
            if known > most:
                raise Broken(f"{event.task} failed {known} times; its policy allows {most}")
            if known < most and not isinstance(event, e.TaskRetryScheduled) and not cancelling:
                raise Broken(f"{event.task} was given up after {known} of {most} attempts")


def _is_bounded(event: e.TaskRetryScheduled | e.TaskFailed | e.TaskTimedOut) -> bool:
    reason = getattr(event, "reason", None)
    return reason is not None and reason.code in {"approval_timed_out", "repeat_timed_out", "repeat_exhausted"}
