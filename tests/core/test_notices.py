"""Who is told of what: the same for whoever reads a run's journal, and once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

from flowd.core import events as e
from flowd.core.consequences import at_the_end, in_a_row, lateness, not_done
from flowd.core.declared import Expect, Notify, Owner
from flowd.core.happenings import EVENTS, Happening, Story
from flowd.core.lateness import History, Outcome, due_before, last_due, missed
from flowd.core.notices import Notice, filled_in, message_of, notices_of, shown, subject_of
from flowd.core.spec import Approve, Call, Definition, Param, PipelineSpec, Secret, TaskSpec
from walk import ERROR, NOON, Walk, random_pipeline, task

ADA, BOB, HOOK = "mailto://ada@example.org", "mailto://bob@example.org", "json://hooks.example.org/x"
SECOND = timedelta(seconds=1)


def spec(*tasks: TaskSpec, **keys: Any) -> PipelineSpec:
    """A pipeline of these tasks, of two owners."""
    owners = {"ada": Owner(notify=(ADA,)), "bob": Owner(notify=(BOB,))}
    return PipelineSpec(name="p", tasks=tasks, owners=owners, **keys)


def told(*rules: tuple[str, str]) -> tuple[Notify, ...]:
    """What is told to whom."""
    return tuple(Notify(on=(on,), to=(to,)) for on, to in rules)


class Telling:
    """A story that is told event by event, a second apart, with all that follows from it."""

    def __init__(self, of: PipelineSpec, run: str = "r1", history: History | None = None, at: datetime = NOON) -> None:
        self.story = Story(run, of)
        self.history = history or History()
        self.at = at
        self.seq = 0
        self.happenings: list[Happening] = []
        self.notices: dict[str, Notice] = {}
        self.take(e.RunStarted(pipeline="p", spec=""))

    def take(self, *events: e.AnyEvent, after: timedelta = SECOND) -> list[tuple[str, str, str]]:
        """What the last of these events makes people hear: happening, task and addressee."""
        new: list[Notice] = []
        for event in events:
            self.seq, self.at, new = self.seq + 1, self.at + after, []
            found = self.story.apply(e.Envelope(self.story.run, self.seq, self.at, event))
            if isinstance(event, e.RunFinished):
                more, outcome = at_the_end(self.story, self.history)
                if outcome is not None:
                    found = [in_a_row(one, len(self.history.failures(outcome))) for one in found]
                    self.history.add(outcome)
                found += more
            new = self.tell(found)
        return [(notice.happening, notice.task, notice.to) for notice in new]

    def tell(self, found: Sequence[Happening]) -> list[Notice]:
        """The notices that come of happenings and that there have not been."""
        self.happenings += found
        definition = Definition(spec=self.story.spec, folder="/p")
        new = []
        for happening in found:
            found = notices_of(definition, self.story.run, happening, self.notices.__contains__)
            new += [notice for notice in found if notice.id not in self.notices]
        self.notices |= {notice.id: notice for notice in new}
        return new


def failed(name: str, **more: Any) -> e.TaskFailed:
    """A task has failed."""
    return e.TaskFailed(task=name, attempt=1, error=ERROR, **more)


def finished(state: str) -> e.RunFinished:
    """The run has ended."""
    return e.RunFinished(state=state)


def test_a_failed_task_s_owner_is_told_by_default() -> None:
    """Nothing says so in the file; the owner of another task hears nothing, nor does the run's end tell it again."""
    telling = Telling(spec(task("a", owner="ada"), task("b", owner="bob")))
    assert telling.take(failed("a")) == [("failed", "a", ADA)]
    assert telling.take(finished("failed")) == []
    (notice,) = telling.notices.values()
    assert (notice.who, notice.sentence, notice.state) == ("ada", "ValueError: NaN in price", "failed")
    assert notice.next == ("flowd logs r1 a", "flowd retry r1")


def test_whoever_asks_for_failures_is_told_at_the_end_of_the_run_once() -> None:
    """With the tasks that failed; one who owns all of these knows it already."""
    rules = told(("failed", HOOK), ("failed", "ada"), ("failed", "bob"))
    telling = Telling(spec(task("a", owner="ada"), task("b", owner="ada"), notify=rules))
    assert telling.take(failed("a")) == [("failed", "a", ADA)]
    assert telling.take(failed("b")) == [("failed", "b", ADA)]
    assert telling.take(finished("failed")) == [("failed", "", HOOK), ("failed", "", BOB)]


