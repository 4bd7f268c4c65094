"""What of a run people are told about: its journal, read in order, as happenings.

House rules of this room. A run is folded from a few of its events (`EVENTS`), apart from `run`, since nobody
is told anything of a hundred thousand items, one by one. The same journal gives the same happenings, whoever
reads it and however often: whom they are told to, and that it is once, is decided by `notices`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from shlex import quote
from typing import Any, Final

import msgspec

from flowd.core import events as e
from flowd.core import states as s
from flowd.core.answers import approve_line, resolve_line
from flowd.core.fanout import base_name
from flowd.core.lateness import MOST_TASKS, Outcome
from flowd.core.reasons import because
from flowd.core.spec import PipelineSpec, TaskSpec, task_map

_KINDS: Final = (
    e.RunStarted,
    e.RunAdopted,
    e.RunPaused,
    e.RunFinished,
    e.RunReopened,
    e.RunRedefined,
    e.TaskStarted,
    e.TaskServing,
    e.TaskSucceeded,
    e.TaskSkipped,
    e.TaskFailed,
    e.TaskTimedOut,
    e.TaskAbandoned,
    e.TaskRejected,
    e.TaskUpstreamFailed,
    e.TaskCancelled,
    e.TaskUncertain,
    e.TaskResolved,
    e.TaskApprovalRequested,
    e.TaskApproved,
    e.TaskDeferred,
    e.TaskTakenUp,
    e.TaskReset,
)
EVENTS: Final = tuple(str(kind.__struct_config__.tag) for kind in _KINDS)
"""The names of the events that a story is made of."""
TELLING: Final = frozenset(_KINDS) - {e.TaskStarted, e.TaskServing}
"""Those after which there may be something to tell."""

_BROKE: Final = (e.TaskFailed, e.TaskTimedOut, e.TaskAbandoned, e.TaskRejected)
_STATES: Final[dict[type[e.Event], str]] = {e.TaskTimedOut: s.TIMED_OUT, e.TaskAbandoned: s.ABANDONED}
_THINKS: Final = timedelta(minutes=1)
"""How long a `reconcile` has before a person is asked, where its task has no timeout."""


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """Something that people are told of.

    `kind` is what happened; `addressed` the word of `on` by which people ask for it (empty: the same). `incident` tells
    one of a kind from another of the same run. `owner` are those whom `to: owner` means, `default` those who are told
    unasked; `by_owner` and `by_name`: which kinds of addressees are told this. `seq` is the event's number, `until` the
    moment at which an answer comes too late. Nobody is told before `not_before`, nor where the incident
    `follows`, addressed by the same word, has not been told to the same addressee. `asked`: signed links may answer.
    `of_pipeline`: it is told once of the pipeline, whichever of its runs is named with it.
    """

    kind: str
    addressed: str = ""
    incident: str = ""
    at: datetime
    seq: int = 0
    task: str = ""
    tasks: tuple[str, ...] = ()
    state: str = ""
    sentence: str = ""
    next: tuple[str, ...] = ()
    owner: tuple[str, ...] = ()
    default: tuple[str, ...] = ()
    by_owner: bool = True
    by_name: bool = True
    not_before: datetime | None = None
    follows: str = ""
    asked: bool = False
    until: datetime | None = None
    of_pipeline: bool = False


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a task waits for a person for, as of event `seq`; `answerable`: by yes or no."""

    task: str
    seq: int
    at: datetime
    message: str = ""
    show: tuple[str, ...] = ()
    until: datetime | None = None
    answerable: bool = False


