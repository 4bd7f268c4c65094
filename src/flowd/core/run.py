"""One run's state: the fold of its events, and nothing else.

House rules of this room. The state changes in `apply` only, and only by an event; live, replayed
and simulated runs use the same `apply`. What follows from the tasks' states (how many needs are
still missing, what has become ready) is kept beside them for speed and is never journaled.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from flowd.core import events as e
from flowd.core import items
from flowd.core import states as s
from flowd.core.errors import IllegalTransition
from flowd.core.fanout import Fan
from flowd.core.reasons import because
from flowd.core.rules import Tally, judge
from flowd.core.shape import Shape
from flowd.core.spec import PipelineSpec, TaskSpec
from flowd.core.task_state import EFFECTS, TaskState

_OF_ANOTHER = e.TaskCancelled(task="")


class RunState:
    """A run as it stands after the events applied so far.

    `live` holds the tasks that run now, `unmet` those that ended otherwise than well and whose
    consequences are not settled yet, `unruled` those whose own trigger rule says that they will not
    go (`tallies` count for it), `ready` those that became startable and were not handed out
    yet; all by index. The `declared` tasks come first; behind them stand the items of expanded
    tasks, whose `owners` these are.
    """

    def __init__(self, run_id: str, spec: PipelineSpec) -> None:
        self.id = run_id
        self.spec = spec
        self.state = s.RUN_NEW
        self.shape = Shape(())
        self.tasks: list[TaskState] = []
        self.missing: list[int] = []
        self.live: set[int] = set()
        self.unmet: deque[int] = deque()
        self.tallies: dict[int, Tally] = {}
        self.unruled: deque[int] = deque()
        self.ready: list[int] = []
        self.unended = 0
        self.params: dict[str, Any] = {}
        self.trigger: dict[str, Any] = {}
        self.started_at: datetime | None = None
        self.opened_at: datetime | None = (
            None  # its start, or when it was last asked for again: a deadline counts from it
        )
        self.entered_at: datetime | None = None  # when it was last gone on with: failures count from it
        self.ended_at: datetime | None = None
        self.reason: e.Reason | None = None
        self.cancelling: e.Reason | None = None
        self.closing: e.RunClosing | None = None  # how it ended, while what stands under `finally` runs and after
        self.owner = ""
        self.force = False
        self.forced: set[str] = set()
        self.declared = 0
        self.fans: dict[int, Fan] = {}
        self.owners: list[int] = []
        self.tried: dict[int, dict[str, TaskState]] = {}  # items of lists that are made anew

    def apply(self, event: e.AnyEvent, at: datetime) -> None:
        """Change the state by one event that happened at `at`; IllegalTransition if it may not."""
        if isinstance(event, e.TaskEvent):
            try:
                number = self.shape.index[event.task]
            except KeyError:
                raise IllegalTransition(
                    f"run {self.id} has no task {event.task!r} for {type(event).__name__}"
                ) from None
            task = self.tasks[number]
            target = s.TASK_TRANSITIONS[type(event)].get(task.state)
            if target is None:
                raise IllegalTransition(f"{type(event).__name__} of {event.task!r}, which is {task.state}")
            if not target:
                target = s.RESOLUTIONS.get(event.verdict)  # type: ignore[union-attr]  # only TaskResolved
                if target is None:
                    raise IllegalTransition(f"{event.task!r} resolved as {event.verdict!r}")  # type: ignore[union-attr]
            self._enter(number, task, target, event)
            if (effect := EFFECTS.get(type(event))) is not None:
                effect(task, event, at)
            if (of_items := items.EFFECTS.get(type(event))) is not None:
                of_items(self, number, event, at)
            return
        target = s.RUN_TRANSITIONS[type(event)].get(self.state)
        if target is None:
            raise IllegalTransition(f"{type(event).__name__} of run {self.id}, which is {self.state}")
        if not target:
            target = event.state  # type: ignore[union-attr]  # only RunFinished
            if target not in s.RUN_ENDED:
                raise IllegalTransition(f"run {self.id} finished as {target!r}")
        self.state = target
        of_run = _RUN_EFFECTS.get(type(event))
        if of_run is not None:
            of_run(self, event, at)

    def take_ready(self) -> list[int]:
        """The tasks that have become startable since the last call; one that is retrying, not before `retry_at`."""
        ready, self.ready = self.ready, []
        return [number for number in ready if self._can_go_on(number)]

    def may_start(self, number: int) -> bool:
        """Whether an attempt may begin now: a need may have been asked for again since the task became startable."""
        if self.state != s.RUN_RUNNING:
            return False
        if number < self.declared and number not in self.shape.special:  # nearly all: what follows costs more
            return not self.missing[number] and self.tasks[number].state in s.STARTABLE
        return self._can_go_on(number) and not self.is_held(number)

    def could_start(self, number: int) -> bool:
        """Whether nothing but the run itself, or a person, keeps the task from its next attempt."""
        if self.missing[number] or self.tasks[number].state not in s.STARTABLE:
            return False
        if number < self.declared:
            return True
        fan = items.fan_of(self, number)
        return fan is None or not fan.halted

    def _can_go_on(self, number: int) -> bool:
        """Whether an attempt may begin, or what its items have left may be gathered."""
        if self.tasks[number].state == s.EXPANDED:
            fan = self.fans.get(number)
            return fan is not None and fan.is_done
        return self.could_start(number)

    def is_held(self, number: int) -> bool:
        """Whether a person has to say yes before this task may start; one that has items has begun with them."""
        asked = self.tasks[number].approval
        if self.tasks[number].state == s.EXPANDED:
            return False
        return self.shape.specs[number].approve is not None and (asked is None or asked.state != "approved")

    @property
    def is_done(self) -> bool:
        """Whether all tasks have ended but for those under `finally`."""
        finals = self.shape.finals
        return self.unended <= len(finals) and all(
            task.state in s.ENDED for number, (_, task) in enumerate(self.own()) if number not in finals
        )

    def find_ready(self) -> None:
        """Look for startable tasks anew, after a replay or a reset; items are handed out by `items.take`."""
        tasks, missing = self.tasks, self.missing
        self.ready = [
            number for number in range(self.declared) if tasks[number].state == s.PENDING and not missing[number]
        ]
        for fan in self.fans.values():
            fan.look_again()
            if tasks[fan.parent].state == s.EXPANDED and fan.is_done:
                self.ready.append(fan.parent)

    def task(self, name: str) -> TaskState:
        """The state of the task called `name`; KeyError if the run has none."""
        return self.tasks[self.shape.index[name]]

    def is_forced(self, number: int) -> bool:
        """Whether a person asked for this task whatever its checkpoint says."""
        asked = self.tasks[number].reason
        return (
            self.force
            or self.shape.specs[items.owner(self, number)].name in self.forced
            or (asked is not None and asked.code == "retried")
        )

    def own(self) -> Iterator[tuple[TaskSpec, TaskState]]:
        """The declared tasks, each with its state."""
        return zip(self.shape.specs[: self.declared], self.tasks[: self.declared], strict=True)

    def enter(self, number: int, target: str) -> None:
        """Bring a task into a state as a consequence of what an event says of another."""
        self._enter(number, self.tasks[number], target, _OF_ANOTHER)

    def _enter(self, number: int, task: TaskState, target: str, event: e.TaskEvent) -> None:
        left = task.state
        self._count(number, task, target, event)
        if self.fans:
            items.moved(self, number, left, event)

    def _count(self, number: int, task: TaskState, target: str, event: e.TaskEvent) -> None:
        """Change a task's state, and keep what follows from it beside it."""
        left, task.state = task.state, target
        if left in s.LIVE:
            self.live.discard(number)
        elif left in s.ENDED:
            self._ask_again(number, task, left)
        well = target in s.OK or (target in s.ENDED and getattr(event, "allowed", False))
        if s.SERVING in (left, target) and not well:
            self._need(number, met=target == s.SERVING)
        if target in s.LIVE:
            self.live.add(number)
        elif left == s.SERVING and well:
            self.unended -= 1  # what needs it has been let go before
        elif target in s.ENDED:
            self._end(number, target, ok=well)
        elif self.missing[number]:  # a need was asked for again while it ran: it may have ended otherwise by now
            if number in self.tallies:
                self.unruled.append(number)
            self.unmet.extend(need for need in self.shape.needs[number] if self.tasks[need].state in s.ENDED - s.OK)
        elif target == s.PENDING:
            self.ready.append(number)

    def _end(self, number: int, state: str, *, ok: bool) -> None:
        """One more has ended: what needs it may have become startable, or never will."""
        self.unended -= 1
        if ok:
            self._let_go(number)
        else:
            self.unmet.append(number)
        if self.tallies:
            self._tally(number, state, ok=ok, change=1)

    def _let_go(self, number: int) -> None:
        """What needs a task has one need less that is not met."""
        missing = self.missing
        for successor in self.shape.counted[number]:
            missing[successor] -= 1
            if not missing[successor]:
                self.ready.append(successor)

    def _hold_back(self, number: int) -> None:
        for successor in self.shape.counted[number]:
            self.missing[successor] += 1

    def _need(self, number: int, *, met: bool) -> None:
        """A service has come up, or does not serve any more."""
        (self._let_go if met else self._hold_back)(number)
        if self.tallies:
            self._tally(number, s.SERVING, ok=True, change=1 if met else -1)

    def _ask_again(self, number: int, task: TaskState, state: str) -> None:
        """One that had ended has not any more; `task` is still as it was but for its state."""
        self.unended += 1
        ok = task.allowed or state in s.OK
        if ok:
            self._hold_back(number)
        if self.tallies:
            self._tally(number, state, ok=ok, change=-1)

    def _tally(self, number: int, state: str, *, ok: bool, change: int) -> None:
        """A task has ended, or is asked for again: judge what needs it by another rule than `all_succeeded`."""
        for successor in self.shape.ruled[number]:
            self.tallies[successor].count(state, ok=ok, change=change)
            if self._judge(successor):
                self.ready.append(successor)

    def _judge(self, number: int) -> bool:
        """Whether a task with a rule of its own may go, and could not before."""
        verdict = judge(self.shape.rules[number], self.tallies[number])
        before, self.missing[number] = self.missing[number], int(verdict != "go") + self._is_kept(number)
        if verdict not in {"go", "wait"}:
            self.unruled.append(number)
        return before > 0 and not self.missing[number]

    def _is_kept(self, number: int) -> bool:
        """Whether a task waits for all others to end."""
        return self.closing is None and number in self.shape.finals

    def close(self, closing: e.RunClosing | None) -> None:
        """Let what stands under `finally` start, or (None) wait again."""
        self.closing = closing
        for number in self.shape.finals:
            if number in self.tallies:
                self._judge(number)
            else:
                self.missing[number] += 1 if closing is None else -1
            if not self.missing[number]:
                self.ready.append(number)

    def tally(self, number: int) -> Tally:
        """How the needs of a task stand."""
        tally = Tally(len(self.shape.needs[number]))
        for need in self.shape.needs[number]:
            task = self.tasks[need]
            if task.state in s.ENDED or task.state == s.SERVING:
                tally.count(task.state, ok=task.ok, change=1)
        return tally

    def _lay_out(self) -> None:
        """Count what is derived from the shape and the states of its tasks."""
        self.missing = [sum([not self.tasks[need].ok for need in needs]) if needs else 0 for needs in self.shape.needs]
        for number in self.shape.finals:
            self.missing[number] += self._is_kept(number)
        self.tallies = {number: self.tally(number) for number in self.shape.rules}
        self.unruled = deque()
        for number in self.tallies:
            self._judge(number)

    def begin(self, event: e.RunStarted, at: datetime) -> None:
        """Lay out the selected tasks, all pending."""
        chosen = set(event.tasks)
        self._draw([task for task in self.spec.tasks if not chosen or task.name in chosen])
        self.tasks = [TaskState() for _ in self.shape.specs]
        self._lay_out()
        self.unended = len(self.tasks)
        self.force, self.forced = event.force, set(event.force_tasks)
        self.params, self.trigger, self.owner = event.params, event.trigger, event.owner
        self.started_at = self.opened_at = self.entered_at = at
        self.find_ready()

    def redefine(self, event: e.RunRedefined, _at: datetime) -> None:
        """Lay out the tasks of another specification; those of a known name stand as they stood."""
        known, lists = {spec.name: task for spec, task in self.own()}, items.kept_items(self)
        chosen = set(event.tasks)
        self.spec, self.params = event.definition, event.params
        self._draw([task for task in self.spec.tasks if not chosen or task.name in chosen])
        self.tasks = [known.get(spec.name) or TaskState() for spec in self.shape.specs]
        self.unended = sum(task.state not in s.ENDED for task in self.tasks)
        if not self.is_done:
            self.closing = None
        self._lay_out()
        items.relaid(self, lists)
        self.unended = sum(task.state not in s.ENDED for task in self.tasks)
        self.live = {number for number, task in enumerate(self.tasks) if task.state in s.LIVE}
        self.unmet = deque(number for number, task in enumerate(self.tasks) if task.state in s.ENDED - s.OK)
        self.find_ready()

    def _draw(self, tasks: Sequence[TaskSpec]) -> None:
        """The shape of these tasks, none of which has items yet."""
        self.shape = Shape(tasks)
        self.shape.index.find = partial(items.find, self)
        self.declared, self.fans, self.owners, self.tried = len(tasks), {}, [], {}