def test_a_task_without_an_owner_fails_in_front_of_all_who_asked() -> None:
    """`to: owner` would be nobody, and the failure would be lost."""
    telling = Telling(spec(task("a"), notify=told(("failed", "owner"))))
    assert telling.take(failed("a")) == [("failed", "a", ADA), ("failed", "a", BOB)]


def test_what_may_fail_is_a_warning() -> None:
    """To the task's owner when it happens, to others at the end, all in one."""
    rules = told(("warning", "owner"), ("warning", HOOK))
    telling = Telling(spec(task("a", owner="ada"), task("b"), notify=rules))
    assert telling.take(failed("a", allowed=True)) == [("warning", "a", ADA)]
    assert telling.take(e.TaskSucceeded(task="b", attempt=1, warnings=("gate: r2 is low",))) == []
    assert telling.take(finished("succeeded")) == [("warning", "", HOOK)]
    assert list(telling.notices.values())[-1].sentence == "a: ValueError: NaN in price; b: gate: r2 is low"


def test_items_are_told_with_their_task() -> None:
    """A hundred thousand items that fail are one notice."""
    telling = Telling(spec(task("a", owner="ada")))
    assert telling.take(failed("a[1]"), failed("a[2]")) == []
    assert telling.take(failed("a")) == [("failed", "a", ADA)]


def test_a_partial_run_counts_as_failed_and_says_so() -> None:
    """Its exit code is 1, too."""
    telling = Telling(spec(task("a"), notify=told(("failed", HOOK), ("succeeded", HOOK))))
    assert telling.take(finished("partial")) == [("failed", "", HOOK)]
    (notice,) = telling.notices.values()
    assert subject_of(notice) == "[flowd] p is partial"
    assert "flowd retry r1 --failed-items" in notice.next


def test_a_cancelled_run_is_told_to_nobody() -> None:
    """Somebody wanted that; and it says nothing of the pipeline: what was broken before is so still."""
    every = tuple(Notify(on=(word,), to=(HOOK,)) for word in ("failed", "succeeded", "recovered", "late", "warning"))
    history = History([Outcome(run="r0", state="failed", began=NOON - 2 * SECOND, ended=NOON - SECOND)])
    assert Telling(spec(task("a"), notify=every), "r1", history).take(finished("cancelled")) == []
    again = Telling(spec(task("a"), notify=every), "r2", history, NOON + timedelta(hours=1))
    assert again.take(finished("succeeded")) == [("succeeded", "", HOOK), ("recovered", "", HOOK)]


def test_the_first_success_after_failures_is_a_recovery() -> None:
    """Told to those who asked, and by default to the owners who heard of the failures; the next success is none."""
    history, pipeline = History(), spec(task("a", owner="ada"), notify=told(("recovered", HOOK), ("failed", HOOK)))
    for number in range(2):
        one = Telling(pipeline, f"r{number}", history, NOON + number * timedelta(hours=1))
        one.take(failed("a"), finished("failed"))
    assert "(failure 2 in a row)" in list(one.notices.values())[-1].sentence
    good = Telling(pipeline, "r5", history, NOON + timedelta(hours=5))
    assert good.take(finished("succeeded")) == [("recovered", "", HOOK), ("recovered", "", ADA)]
    assert "after 2 runs that did not end well" in list(good.notices.values())[-1].sentence
    assert Telling(pipeline, "r6", history, NOON + timedelta(hours=6)).take(finished("succeeded")) == []


def test_a_run_that_is_asked_for_again_is_told_of_again() -> None:
    """It fails once more: that is news; then it succeeds: a recovery."""
    telling = Telling(spec(task("a", owner="ada"), notify=told(("recovered", "owner"))))
    assert telling.take(failed("a")) == [("failed", "a", ADA)]
    telling.take(finished("failed"), e.RunReopened(), e.TaskReset(task="a"))
    assert telling.take(failed("a")) == [("failed", "a", ADA)]
    telling.take(finished("failed"), e.RunReopened(), e.TaskReset(task="a"))
    assert telling.take(finished("succeeded")) == [("recovered", "", ADA)]


