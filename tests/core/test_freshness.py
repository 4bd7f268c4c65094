"""Why a task runs or does not: every reason, and which one is said first."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flowd.core.events import Artifact, Stored
from flowd.core.freshness import Evidence, Known, judge, product
from flowd.core.spec import Input, Output
from walk import NOON, task

PARTS = {"action": "1", "code:a.py": "2", "with": "3", "env": "4", "input:x": "5", "need:up": "6", "param:n": "7"}
KNOWN = Known(run="r0", at=NOON, parts=PARTS)
SAME = Evidence(parts=PARTS)
CACHED = task("t", cache=True, outputs=(Output(path="out"),))


def code(spec=CACHED, known: Known | None = KNOWN, evidence: Evidence = SAME, **asked) -> str:
    """The code of the reason, checked against the verdict."""
    verdict = judge(spec, known, evidence, now=asked.pop("now", NOON), **asked)
    assert verdict.fresh is (verdict.reason.code == "fresh")
    assert verdict.reason.sentence
    return verdict.reason.code


def test_nothing_changed() -> None:
    """A task is fresh where its checkpoint has today's parts and its outputs are intact."""
    verdict = judge(CACHED, KNOWN, SAME, now=NOON)
    assert (verdict.fresh, verdict.reason.sentence) == (True, "nothing changed since r0")


def test_the_reasons_in_the_order_in_which_a_person_would_look() -> None:
    """With everything wrong at once the first is said; each one mended shows the next."""
    spec = task("t", cache=True, fresh_for=timedelta(hours=1))
    wrong = Evidence(parts={}, missing=("a",), altered=("b",), unknown="no such module")
    later = NOON + timedelta(hours=2)
    assert code(task("t"), None, wrong, forced=True, now=later, by_clock=True) == "forced"
    assert code(task("t"), None, wrong, now=later, by_clock=True) == "not_cached"
    assert code(spec, None, wrong, now=later) == "no_checkpoint"
    assert code(spec, KNOWN, wrong, now=later) == "output_missing"
    assert code(spec, KNOWN, Evidence(parts={}, altered=("b",), unknown="x"), now=later) == "output_changed"
    assert code(spec, KNOWN, Evidence(parts={}, unknown="x"), now=later) == "expired"
    assert code(task("t", cache=True), KNOWN, Evidence(parts={}, unknown="x"), by_clock=True) == "source"
    assert code(spec, KNOWN, Evidence(parts={}, unknown="x")) == "unknown"
    assert code(spec, KNOWN, Evidence(parts={})) == "action_changed"
    assert code(spec, KNOWN, SAME) == "fresh"


@pytest.mark.parametrize(
    ("part", "reason", "sentence"),
    [
        ("action", "action_changed", "its `action` changed"),
        ("code:a.py", "code_changed", "a.py changed"),
        ("with", "with_changed", "its `with` changed"),
        ("env", "env_changed", "its `env` changed"),
        ("input:x", "input_changed", "x changed"),
        ("need:up", "upstream_changed", "what up gives changed"),
        ("param:n", "params_changed", "the parameter n changed"),
        ("other", "changed", "its `other` changed"),
    ],
)
def test_each_part_has_its_reason(part: str, reason: str, sentence: str) -> None:
    """A part that changed, that is new, or that is gone is named in words."""
    then, now = PARTS | {part: "then"}, PARTS | {part: "now"}
    verdict = judge(CACHED, Known(run="r0", at=NOON, parts=then), Evidence(parts=now), now=NOON)
    assert (verdict.reason.code, verdict.reason.sentence) == (reason, sentence)
    without = {name: digest for name, digest in PARTS.items() if name != part}
    new = judge(CACHED, Known(run="r0", at=NOON, parts=without), Evidence(parts=now), now=NOON)
    assert (new.reason.code, new.reason.sentence) == (reason, sentence.replace("changed", "is new"))
    gone = judge(CACHED, Known(run="r0", at=NOON, parts=then), Evidence(parts=without), now=NOON)
    assert (gone.reason.code, gone.reason.sentence) == (reason, sentence.replace("changed", "is gone"))


def test_a_source_looks_again_only_by_the_clock() -> None:
    """In a run by schedule a task without inputs and needs is fresh only within its `fresh_for`."""
    dated = task("t", cache=True, fresh_for=timedelta(days=1))
    assert code(CACHED) == "fresh"
    assert code(CACHED, by_clock=True) == "source"
    assert code(dated, by_clock=True) == "fresh"
    assert code(dated, by_clock=True, now=NOON + timedelta(days=1)) == "fresh"
    assert code(dated, by_clock=True, now=NOON + timedelta(days=1, seconds=1)) == "expired"
    assert code(dated, now=NOON + timedelta(days=2)) == "expired"
    assert code(task("t", "up", cache=True), by_clock=True) == "fresh"
    assert code(task("t", cache=True, inputs=(Input(path="x"),)), by_clock=True) == "fresh"


def test_a_touched_task_is_fresh_whatever_its_parts_say() -> None:
    """`flowd touch` vouches for the parts, not for outputs that are gone."""
    touched = Known(run="touch", at=NOON, parts={}, touched=True)
    assert code(known=touched, evidence=Evidence(parts=PARTS, unknown="x")) == "fresh"
    assert code(known=touched, evidence=Evidence(parts=PARTS, missing=("a",))) == "output_missing"


@pytest.mark.parametrize(
    ("within", "words"),
    [({"days": 2}, "2d"), ({"hours": 36}, "36h"), ({"minutes": 90}, "90m"), ({"seconds": 90}, "90s")],
)
def test_an_age_in_words(within: dict[str, int], words: str) -> None:
    """The bound is said as a person would have written it."""
    spec = task("t", cache=True, fresh_for=timedelta(**within))
    assert judge(spec, KNOWN, SAME, now=NOON + timedelta(days=9)).reason.sentence == f"it is older than {words}"


def test_the_product_of_a_task() -> None:
    """Result and outputs, but none that is no checkpoint; a task with neither only orders."""
    kept, left = Artifact(path="a", size=1, digest="x"), Artifact(path="b", size=1, digest="y", checkpoint=False)
    assert product(None, ()) == ""
    assert product(Stored(digest="r", size=1), (kept, left)) == "r\na=x"