class Story:
    """One run as far as it has been read; `seq` is the number of the last event that was.

    `questions` are those open now by task, `failed` what broke (with what is said of it) and `warned` what was warned
    of since the run was last opened; `begun` are its own tasks that ran, `plain`: it went through without people,
    services or pauses, so that its duration says something.
    """

    def __init__(self, run: str, spec: PipelineSpec) -> None:
        self.run = run
        self.spec = spec
        self.tasks: dict[str, TaskSpec] = dict(task_map(spec))
        self.seq = 0
        self.state = s.RUN_NEW
        self.trigger: dict[str, Any] = {}
        self.opened_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.openings = 0
        self.plain = True
        self.begun: set[str] = set()
        self.failed: dict[str, str] = {}
        self.warned: dict[str, tuple[str, ...]] = {}
        self.questions: dict[str, Question] = {}

    @property
    def is_open(self) -> bool:
        """Whether the run goes on, or could."""
        return self.opened_at is not None and self.ended_at is None

    def owners_of(self, tasks: Any) -> tuple[str, ...]:
        """Who answers for these tasks, each once."""
        found = (self.tasks[name].owner for name in tasks if name in self.tasks)
        return tuple(dict.fromkeys(owner for owner in found if owner is not None))

    def outcome(self) -> Outcome | None:
        """How it ended; None while it goes on, and of one that was cancelled, which says nothing of its pipeline."""
        if self.opened_at is None or self.ended_at is None or self.state == s.RUN_CANCELLED:
            return None
        few = len(self.begun) <= MOST_TASKS
        return Outcome(
            run=self.run,
            opening=self.openings,
            state=self.state,
            began=self.opened_at,
            ended=self.ended_at,
            begun=tuple(sorted(self.begun)) if few else (),
            plain=self.plain and few,
            failed=tuple(self.failed),
        )

    def apply(self, envelope: e.Envelope) -> list[Happening]:
        """Take one more event in, and give what people are told of it."""
        self.seq = envelope.seq
        event, at = envelope.event, envelope.at
        if isinstance(event, e.TaskEvent):
            return self._of_task(event, at)
        return self._of_run(event, at)

    def still(self, happening: Happening) -> bool:
        """Whether what happened is so still: a question may have been answered meanwhile."""
        if happening.kind != "waiting" or not happening.seq:
            return True
        if not happening.task:
            return self.state == s.RUN_PAUSED
        question = self.questions.get(happening.task)
        return question is not None and question.seq == happening.seq

    # --- the run ---------------------------------------------------------------------------------------

    def _of_run(self, event: Any, at: datetime) -> list[Happening]:
        kind = type(event)
        if kind is e.RunStarted:
            self.trigger, chosen = event.trigger, set(event.tasks)
            self.tasks = {name: task for name, task in self.tasks.items() if not chosen or name in chosen}
            self.state, self.opened_at = s.RUN_RUNNING, at
        elif kind is e.RunReopened:
            self.state, self.opened_at, self.ended_at = s.RUN_RUNNING, at, None
            self.openings, self.plain = self.openings + 1, False
            self.failed, self.warned = {}, {}
        elif kind is e.RunRedefined:
            chosen = set(event.tasks)
            self.spec = event.definition
            self.tasks = {name: task for name, task in task_map(self.spec).items() if not chosen or name in chosen}
        elif kind is e.RunAdopted:
            self.state, self.plain = s.RUN_RUNNING, False
        elif kind is e.RunPaused:
            self.state, self.plain = s.RUN_PAUSED, False
            if event.reason == "failures":
                return [self._paused(at)]
        elif kind is e.RunFinished:
            self.state, self.ended_at, self.questions = event.state, at, {}
            return self._ended(event, at)
        return []

    def _paused(self, at: datetime) -> Happening:
        reason = because("paused.failures", most=self.spec.stop_after_failures)
        return Happening(
            kind="waiting",
            incident=f"paused {self.seq}",
            at=at,
            seq=self.seq,
            state=s.RUN_PAUSED,
            sentence=f"it is paused: {reason.sentence}",
            next=(f"flowd show {self.run}", f"flowd resume {self.run}"),
            owner=self.owners_of(self.failed),
        )

    def _ended(self, event: e.RunFinished, at: datetime) -> list[Happening]:
        common: dict[str, Any] = {"at": at, "seq": self.seq, "state": event.state, "incident": self._opening("run")}
        found = []
        if event.state in {s.RUN_FAILED, s.RUN_PARTIAL}:
            broken = tuple(self.failed)
            reason = event.reason.sentence if event.reason is not None else "it did not end well"
            sentence = f"{broken[0]}: {self.failed[broken[0]]}" if len(broken) == 1 else reason
            failed_items = event.state == s.RUN_PARTIAL and not broken
            again = f"flowd retry {self.run}" + (" --failed-items" if failed_items else "")
            found.append(
                Happening(
                    kind="failed",
                    task=broken[0] if len(broken) == 1 else "",
                    tasks=broken,
                    sentence=sentence,
                    next=(self._look(broken), again),
                    by_owner=not broken,
                    **common,
                )
            )
        elif event.state == s.RUN_SUCCEEDED:
            done = f"{len(self.begun)} of {len(self.tasks)} tasks ran, the others were fresh or skipped"
            sentence = f"all went well in {said_span(at - (self.opened_at or at))}; {done}"
            owner = self.owners_of(self.tasks)
            found.append(Happening(kind="succeeded", sentence=sentence, owner=owner, **common))
        if self.warned:
            lines = [f"{task}: {text}" for task, texts in self.warned.items() for text in texts]
            found.append(
                Happening(
                    kind="warning",
                    tasks=tuple(self.warned),
                    task=next(iter(self.warned)) if len(self.warned) == 1 else "",
                    sentence="; ".join(lines),
                    next=(f"flowd show {self.run}",),
                    by_owner=False,
                    **common,
                )
            )
        return found

    def _look(self, broken: tuple[str, ...]) -> str:
        return f"flowd logs {self.run} {quote(broken[0])}" if len(broken) == 1 else f"flowd show {self.run}"

    def _opening(self, what: str) -> str:
        """What tells a happening from one of the same run before it was asked for again."""
        return f"{what} {self.openings}" if self.openings else what

    # --- its tasks -------------------------------------------------------------------------------------

    def _of_task(self, event: Any, at: datetime) -> list[Happening]:
        kind, name = type(event), event.task
        if kind is e.TaskStarted:
            self.begun.add(base_name(name))
            return []
        if kind is e.TaskServing:
            self.plain = False
            return []
        self.questions.pop(name, None)
        if kind in {e.TaskUncertain, e.TaskApprovalRequested, e.TaskDeferred}:
            self.plain = False
            return [self._asked(event, at)]
        task = self.tasks.get(name)
        if task is None:  # an item: what becomes of it is told with its task
            return []
        if kind is e.TaskRejected and event.back_to:  # it is done again from there: nothing has failed
            return []
        if kind in _BROKE or (kind is e.TaskResolved and event.verdict == "failed"):
            return [self._warned(task, self._said(event), at) if event.allowed else self._broken(task, event, at)]
        if kind is e.TaskReset:
            self.failed.pop(name, None)
            self.warned.pop(name, None)
        if kind is e.TaskSucceeded and event.warnings:
            return [self._warned(task, "; ".join(event.warnings), at)]
        return []

    def _said(self, event: Any) -> str:
        if isinstance(event, e.TaskResolved):
            return f"{event.by or 'a person'} said that it failed"
        if event.reason is not None:
            return str(event.reason.sentence)
        if isinstance(event, e.TaskRejected):
            return f"rejected by {event.by or 'a person'}"
        error = event.error
        return f"{error.type}: {error.message}"

    def _broken(self, task: TaskSpec, event: Any, at: datetime) -> Happening:
        sentence = self.failed[task.name] = self._said(event)
        owner = (task.owner,) if task.owner is not None else ()
        return Happening(
            kind="failed",
            incident=f"task {task.name} {self.seq}" if self.openings else f"task {task.name}",
            at=at,
            seq=self.seq,
            task=task.name,
            tasks=(task.name,),
            state=_STATES.get(type(event), s.FAILED),
            sentence=sentence,
            next=(f"flowd logs {self.run} {quote(task.name)}", f"flowd retry {self.run}"),
            owner=owner or tuple(self.spec.owners),  # a failure that `to: owner` told nobody of would be lost
            default=owner,
            by_name=False,
        )

    def _warned(self, task: TaskSpec, text: str, at: datetime) -> Happening:
        self.warned[task.name] = (*self.warned.get(task.name, ()), text)
        return Happening(
            kind="warning",
            incident=self._opening(f"task {task.name}"),
            at=at,
            seq=self.seq,
            task=task.name,
            tasks=(task.name,),
            sentence=text,
            next=(f"flowd show {self.run}",),
            owner=self.owners_of([task.name]),
            by_name=False,
        )

    def _asked(self, event: Any, at: datetime) -> Happening:
        name = event.task
        task = self.tasks.get(base_name(name))
        own = self.owners_of([base_name(name)])
        more: dict[str, Any] = {"owner": own}
        question = Question(task=name, seq=self.seq, at=at)
        if isinstance(event, e.TaskApprovalRequested) and task is not None and task.approve is not None:
            question = Question(
                task=name,
                seq=self.seq,
                at=at,
                message=event.message,
                show=tuple(artifact.path for artifact in event.show),
                until=event.expires_at,
                answerable=True,
            )
            sentence, state = event.message or f"{name} waits for a yes or no", s.WAITING
            line = approve_line(self.run, task)
            more = {"owner": task.approve.by or own, "default": task.approve.by, "asked": True}
            more |= {"until": event.expires_at, "next": (line, f"flowd reject {self.run} {quote(name)} --comment WHY")}
        elif isinstance(event, e.TaskDeferred):
            sentence, state = event.reason.sentence, s.WAITING
            more["next"] = event.commands
        else:
            sentence, state = event.reason.sentence, s.UNCERTAIN
            more |= {"default": own, "next": (f"flowd logs {self.run} {quote(name)}", resolve_line(self.run, name))}
            if task is not None and task.reconcile is not None:  # it is asked first, and may know
                more["not_before"] = at + (task.timeout or _THINKS)
        self.questions[name] = question
        incident = f"{name} {self.seq}"
        common: dict[str, Any] = {"at": at, "seq": self.seq, "task": name, "tasks": (name,), "state": state}
        return Happening(kind="waiting", incident=incident, sentence=sentence, **common, **more)


def said_span(span: timedelta) -> str:
    """A duration for people: `1h 5m`, `12.3s`."""
    seconds = span.total_seconds()
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if hours:
        return f"{hours}h {minutes - 60 * hours}m"
    return f"{minutes}m {int(seconds) - 60 * minutes}s"


__all__ = ["EVENTS", "TELLING", "Happening", "Question", "Story", "said_span"]