def test_a_question_goes_to_whom_it_is_meant_for() -> None:
    """With what is to be typed, fields of its form included; once it is answered nobody needs to hear it."""
    form = {"threshold": Param(type="float", required=True), "note": Param()}
    held = task("a", owner="ada", approve=Approve(message="go?", by=("bob",), form=form))
    telling = Telling(spec(held, notify=told(("waiting", HOOK))))
    until = NOON + timedelta(hours=3)
    asked = e.TaskApprovalRequested(task="a", message="deploy it?", expires_at=until)
    assert telling.take(asked) == [("waiting", "a", HOOK), ("waiting", "a", BOB)]
    notice = list(telling.notices.values())[-1]
    assert notice.next == ("flowd approve r1 a --set threshold=VALUE", "flowd reject r1 a --comment WHY")
    assert (notice.asked, notice.until, notice.sentence) == (2, until, "deploy it?")
    assert telling.story.still(telling.happenings[-1])
    again = telling.take(e.TaskApprovalRequested(task="a", message="deploy it?"))
    assert [one[2] for one in again] == [HOOK, BOB]  # what was shown has changed: another question
    assert not telling.story.still(telling.happenings[0])
    telling.take(e.TaskApproved(task="a", by="me", answered_at=NOON))
    assert not telling.story.still(telling.happenings[-1])


def test_an_uncertain_task_waits_for_its_owner() -> None:
    """By default, with the line that says what became of it; one that can be asked itself has a minute for that."""
    known = task("a", owner="ada", idempotent=False)
    asks = task("b", owner="ada", idempotent=False, reconcile=Call(module="steps", function="ask"))
    telling = Telling(spec(known, asks))
    why = e.Reason("owner_died", "the process that ran it died")
    assert telling.take(e.TaskUncertain(task="a", attempt=1, reason=why)) == [("waiting", "a", ADA)]
    assert "flowd resolve r1 a --as VERDICT" in next(iter(telling.notices.values())).next
    telling.take(e.TaskUncertain(task="b", attempt=1, reason=why))
    assert telling.happenings[-1].not_before == telling.at + timedelta(minutes=1)
    telling.take(e.TaskResolved(task="b", verdict="rerun", by="reconcile"))
    assert not telling.story.still(telling.happenings[-1])


def test_a_question_that_is_sent_back_is_no_failure() -> None:
    """It is done again from there on; one that is rejected has failed."""
    telling = Telling(spec(task("a", owner="ada", approve=Approve())))
    assert telling.take(e.TaskRejected(task="a", by="me", answered_at=NOON, back_to="x")) == []
    assert telling.take(e.TaskRejected(task="a", by="me", answered_at=NOON)) == [("failed", "a", ADA)]


def test_a_run_that_paused_itself_waits_for_a_person() -> None:
    """One that a person paused, or that flowd's own end did, does not."""
    rules = told(("waiting", HOOK))
    telling = Telling(spec(task("a"), notify=rules, stop_after_failures=2))
    assert telling.take(e.RunPaused(reason="", by="me")) == []
    assert telling.take(e.RunPaused(reason="failures")) == [("waiting", "", HOOK)]


# --- late, and slow ----------------------------------------------------------------------------------


def took(run: str, seconds: float, *, at: datetime = NOON, **more: Any) -> Outcome:
    """A success that took so long."""
    fields = {"state": "succeeded", "plain": True, "begun": ("a",)} | more
    return Outcome(run=run, began=at, ended=at + timedelta(seconds=seconds), **fields)


def test_a_run_is_late_once_and_then_done() -> None:
    """Not done within the time: one alert, however often the clock is looked at; a note to the same once it is."""
    rules = told(("late", HOOK))
    telling = Telling(spec(task("a"), notify=rules, expect=Expect(within=timedelta(minutes=5))))
    assert lateness(telling.story, History(), telling.at + timedelta(minutes=5)) is None
    late = lateness(telling.story, History(), telling.at + timedelta(minutes=6))
    assert late is not None
    assert [notice.to for notice in telling.tell([late])] == [HOOK]
    later = lateness(telling.story, History(), telling.at + timedelta(minutes=9))
    assert later is not None
    assert telling.tell([later]) == []
    assert telling.take(finished("succeeded"), after=timedelta(minutes=10)) == [("recovered", "", HOOK)]


def test_a_run_that_was_late_while_nobody_looked_is_told_at_its_end() -> None:
    """Once, and there is nothing to recover from."""
    telling = Telling(spec(task("a"), notify=told(("late", HOOK)), expect=Expect(within=timedelta(minutes=5))))
    assert telling.take(finished("succeeded"), after=timedelta(minutes=10)) == [("late", "", HOOK)]
    assert "it took 10m 0s" in next(iter(telling.notices.values())).sentence


