"""Trigger rules and allowed failures: every pair of ends against every rule, and random graphs, by a second opinion."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

from flowd.core import events as e
from flowd.core import states as s
from flowd.core import stimuli as st
from flowd.core.reasons import because
from flowd.core.rules import RULES
from flowd.core.run import fold
from flowd.core.spec import PipelineSpec
from walk import ERROR, Walk, facts, pipeline, task

ENDS = ("ok", "fresh", "partial", "failed", "allowed", "timed_out", "abandoned", "upstream_failed", "skipped")
"""A need that is cancelled is none of them: what needs it is cancelled in the same moment."""
FINE = {"ok", "fresh", "partial", "allowed"}
BAD = {"failed", "timed_out", "abandoned", "upstream_failed"}


def expected(rule: str, ends: list[str | None]) -> str:
    """What a task does whose needs stand so (None: not ended), said from the promises and not from the code."""
    done = [end for end in ends if end is not None]
    over = len(done) == len(ends)
    fine, bad = sum(end in FINE for end in done), sum(end in BAD for end in done)
    if not ends:
        return "goes"
    if rule == "all_done":
        return "goes" if over else "waits"
    if rule in {"any_succeeded", "any_failed"}:
        if fine if rule == "any_succeeded" else bad:
            return "goes"
        if not over:
            return "waits"
        return "upstream_failed" if bad else "skipped"
    if bad:
        return "upstream_failed"
    if rule == "none_failed":
        return "waits" if not over else "goes" if fine else "skipped"
    if "skipped" in done:
        return "skipped"
    return "goes" if over else "waits"


def bring(walk: Walk, name: str, end: str) -> None:
    """Let a need end in this way."""
    number = walk.run.shape.index[name]
    if end == "fresh":
        walk.tell(st.FoundFresh(task=name, source="earlier"))
    elif end == "skipped":
        walk.tell(st.WhenFalse(name, because("when_false", expression="False", values="")))
    elif end == "upstream_failed":
        above = walk.run.shape.index[f"above_{name}"]
        walk.start(above)
        walk.end(above, st.Failed(error=ERROR))
    else:
        walk.start(number)
        partly = st.Succeeded(partial=because("child_partial", child="r+a", tasks="x"))
        ends = {
            "ok": st.Succeeded(),
            "partial": partly,
            "timed_out": st.TimedOut(error=ERROR),
            "abandoned": st.LeftRunning(message="x"),
        }
        walk.end(number, ends.get(end, st.Failed(error=ERROR)), allowed=end == "allowed")


def verdict(walk: Walk, name: str) -> str:
    """What has become of a task."""
    number = walk.run.shape.index[name]
    state = walk.run.tasks[number].state
    if state == s.PENDING:
        return "goes" if number in walk.startable() else "waits"
    return state


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("first", "second"), list(product(ENDS, ENDS)))
def test_every_pair_of_ends_meets_every_rule(rule: str, first: str, second: str) -> None:
    """After each of two needs has ended, the task waits, goes or ends as the rule promises, and so it replays."""
    tops = [task(f"above_{name}") for name, end in (("a", first), ("b", second)) if end == "upstream_failed"]
    above = {top.name for top in tops}
    needs = [task(name, *(above & {f"above_{name}"})) for name in ("a", "b")]
    walk = Walk(pipeline(*tops, *needs, task("below", "a", "b", trigger_rule=rule)))
    walk.begin()
    assert verdict(walk, "below") == "waits"
    bring(walk, "a", first)
    half = expected(rule, [first, None])
    assert verdict(walk, "below") == half
    bring(walk, "b", second)
    last = expected(rule, [first, second]) if half in {"waits", "goes"} else half
    assert verdict(walk, "below") == ("goes" if half == "goes" else last)
    assert facts(fold("r", walk.spec, walk.journal)) == facts(walk.run)
    if verdict(walk, "below") == "goes":
        walk.start(walk.run.shape.index["below"])
        walk.end(walk.run.shape.index["below"], st.Succeeded())
    broken = {first, second} & (BAD - {"upstream_failed"}) or "upstream_failed" in {first, second}
    well = s.RUN_PARTIAL if "partial" in {first, second} else s.RUN_SUCCEEDED
    assert walk.run.state == (s.RUN_FAILED if broken else well)


def test_an_allowed_failure_is_retried_only_by_name() -> None:
    """It is ok: `retry` without names leaves it, and what needs it stays; named, it runs again."""
    walk = Walk(pipeline(task("a"), task("b", "a"), task("c")))
    walk.begin()
    bring(walk, "a", "allowed")
    bring(walk, "b", "ok")
    bring(walk, "c", "failed")
    assert walk.run.state == s.RUN_FAILED
    walk.tell(st.RetryAsked())
    assert [task.state for task in walk.run.tasks] == [s.FAILED, s.SUCCEEDED, s.PENDING]
    bring(walk, "c", "ok")
    assert walk.run.state == s.RUN_SUCCEEDED
    walk.tell(st.RetryAsked(tasks=("a",)))
    assert [task.state for task in walk.run.tasks] == [s.PENDING, s.SUCCEEDED, s.SUCCEEDED]
    assert not walk.run.task("a").allowed
    bring(walk, "a", "allowed")
    walk.tell(st.RetryAsked(tasks=("a",), downstream=True))
    assert (verdict(walk, "a"), verdict(walk, "b")) == ("goes", "waits")
    bring(walk, "a", "allowed")
    assert verdict(walk, "b") == "goes"


def test_a_retry_judges_handlers_anew() -> None:
    """What a failure kept from running follows what is run again; a skip by `when` above which nothing is stays."""
    walk = Walk(
        pipeline(
            task("a"), task("cope", "a", trigger_rule="any_failed"), task("after", "a"), task("no"), task("d", "no")
        )
    )
    walk.begin()
    bring(walk, "no", "skipped")
    bring(walk, "a", "failed")
    bring(walk, "cope", "ok")
    assert [walk.run.task(name).state for name in ("after", "d")] == [s.UPSTREAM_FAILED, s.SKIPPED]
    walk.tell(st.RetryAsked())
    assert [task.state for task in walk.run.tasks] == [s.PENDING, s.SUCCEEDED, s.PENDING, s.SKIPPED, s.SKIPPED]
    bring(walk, "a", "ok")
    bring(walk, "after", "ok")
    assert walk.run.state == s.RUN_SUCCEEDED


def test_a_handler_is_retried_alone() -> None:
    """What its rule lets start as its needs stand is run again without them."""
    walk = Walk(pipeline(task("a"), task("cope", "a", trigger_rule="any_failed")))
    walk.begin()
    bring(walk, "a", "failed")
    bring(walk, "cope", "failed")
    walk.tell(st.RetryAsked(tasks=("cope",)))
    assert [task.state for task in walk.run.tasks] == [s.FAILED, s.PENDING]
    assert verdict(walk, "cope") == "goes"


def test_fail_fast_heeds_what_is_allowed() -> None:
    """An allowed failure ends no run, and does not count for stop_after_failures."""
    for more in ({"fail_fast": True}, {"stop_after_failures": 1}):
        walk = Walk(PipelineSpec(name="p", tasks=(task("a"), task("b")), **more))
        walk.begin()
        bring(walk, "a", "allowed")
        assert walk.run.state == s.RUN_RUNNING
        bring(walk, "b", "failed")
        assert walk.run.state != s.RUN_RUNNING


def _graph(seed: int, size: int) -> tuple[PipelineSpec, Random]:
    chance = Random(seed)
    tasks = []
    for number in range(size):
        needs = chance.sample([f"t{n}" for n in range(number)], min(number, chance.choice((0, 1, 2, 3))))
        rule = chance.choice(RULES) if needs else "all_succeeded"
        tasks.append(task(f"t{number}", *needs, trigger_rule=rule))
    return pipeline(*tasks), chance


@settings(max_examples=500, deadline=None)
@given(hs.integers(0, 2**32 - 1), hs.integers(1, 9))
def test_random_graphs_end_as_their_rules_say(seed: int, size: int) -> None:
    """What starts may start, what ended without an attempt had to, what waits has to; the fold agrees at each step."""
    spec, chance = _graph(seed, size)
    walk = Walk(spec)
    walk.begin()
    ended: dict[str, str] = {}
    told = 0
    while walk.run.state == s.RUN_RUNNING:
        ready = [walk.run.shape.specs[n].name for n in walk.startable()]
        waiting = [one for one in spec.tasks if walk.run.task(one.name).state == s.PENDING]
        for one in waiting:
            says = expected(one.trigger_rule, [ended.get(need) for need in one.needs])
            assert says == ("goes" if one.name in ready else "waits")
        name = chance.choice(ready)
        bring(walk, name, end := chance.choice(("ok", "fresh", "failed", "allowed", "timed_out", "skipped")))
        ended[name] = end
        for envelope in walk.journal[told:]:
            event = envelope.event
            if isinstance(event, e.TaskUpstreamFailed | e.TaskSkipped) and event.task != name:
                one = next(one for one in spec.tasks if one.name == event.task)
                ended[event.task] = "upstream_failed" if isinstance(event, e.TaskUpstreamFailed) else "skipped"
                assert expected(one.trigger_rule, [ended.get(need) for need in one.needs]) == ended[event.task]
        told = len(walk.journal)
        assert facts(fold("r", spec, walk.journal)) == facts(walk.run)
    assert len(ended) == size
    assert (walk.run.state == s.RUN_FAILED) == bool({*ended.values()} & BAD)
