"""A driver without a loop, for the tests of the core: it does what a list of numbers tells it to.

Hypothesis draws the numbers, so whatever goes wrong shrinks to the shortest walk that shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from flowd.core import events as e
from flowd.core import states as s
from flowd.core import stimuli as st
from flowd.core.decide import begin, decide, start
from flowd.core.run import RunState, fold
from flowd.core.spec import Approve, Ask, Call, PipelineSpec, Retry, TaskSpec

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ERROR = e.Error(type="ValueError", message="NaN in price")
WHY = e.Reason("why", "because")
VERDICTS = tuple(s.RESOLUTIONS)


def task(name: str, *needs: str, **fields: object) -> TaskSpec:
    """A task that calls something."""
    fields.setdefault("executor", "async")
    fields.setdefault("action", Call(module="steps", function=name))
    return TaskSpec(name=name, needs=needs, **fields)  # type: ignore[arg-type]


def pipeline(*tasks: TaskSpec) -> PipelineSpec:
    """A pipeline of these tasks."""
    return PipelineSpec(name="p", tasks=tasks)


def random_pipeline(masks: Sequence[int]) -> PipelineSpec:
    """A graph without cycles: each number's bits say which earlier tasks a task needs, and what kind it is."""
    tasks = []
    for number, mask in enumerate(masks):
        needs = [f"t{earlier}" for earlier in range(number) if mask >> earlier & 1]
        kind = mask >> 8
        retry = Retry(attempts=3) if kind & 2 else None
        policies: dict[str, object] = {"idempotent": bool(kind & 1), "retry": retry}
        if kind & 12 == 12:
            policies["approve"] = Approve(timeout=timedelta(seconds=3), then=("fail", "skip", "approve")[number % 3])
            if kind & 16:
                policies = {"approve": policies["approve"], "action": Ask()}
        tasks.append(task(f"t{number}", *needs, **policies))
    return pipeline(*tasks)