def test_slow_is_twice_as_long_as_usual() -> None:
    """Of at least three successes in which as much was done; a run of tasks that are fresh otherwise is no example."""
    history = History([took(f"r{n}", 10) for n in range(2)])
    long = timedelta(seconds=60)
    pipeline = spec(task("a"), task("b"), notify=told(("late", HOOK)))
    began = e.TaskStarted(task="a", attempt=1)

    def run(name: str, *events: e.AnyEvent, at: datetime = NOON + timedelta(hours=1)) -> list[tuple[str, str, str]]:
        return Telling(pipeline, name, history, at).take(*events, finished("succeeded"), after=long)

    assert run("x", began) == []  # two are no custom
    history.add(took("r2", 12))
    history = History(history.outcomes[:3])
    assert run("y", began, e.TaskStarted(task="b", attempt=1), at=NOON + timedelta(hours=2)) == []
    history = History([took(f"r{n}", 10) for n in range(3)])
    assert run("z", began, at=NOON + timedelta(hours=3)) == [("late", "", HOOK)]
    assert run("zz", began, at=NOON + timedelta(hours=4)) == []  # the same incident
    usual = Telling(pipeline, "zzz", history, NOON + timedelta(hours=5))
    assert usual.take(began, finished("succeeded")) == [("recovered", "", HOOK)]


def test_what_waits_for_people_is_not_slow() -> None:
    """A day until somebody has answered says nothing of the work."""
    history = History([took(f"r{n}", 10) for n in range(3)])
    telling = Telling(spec(task("a", approve=Approve()), notify=told(("late", HOOK))), "x", history, NOON + 99 * SECOND)
    telling.take(e.TaskApprovalRequested(task="a", message="?"), e.TaskApproved(task="a", by="me", answered_at=NOON))
    assert telling.take(finished("succeeded"), after=timedelta(days=1)) == []


def test_a_pipeline_is_late_by_a_time_of_day() -> None:
    """Where something was due in the day before it and nothing of it has succeeded; not on other days."""
    expect = Expect(done_by="07:00", timezone="Europe/Berlin")
    due = datetime(2026, 11, 24, 6, tzinfo=UTC)  # 07:00 in Berlin
    five = due - timedelta(hours=2)
    now = due + timedelta(minutes=1)
    assert last_due(expect, due) == due
    assert due_before(expect, due) == due - timedelta(days=1)

    def look(*outcomes: Outcome, instants: Sequence[datetime] = (five,), going: Sequence[Any] = ()) -> str:
        found = missed(expect, now, instants=instants, open_runs=going, history=History(outcomes))
        return "" if found is None else found.sentence

    assert "no run of it has begun" in look()
    assert "run r9 still goes on" in look(going=[("r9", five)])
    assert "run r1 ended failed" in look(took("r1", 9, at=five, state="failed"))
    assert look(took("r1", 9, at=five)) == ""
    assert look(took("r1", 9, at=five, state="failed"), took("r2", 9, at=due + 5 * SECOND)) == ""
    assert look(instants=()) == ""  # a weekly pipeline, on another day
    assert "no run of it has begun" in look(took("r1", 9, at=due - timedelta(hours=25)))


def test_late_by_a_time_of_day_recovers() -> None:
    """The first success after it is told to those who heard that it was late, and to nobody else."""
    expect = Expect(done_by="11:00")
    pipeline = spec(task("a"), notify=told(("late", HOOK), ("recovered", BOB)), expect=expect)
    telling = Telling(pipeline, "r1", at=NOON - timedelta(hours=2))
    found = missed(expect, NOON, instants=(), open_runs=[("r1", NOON - timedelta(hours=2))], history=History())
    assert found is not None
    assert [one.to for one in telling.tell([not_done(pipeline, found)])] == [HOOK]
    assert telling.tell([not_done(pipeline, found)]) == []
    after = timedelta(hours=2)
    assert telling.take(finished("succeeded"), after=after) == [("recovered", "", HOOK)]


@pytest.mark.parametrize(
    ("day", "hour"),
    [
        (datetime(2026, 3, 29, 12, tzinfo=UTC), 1),  # 02:30 is left out: an hour later, 03:30 CEST
        (datetime(2026, 10, 25, 12, tzinfo=UTC), 0),  # 02:30 comes twice: the first, CEST
        (datetime(2026, 7, 1, 12, tzinfo=UTC), 0),
    ],
)
def test_a_time_of_day_knows_the_clock_s_changes(day: datetime, hour: int) -> None:
    """As cron and `wait` do."""
    assert last_due(Expect(done_by="02:30", timezone="Europe/Berlin"), day) == day.replace(hour=hour, minute=30)