# --- what the events of the run itself leave behind ---------------------------------------------------


def _finished(run: RunState, event: e.RunFinished, at: datetime) -> None:
    run.ended_at, run.reason = at, event.reason


def _reopened(run: RunState, _event: e.RunReopened, at: datetime) -> None:
    run.opened_at = run.entered_at = at
    run.ended_at = run.reason = run.cancelling = None
    if run.closing is not None:
        run.close(None)


def _closing(run: RunState, event: e.RunClosing, _at: datetime) -> None:
    run.cancelling = None
    run.close(event)


def _cancel_requested(run: RunState, event: e.RunCancelRequested, _at: datetime) -> None:
    if event.cause == "fail_fast":
        run.cancelling = because("fail_fast", task=event.reason)
        return
    run.cancelling = because("cancelled.said" if event.reason else "cancelled", said=event.reason)


def _deadline_passed(run: RunState, _event: e.RunDeadlinePassed, _at: datetime) -> None:
    run.cancelling = because("deadline")


def _adopted(run: RunState, event: e.RunAdopted, at: datetime) -> None:
    run.owner, run.reason, run.entered_at = event.owner, None, at


def _paused(run: RunState, event: e.RunPaused, _at: datetime) -> None:
    if event.reason == "failures":
        run.reason = because("paused.failures", most=run.spec.stop_after_failures)
    elif event.reason == "interrupted":
        run.reason = because("interrupted")
    else:
        run.reason = because("paused.by" if event.by else "paused", by=event.by)


_RUN_EFFECTS: dict[type[e.Event], Callable[[RunState, Any, datetime], None]] = {
    e.RunStarted: RunState.begin,
    e.RunAdopted: _adopted,
    e.RunCancelRequested: _cancel_requested,
    e.RunDeadlinePassed: _deadline_passed,
    e.RunPaused: _paused,
    e.RunClosing: _closing,
    e.RunFinished: _finished,
    e.RunReopened: _reopened,
    e.RunRedefined: RunState.redefine,
}


def fold(run_id: str, spec: PipelineSpec, envelopes: Iterable[e.Envelope]) -> RunState:
    """The state of a run after `envelopes`: the same as it was live when they were written."""
    run = RunState(run_id, spec)
    for envelope in envelopes:
        run.apply(envelope.event, envelope.at)
    return run
