"""Who may start: never over a capacity, the most urgent first, nobody starved, nothing leaked."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as hs
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from flowd.core.limits import RESERVES_AFTER, Admission, Candidate

LIMITS = ("cpu", "gpu", "db")
USES = hs.dictionaries(hs.sampled_from(LIMITS), hs.sampled_from([1.0, 2.0, 3.0]))


class Model(RuleBasedStateMachine):
    """Admission beside a naive twin that keeps one sorted list of all that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.real: Admission[int] = Admission()
        self.capacity: dict[str, float] = {}
        self.waiting: list[tuple[tuple[float, float, int], dict[str, float]]] = []
        self.holding: dict[int, dict[str, float]] = {}
        self.taken: dict[int, Candidate[int]] = {}
        self.arrivals = 0

    def held(self, limit: str) -> float:
        return sum(uses.get(limit, 0.0) for uses in self.holding.values())

    @rule(priority=hs.integers(0, 2), rank=hs.integers(0, 3), uses=USES)
    def offer(self, priority: int, rank: int, uses: dict[str, float]) -> None:
        self.arrivals += 1
        self.real.offer(self.arrivals, priority=priority, rank=rank, uses=uses)
        self.waiting.append(((-priority, -rank, self.arrivals), uses))
        self.waiting.sort(key=lambda item: item[0])

    @rule(limit=hs.sampled_from(LIMITS), capacity=hs.sampled_from([None, 1.0, 2.0, 3.0, 4.0]))
    def resize(self, limit: str, capacity: float | None) -> None:
        self.real.resize(limit, capacity)
        if capacity is None:
            self.capacity.pop(limit, None)
        else:
            self.capacity[limit] = capacity

    @rule(which=hs.integers(0, 20))
    def end(self, which: int) -> None:
        if self.holding:
            key = sorted(self.holding)[which % len(self.holding)]
            self.release(key)

    def release(self, key: int) -> None:
        del self.holding[key]
        self.real.release(self.taken.pop(key))

    @rule()
    def take_all(self) -> None:
        """Whatever may start does, most urgent first; a waiter of a limit is not passed by a later one."""
        while (taken := self.real.take()) is not None:
            urgency, uses = next(item for item in self.waiting if item[0][2] == taken.key)
            self.waiting.remove((urgency, uses))
            for limit, weight in uses.items():
                bound = self.capacity.get(limit)
                assert bound is None or self.held(limit) + min(weight, bound) <= bound, f"over {limit}"
                before = [key for key, _ in self.real.waiters(limit)] if bound is not None else []
                ahead = [item for item in self.waiting if item[0][2] in before and item[0] < urgency]
                assert not ahead, f"{taken.key} passed {ahead} on {limit}"
            self.taken[taken.key] = taken
            self.holding[taken.key] = {
                limit: min(weight, self.capacity.get(limit, weight)) for limit, weight in uses.items()
            }
        for urgency, uses in self.waiting:
            self.check_blocked(urgency, uses)

    def check_blocked(self, urgency: tuple[float, float, int], uses: dict[str, float]) -> None:
        """What waits has a reason to: a limit is full for it, or someone more urgent waits there."""
        for limit, weight in uses.items():
            bound = self.capacity.get(limit)
            if bound is None:
                continue
            queue = self.real.waiters(limit)
            if self.held(limit) + min(weight, bound) > bound or (queue and queue[0][0] != urgency[2]):
                return
        pytest.fail(f"{urgency} waits for nothing")

    @invariant()
    def what_is_held_is_the_sum_over_holders(self) -> None:
        for limit in LIMITS:
            assert self.real.in_use(limit) == self.held(limit)
            held = {key: uses[limit] for key, uses in self.holding.items() if limit in uses}
            assert dict(self.real.holders(limit)) == held

    def teardown(self) -> None:
        """Once all have ended, all have started, and nothing is held."""
        for _ in range(len(self.waiting) + 1):
            self.take_all()
            for key in list(self.holding):
                self.release(key)
        assert not self.waiting
        assert self.real.take() is None
        assert [self.real.in_use(limit) for limit in LIMITS] == [0, 0, 0]
        assert [self.real.waiters(limit) for limit in LIMITS] == [[], [], []]


Model.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestAdmission = Model.TestCase


def offered(admission: Admission[str], **uses: float) -> None:
    """Candidates in order of urgency, each by its name and its weight on `cpu`."""
    for number, (name, weight) in enumerate(uses.items()):
        admission.offer(name, priority=0, rank=-number, uses={"cpu": weight})


def started(admission: Admission[str]) -> dict[str, Candidate[str]]:
    """All that may start now, by name, in order."""
    candidates = {}
    while (candidate := admission.take()) is not None:
        candidates[candidate.key] = candidate
    return candidates


def taken(admission: Admission[str]) -> list[str]:
    """The names of all that may start now, in order."""
    return list(started(admission))


def test_priority_then_rank_then_arrival() -> None:
    """The order of starts, and ties as they came."""
    admission: Admission[str] = Admission()
    for name, priority, rank in (("late", 0, 1), ("long", 0, 9), ("first", 5, 0), ("later", 0, 1)):
        admission.offer(name, priority=priority, rank=rank, uses={})
    assert taken(admission) == ["first", "long", "late", "later"]


def test_a_heavy_waiter_is_not_starved_by_lighter_ones() -> None:
    """Light candidates that come later wait behind it, even where they would fit."""
    admission: Admission[str] = Admission()
    admission.resize("cpu", 2)
    offered(admission, light=1, heavy=2)
    light = started(admission)["light"]
    admission.offer("later", priority=0, rank=-9, uses={"cpu": 1})
    assert taken(admission) == []
    assert admission.waiters("cpu") == [("heavy", 2), ("later", 1)]
    admission.offer("urgent", priority=1, rank=0, uses={"cpu": 1})
    urgent = started(admission)["urgent"]
    admission.release(light)
    admission.release(urgent)
    heavy = started(admission)["heavy"]
    assert taken(admission) == []
    admission.release(heavy)
    assert taken(admission) == ["later"]


