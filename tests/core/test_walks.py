"""Whatever happens to a run, in whatever order: what holds on every walk through every graph."""

from __future__ import annotations

from collections import Counter
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as hs

from flowd.core import events as e
from flowd.core import states as s
from flowd.core import stimuli as st
from flowd.core.deciding.decision import Decision
from flowd.core.deciding.settling import settle
from flowd.core.run import fold
from flowd.core.spec import Ask, PipelineSpec
from walk import NOON, VERDICTS, Walk, facts, heirs, random_pipeline


def _walk(tasks: int, steps: int, seed: int) -> tuple[PipelineSpec, list[int], int]:
    chance = Random(seed)  # drawing each number by itself would be slow, and most walks short
    spec = random_pipeline(
        [chance.getrandbits(8) & chance.getrandbits(8) | chance.getrandbits(5) << 8 for _ in range(8)][:tasks]
    )
    chosen = chance.getrandbits(8) if chance.random() < 0.3 else 0
    return spec, [chance.getrandbits(20) for _ in range(60)][:steps], chosen


WALKS = hs.builds(_walk, hs.sampled_from(range(1, 9)), hs.sampled_from(range(5, 61, 5)), hs.integers(0, 2**32 - 1))


def walked(spec, steps, chosen=0) -> Walk:
    """A run of the chosen tasks (0: all) after these steps."""
    walk = Walk(spec)
    names = tuple(task.name for number, task in enumerate(spec.tasks) if chosen >> number & 1)
    walk.begin(names)
    for number in steps:
        walk.step(number)
    return walk


class Audit:
    """A second, slower opinion on a journal, which knows only the rules that a user is promised."""

    def __init__(self, walk: Walk) -> None:
        run = walk.run
        self.specs = {spec.name: spec for spec in run.shape.specs}
        self.needs = {name: [n for n in spec.needs if n in self.specs] for name, spec in self.specs.items()}
        self.state = dict.fromkeys(self.specs, "waiting")
        self.attempts = Counter[str]()
        self.may_start = dict.fromkeys(self.specs, True)  # a non-idempotent task: once, until a person asks again
        self.approved = dict.fromkeys(self.specs, False)
        self.asked = dict.fromkeys(self.specs, False)
        self.finished = False
        for envelope in walk.journal:
            self.look(envelope.event)

    def look(self, event: e.AnyEvent) -> None:
        assert not self.finished or isinstance(event, e.RunReopened), f"{event} after the end"
        if isinstance(event, e.RunFinished):
            assert set(self.state.values()) <= {"ended", "well", "skipped"}
            assert event.state != "succeeded" or "ended" not in self.state.values()
            self.finished = True
        elif isinstance(event, e.RunReopened):
            self.finished = False
        elif isinstance(event, e.TaskStarted):
            self.start(event)
        elif isinstance(event, e.TaskApprovalRequested):
            assert self.specs[event.task].approve is not None
            assert self.state[event.task] == "waiting"
            self.asked[event.task], self.approved[event.task] = True, False
        elif isinstance(event, e.TaskApproved):
            assert self.asked[event.task]
            self.asked[event.task], self.approved[event.task] = False, True
        elif isinstance(event, e.TaskReset):
            assert self.state[event.task] in {"ended", "well", "skipped"} or self.asked[event.task]
            self.asked[event.task] = self.approved[event.task] = False
            self.state[event.task], self.may_start[event.task] = "waiting", True
        elif isinstance(event, e.TaskResolved):
            assert self.state[event.task] == "uncertain"
            if event.verdict == "rerun":
                self.state[event.task], self.may_start[event.task] = "waiting", True
            else:
                self.state[event.task] = "well" if event.verdict == "succeeded" else "ended"
        elif isinstance(event, e.TaskRetryScheduled | e.TaskInterrupted | e.TaskUncertain):
            assert self.state[event.task] == "running"
            self.state[event.task] = "uncertain" if isinstance(event, e.TaskUncertain) else "waiting"
            never_began = isinstance(event, e.TaskInterrupted) and event.reason.code == "never_began"
            may = never_began or isinstance(event, e.TaskRetryScheduled) or self.specs[event.task].idempotent
            self.may_start[event.task] = may
        elif isinstance(event, e.TaskEvent):
            assert self.state[event.task] in {"waiting", "running"}, f"{event.task} ended twice"
            assert self.asked[event.task] or not isinstance(event, e.TaskRejected)
            if isinstance(event, e.TaskSucceeded) and not event.attempt:
                assert self.approved[event.task]
            self.asked[event.task] = False
            well, skipped = isinstance(event, e.TaskSucceeded | e.TaskFresh), isinstance(event, e.TaskSkipped)
            self.state[event.task] = "well" if well else "skipped" if skipped else "ended"

    def start(self, event: e.TaskStarted) -> None:
        name = event.task
        assert self.state[name] == "waiting"
        assert all(self.state[need] == "well" for need in self.needs[name]), f"{name} started before its needs"
        assert self.approved[name] or self.specs[name].approve is None, f"{name} started, and nobody had said yes"
        assert not isinstance(self.specs[name].action, Ask)
        assert self.may_start[name], f"{name} is not idempotent and started again by itself"
        self.attempts[name] += 1
        assert event.attempt == self.attempts[name]
        self.state[name] = "running"
        self.may_start[name] = self.specs[name].idempotent


