"""What follows from answers where a crash cuts the record of one off: nothing is lost, nothing is done half."""

from __future__ import annotations

import pytest

from flowd.core import states as s
from flowd.core import stimuli as st
from flowd.core.spec import Approve, Ask
from walk import Walk, heirs, pipeline, task


def asked(*tasks) -> Walk:
    """A run of these tasks, as far as it goes by itself."""
    walk = Walk(pipeline(*tasks))
    walk.begin()
    walk.go_on()
    return walk


def test_an_answer_that_is_all_of_the_task_survives_a_cut_between_yes_and_success():
    """After any record the next owner brings it to the same end, and below it nothing starts before."""
    walk = asked(task("sign", action=Ask(), approve=Approve()), task("ship", "sign"))
    before = len(walk.journal)
    walk.tell(st.Approved(task="sign", by="ann", answered_at=walk.now))
    names = [type(envelope.event).__name__ for envelope in walk.journal[before:]]
    assert names == ["TaskApproved", "TaskSucceeded"]
    for length, heir in heirs(walk):
        heir.go_on()
        known = heir.run.task("sign")
        assert known.state == (s.SUCCEEDED if length > before else s.WAITING), f"after {length} records"
        assert (known.attempt, known.attempts) == (0, None)
        assert heir.run.task("ship").state == (s.SUCCEEDED if length > before else s.PENDING)


def test_sent_back_whole_or_not_at_all():
    """A cut between the rejection and the resets that follow from it: the next owner does the rest."""
    walk = asked(
        task("draft"), task("check", "draft"), task("publish", "check", approve=Approve()), task("end", "publish")
    )
    before = len(walk.journal)
    walk.tell(st.Rejected(task="publish", by="ann", answered_at=walk.now, comment="long", back_to="draft"))
    resets = [envelope.event.task for envelope in walk.journal[before + 1 :]]
    assert resets == ["draft", "check", "publish"]
    for length, heir in heirs(walk):
        attempts = heir.run.task("draft").attempt if length > 1 else 0
        heir.go_on()
        draft = heir.run.task("draft")
        assert (heir.run.task("publish").state, heir.run.task("end").state) == (s.WAITING, s.PENDING), (
            f"after {length} records"
        )
        if length > before:
            assert (attempts, draft.attempt, heir.run.task("check").attempt) == (1, 2, 2)
            assert draft.sent_back is not None
            assert (draft.sent_back.comment, draft.sent_back.task) == ("long", "publish")


@pytest.mark.parametrize("late", [st.Approved, st.Rejected])
def test_the_first_answer_counts(late):
    """Any other comes too late and changes nothing."""
    walk = asked(task("work", approve=Approve()))
    walk.tell(st.Approved(task="work", by="ann", answered_at=walk.now))
    before = len(walk.journal)
    walk.tell(late(task="work", by="bob", answered_at=walk.now))
    assert len(walk.journal) == before