def test_a_full_limit_holds_back_nobody_else() -> None:
    """Who does not use the limit that another waits for goes on."""
    admission: Admission[str] = Admission()
    admission.resize("gpu", 1)
    admission.resize("cpu", 2)
    admission.offer("one", priority=9, rank=0, uses={"gpu": 1})
    admission.offer("two", priority=8, rank=0, uses={"gpu": 1, "cpu": 1})
    offered(admission, other=1, another=1)
    assert taken(admission) == ["one", "other", "another"]


def test_a_weight_over_the_capacity_takes_all_of_it() -> None:
    """A limit that was made smaller than a task's weight lets it run alone, not never."""
    admission: Admission[str] = Admission()
    admission.resize("cpu", 4)
    offered(admission, light=1, heavy=3)
    admission.resize("cpu", 2)
    light = started(admission)["light"]
    assert taken(admission) == []
    admission.release(light)
    assert taken(admission) == ["heavy"]
    assert admission.in_use("cpu") == 2


def test_a_closed_limit_lets_nobody_start() -> None:
    """A capacity of zero is a way to hold everything back until it is raised."""
    admission: Admission[str] = Admission()
    admission.resize("cpu", 0)
    offered(admission, heavy=3, light=1)
    assert taken(admission) == []
    admission.resize("cpu", None)
    assert taken(admission) == ["heavy", "light"]


def test_ten_tenths_fit() -> None:
    """Fractions of a limit add up, however floats see it."""
    admission: Admission[str] = Admission()
    admission.resize("cpu", 0.3)
    offered(admission, a=0.1, b=0.1, c=0.1, d=0.1)
    assert taken(admission) == ["a", "b", "c"]


def test_a_forgotten_limit_holds_nothing() -> None:
    """What no run names any more leaves nothing behind."""
    admission: Admission[str] = Admission()
    admission.resize("cpu", 1)
    offered(admission, a=1, b=1)
    assert taken(admission) == ["a"]
    admission.drop("cpu")
    assert admission.limits() == []
    assert (admission.holders("cpu"), admission.waiters("cpu"), taken(admission)) == ([], [], [])


def test_a_name_that_is_taken_twice_holds_twice() -> None:
    """An attempt that was abandoned, still alive, and its successor: the one's end frees only its own."""
    admission: Admission[str] = Admission()
    admission.resize("cpu", 2)
    offered(admission, again=1)
    first = started(admission)["again"]
    offered(admission, again=1)
    second = started(admission)["again"]
    assert admission.holders("cpu") == [("again", 1), ("again", 1)]
    admission.release(first)
    assert admission.in_use("cpu") == 1
    admission.release(second)
    assert admission.in_use("cpu") == 0


def test_a_wait_of_a_minute_is_worth_one_of_priority() -> None:
    """Whoever becomes ready later goes first only by more priority than minutes: nobody waits for ever."""
    admission: Admission[str] = Admission()
    admission.offer("old", priority=0, rank=0, uses={}, since=0)
    for minute in range(1, 8):
        admission.offer(f"urgent{minute}", priority=5, rank=9, uses={}, since=60.0 * minute)
    # the fifth has waited for five minutes less, and has a longer path
    assert taken(admission) == [*(f"urgent{minute}" for minute in range(1, 6)), "old", "urgent6", "urgent7"]


def test_what_others_hold_counts() -> None:
    """Use elsewhere takes away from the capacity, a tighter one elsewhere binds, and what is closed lets nobody in."""
    admission: Admission[str] = Admission()
    admission.resize("cpu", 3)
    offered(admission, a=1, b=1, c=1)
    admission.elsewhere("cpu", 2.0)
    first = started(admission)
    assert list(first) == ["a"]
    admission.elsewhere("cpu", 0.0, 1.0)
    assert taken(admission) == []
    admission.elsewhere("cpu", math.inf)
    admission.release(first["a"])
    assert taken(admission) == []
    admission.elsewhere("cpu")
    assert taken(admission) == ["b", "c"]


def test_a_waiter_for_several_keeps_them_after_long() -> None:
    """Each of two limits is free in turn and never both; after minutes nobody less urgent takes either."""
    admission: Admission[str] = Admission()
    admission.resize("a", 1)
    admission.resize("b", 1)
    admission.offer("a0", priority=0, rank=9, uses={"a": 1}, since=0)
    held = admission.take(0)
    assert held is not None
    admission.offer("both", priority=0, rank=5, uses={"a": 1, "b": 1}, since=0)
    admission.offer("b0", priority=0, rank=1, uses={"b": 1}, since=0)
    taken_b = admission.take(RESERVES_AFTER - 1)
    assert taken_b is not None
    assert taken_b.key == "b0"
    admission.release(taken_b)
    admission.offer("b1", priority=0, rank=1, uses={"b": 1}, since=0)
    assert admission.take(RESERVES_AFTER) is None
    admission.offer("urgent", priority=1, rank=0, uses={"b": 1}, since=0)
    urgent = admission.take(RESERVES_AFTER)
    assert urgent is not None
    assert urgent.key == "urgent"
    admission.release(urgent)
    admission.release(held)
    both = admission.take(RESERVES_AFTER)
    assert both is not None
    assert both.key == "both"
    admission.release(both)
    assert taken(admission) == ["b1"]