@settings(max_examples=1500, deadline=None)
@given(WALKS)
def test_every_walk_keeps_the_promises(drawn) -> None:
    """Starts only after all needs ended well; one end per life; one end of the run; no second start by itself."""
    spec, steps, chosen = drawn
    walk = walked(spec, steps, chosen)
    Audit(walk)
    walk.go_on()
    Audit(walk)


@settings(max_examples=600, deadline=None)
@given(WALKS)
def test_replay_equals_live(drawn) -> None:
    """The fold of the journal is the live state, field by field; what is left to settle says nothing."""
    spec, steps, chosen = drawn
    walk = walked(spec, steps, chosen)
    replayed = fold("r", spec, walk.journal)
    assert facts(replayed) == facts(walk.run)
    again = Decision(replayed, NOON)
    settle(again)
    assert again.events == []
    assert facts(replayed) == facts(walk.run)


@settings(max_examples=300, deadline=None)
@given(WALKS)
def test_settling_twice_says_nothing_new(drawn) -> None:
    """After every stimulus the consequences are all drawn."""
    spec, steps, chosen = drawn
    walk = walked(spec, [], chosen)
    for number in steps:
        walk.step(number)
        again = Decision(walk.run, walk.now)
        settle(again)
        assert again.events == []


@settings(max_examples=600, deadline=None)
@given(WALKS)
def test_what_is_kept_beside_the_states_agrees_with_them(drawn) -> None:
    """`missing`, `live`, `unended` follow from the states, and all that is startable was handed out."""
    spec, steps, chosen = drawn
    walk = walked(spec, [], chosen)
    for number in steps:
        walk.step(number)
        run = walk.run
        states = [task.state for task in run.tasks]
        assert run.missing == [sum(states[need] not in s.OK for need in needs) for needs in run.shape.needs]
        assert run.live == {n for n, state in enumerate(states) if state == s.RUNNING}
        assert run.unended == sum(state not in s.ENDED for state in states)
        handed = set(walk.startable())
        if run.state == s.RUN_RUNNING:
            able = {n for n, state in enumerate(states) if state in s.STARTABLE and not run.missing[n]}
            assert handed == {n for n in able if not run.is_held(n)}
        else:
            assert not handed


@settings(max_examples=100, deadline=None)
@given(WALKS)
def test_every_prefix_of_the_journal_recovers_to_a_legal_end(drawn) -> None:
    """Killed after any record, a run goes on to its end, or to where only a person can answer."""
    spec, steps, chosen = drawn
    walk = walked(spec, steps[:30], chosen)
    for length, heir in heirs(walk):
        heir.go_on()
        states = [task.state for task in heir.run.tasks]
        waits = {n for n, state in enumerate(states) if state in {s.UNCERTAIN, s.WAITING}}
        below = heir.run.shape.reach(waits, down=True)
        assert {n for n, state in enumerate(states) if state not in s.ENDED} <= below, f"after {length} records"
        assert (heir.run.state in s.RUN_ENDED) is (not waits)
        heir.journal[:0] = walk.journal[:length]
        Audit(heir)
        assert facts(fold("r", spec, heir.journal)) == facts(heir.run)


@settings(max_examples=200, deadline=None)
@given(WALKS)
def test_a_person_brings_every_run_to_an_end(drawn) -> None:
    """Once what is uncertain is resolved and what is asked is answered, nothing keeps a run from ending."""
    spec, steps, chosen = drawn
    walk = walked(spec, steps, chosen)
    walk.go_on()
    while open_ := [n for n, task in enumerate(walk.run.tasks) if task.state in {s.UNCERTAIN, s.WAITING}]:
        for number in open_:
            name = walk.run.shape.specs[number].name
            if walk.run.task(name).state == s.WAITING:
                answer = st.Rejected if number % 3 else st.Approved
                walk.tell(answer(task=name, by="me", answered_at=walk.now))
                assert walk.run.task(name).state != s.WAITING
                continue
            walk.tell(st.Resolved(task=name, verdict=VERDICTS[number % 3]))
            assert walk.run.task(name).state != s.UNCERTAIN
        walk.go_on()
    assert walk.run.state in s.RUN_ENDED
    assert walk.run.unended == 0
    Audit(walk)