def outcome(number: int) -> st.Outcome:
    """One of the ways in which an attempt ends; success and failure more often than the rest."""
    causes = ("cancelled", "deadline", "interrupted")
    kinds: tuple[st.Outcome, ...] = (
        st.Succeeded(metrics={"n": float(number)}, warnings=("w",) if number & 1 else ()),
        st.Succeeded(result=e.Stored(digest="d", size=number)),
        st.Failed(error=ERROR),
        st.Failed(error=ERROR, metrics={"n": 1.0}),
        st.TimedOut(error=ERROR),
        st.Stopped(cause=causes[number // 8 % 3]),
        st.LeftRunning(message="it is a thread"),
        st.NeverBegan(message="the disk is full"),
        st.Succeeded(),
    )
    return kinds[number % len(kinds)]


class Walk:
    """One run, the journal it has written, and what a driver would know beside it."""

    def __init__(self, spec: PipelineSpec, run: RunState | None = None, seq: int = 0, at: datetime = NOON) -> None:
        self.spec = spec
        self.run = run if run is not None else RunState("r", spec)
        self.journal: list[e.Envelope] = []
        self.now = at
        self.handed_out: set[int] = set()  # what take_ready gave and has not been started since
        self._seq = seq

    def begin(self, selected: tuple[str, ...] = ()) -> None:
        """Start the run, of some tasks only where named."""
        self._note(begin(self.run, e.RunStarted(pipeline="p", spec="", tasks=selected), self.now))

    def tell(self, stimulus: st.Stimulus) -> None:
        """Something happens; what follows goes to the journal."""
        if isinstance(stimulus, st.Adopted):
            self.handed_out.clear()  # another driver, which knows only what it has read
        self.now += timedelta(seconds=1)
        self._note(decide(self.run, stimulus, self.now))

    def start(self, number: int) -> None:
        """Start a task, once its retry's wait is over."""
        self.now = max(self.now + timedelta(seconds=1), self.run.tasks[number].retry_at or self.now)
        self._note([start(self.run, self.run.shape.specs[number].name, self.now)])
        self.handed_out.discard(number)

    def startable(self) -> list[int]:
        """What a driver may start now: what it was handed, and what waits for a retry; in order."""
        self.handed_out.update(self.run.take_ready())
        retrying = {n for n, task in enumerate(self.run.tasks) if task.state == s.RETRYING}
        return sorted(n for n in self.handed_out | retrying if self.run.may_start(n))

    def step(self, number: int) -> None:
        """Do the one thing that `number` stands for; nothing, where it is not possible now."""
        what, number = number % 28, number // 28
        if what < 9:
            if ready := self.startable():
                self.start(ready[number % len(ready)])
        elif what < 18:
            if live := sorted(self.run.live):
                self.end(live[number % len(live)], outcome(number // 4), again=bool(number & 1))
        elif self.run.tasks:
            self.tell(self._unusual(what, number))

    def end(self, number: int, how: st.Outcome, *, again: bool = False, allowed: bool = False) -> None:
        """The current attempt of a task ends."""
        delay = timedelta(seconds=2)
        more = st.Again(delay) if again and self.run.shape.specs[number].retry else None
        self.tell(
            st.AttemptEnded(self.run.shape.specs[number].name, self.run.tasks[number].attempt, how, more, allowed)
        )

    def _unusual(self, what: int, number: int) -> st.Stimulus:
        count = len(self.run.tasks)
        name, state = self.run.shape.specs[number % count].name, self.run.tasks[number % count]
        rest = number // count
        if what == 18:  # a report of an attempt that is not the current one, or of none at all
            stale = state.attempt - 1 - rest % 2 if state.state == s.RUNNING else state.attempt + rest % 2
            return st.AttemptEnded(name, stale, outcome(rest))
        if what == 19:
            return st.FoundFresh(task=name, source="earlier", reason=WHY)
        if what == 20:
            return st.CouldNotBegin(name, ERROR)
        if what == 21:
            tasks = (name,) if rest % 4 else ()
            return st.RetryAsked(tasks=tasks, downstream=bool(rest & 4), by="me")
        if what == 22:
            return st.Resolved(task=name, verdict=VERDICTS[rest % 3], by="me")
        if what == 24:
            return st.ApprovalAsked(task=name, message="go on?", lapsed="a.csv" if rest & 1 else "")
        if what == 25:
            return st.Approved(task=name, by="me", answered_at=self.now)
        if what == 26:
            above = sorted(self.run.shape.reach([number % count], down=False) - {number % count})
            back_to = self.run.shape.specs[above[rest % len(above)]].name if above and rest & 1 else ""
            return st.Rejected(task=name, by="me", answered_at=self.now, back_to=back_to)
        if what == 27:
            yes = st.Approved(task=name, by="timeout", answered_at=self.now)
            return st.ApprovalExpired(task=name, yes=yes)
        asked = (st.Adopted("other"), st.PauseAsked(), st.Adopted("other"), st.CancelAsked(), st.DeadlineReached())
        return asked[number % len(asked)]

    def ask_people(self) -> None:
        """Ask what is held and whose turn has come."""
        run = self.run
        for number, known in enumerate(run.tasks):
            if known.state == s.PENDING and not run.missing[number] and run.is_held(number):
                self.tell(st.ApprovalAsked(task=run.shape.specs[number].name, message="go on?"))

    def go_on(self) -> None:
        """Take the run over and bring it as far as it goes by itself, everything succeeding."""
        self.tell(st.Adopted("heir"))
        while True:
            self.ask_people()
            if not (ready := self.startable()):
                return
            for number in ready:
                if self.run.may_start(number):
                    self.start(number)
            for number in sorted(self.run.live):
                self.end(number, st.Succeeded())

    def _note(self, events: Sequence[e.AnyEvent]) -> None:
        for event in events:
            self._seq += 1
            self.journal.append(e.Envelope(self.run.id, self._seq, self.now, event))


def heirs(walk: Walk) -> Iterator[tuple[int, Walk]]:
    """For each length of the journal, a new owner of what a crash would have left of it."""
    for length in range(1, len(walk.journal) + 1):
        kept = walk.journal[:length]
        yield length, Walk(walk.spec, fold("r", walk.spec, kept), length, kept[-1].at)


def facts(run: RunState) -> dict[str, object]:
    """The fields of a run that must be the same however it came about.

    `unmet`, `unruled` and `ready` are what was not looked at yet: live they are drained, after a replay full.
    """
    fields = {
        name: value for name, value in vars(run).items() if name not in {"shape", "unmet", "unruled", "ready", "spec"}
    }
    fields["shape"] = (run.shape.specs, run.shape.needs, run.shape.successors)
    return fields