# --- the same whoever reads --------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(hs.lists(hs.integers(0, 4095), min_size=1, max_size=5), hs.lists(hs.integers(0, 10_000), max_size=60))
def test_reading_twice_tells_nothing_new(masks: list[int], numbers: list[int]) -> None:
    """Whatever a run does: read at once, or up to anywhere and again from the start, it gives the same notices."""
    pipeline = random_pipeline(masks)
    walk = Walk(pipeline)
    walk.begin()
    for number in numbers:
        walk.step(number)
    every = Notify(on=("failed", "succeeded", "recovered", "waiting", "late", "warning"), to=(HOOK, "owner"))
    owners = {"ada": Owner(notify=(ADA,))}
    pipeline = PipelineSpec(name="p", tasks=pipeline.tasks, owners=owners, notify=(every,))
    definition = Definition(spec=pipeline, folder="/p")

    def read(length: int) -> list[str]:
        story, history, found = Story("r", pipeline), History(), []
        for envelope in walk.journal[:length]:
            if str(type(envelope.event).__struct_config__.tag) not in EVENTS:
                continue
            happenings = story.apply(envelope)
            if isinstance(envelope.event, e.RunFinished):
                more, outcome = at_the_end(story, history)
                happenings += more
                if outcome is not None:
                    history.add(outcome)
            found += [notice.id for happening in happenings for notice in notices_of(definition, "r", happening)]
        return found

    whole = read(len(walk.journal))
    for length in range(0, len(walk.journal), 7):
        part = read(length)
        assert whole[: len(part)] == part


# --- words and addressees ----------------------------------------------------------------------------


def notice(**fields: Any) -> Notice:
    """A notice."""
    known = {"id": "i", "to": HOOK, "who": "ada", "happening": "failed", "pipeline": "p", "run": "r1", "at": NOON}
    return Notice(**(known | {"sentence": "it failed"} | fields))


def test_a_message_says_what_to_type_next() -> None:
    """In plain text, and as data; nothing in it can move a terminal's cursor or add a header to a mail."""
    bad = notice(task="a\nBcc: x", tasks=("a\nBcc: x",), sentence="two\nlines\x1b[2J", next=("flowd retry r1",))
    message = message_of(bad, place="host, /state", link="http://f/runs/r1", links={"approve": "http://f/links/t"})
    assert message.subject == "[flowd] p: a\\x0aBcc: x failed"
    assert "two\nlines\\x1b[2J\n" in message.text
    assert "    flowd retry r1\n" in message.text
    assert "To approve: http://f/links/t" in message.text
    document = message.document
    assert (document["run"], document["happening"], document["next"], document["link"]) == (
        *("r1", "failed", ["flowd retry r1"], "http://f/runs/r1"),
    )
    assert document["text"].startswith(message.subject)


@pytest.mark.parametrize(
    ("to", "url"),
    [
        ("{{ secrets.S }}", "p@ss/w:rd?&"),
        ("mailto://me:{{ secrets.S }}@host/x@y", "mailto://me:p%40ss%2Fw%3Ard%3F%26@host/x@y"),
        ("json://host/x?signing_secret={{ secrets.S }}", "json://host/x?signing_secret=p%40ss%2Fw%3Ard%3F%26"),
        ("slack://{{ secrets.S }}", "slack://p@ss/w:rd?&"),
        ("json://host/plain", "json://host/plain"),
    ],
)
def test_secrets_are_filled_in_for_their_place(to: str, url: str) -> None:
    """A password keeps its strange letters; a path made of several parts stays one."""
    assert filled_in(to, {"S": "p@ss/w:rd?&"}) == url


@pytest.mark.parametrize(
    ("to", "seen"),
    [
        ("mailto://me:hush@host:25/x@y?from=z", "mailto://me@host:25"),
        ("jsons://u:hush@host:8443/hush?token=hush", "jsons://host:8443"),
        ("slack://hush/hush/hush", "slack://…"),
        ("{{ secrets.HOOK }}", "the secret HOOK"),
        ("json://host/{{ secrets.HOOK }}", "json://… (HOOK)"),
    ],
)
def test_an_addressee_is_shown_without_its_keys(to: str, seen: str) -> None:
    """A path may be one."""
    assert shown(to) == seen


def test_a_notice_knows_where_its_secrets_are_and_not_what_they_are() -> None:
    """So that it can be delivered after its run is gone."""
    secrets = {"HOOK": Secret(env="X"), "OTHER": Secret(env="Y")}
    telling = Telling(spec(task("a"), notify=told(("failed", "{{ secrets.HOOK }}")), secrets=secrets))
    telling.take(finished("failed"))
    (found,) = telling.notices.values()
    assert (found.secrets, found.folder, found.to) == ({"HOOK": Secret(env="X")}, "/p", "{{ secrets.HOOK }}")
