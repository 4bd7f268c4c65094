"""What becomes of due times: on time, missed, skipped, waiting; and what each firing is called."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowd.core.declared import Schedule
from flowd.core.firing import Due, Overlap, due, firing_id, overlap, source_key

NOON = datetime(2026, 5, 10, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def daily(misfire: object = "latest") -> Schedule:
    return Schedule(name="s", cron="0 12 * * *", misfire=misfire)  # type: ignore[arg-type]


def days(found: Due) -> list[int]:
    return [one.at.day for one in found.fire]


def test_nothing_is_due_before_its_time_and_once_at_it() -> None:
    """Asked again, there is nothing more."""
    assert due(daily(), NOON - DAY, NOON - timedelta(seconds=1)) == Due()
    found = due(daily(), NOON - DAY, NOON)
    assert (days(found), found.missed, found.late) == ([10], None, False)
    assert due(daily(), found.fire[-1].at, NOON) == Due()


@pytest.mark.parametrize(
    ("misfire", "late", "fired", "missed"),
    [
        ("skip", timedelta(0), [10], 4),
        ("skip", timedelta(hours=1), [], 5),
        ("latest", timedelta(0), [10], 4),
        ("latest", timedelta(hours=1), [10], 4),
        ({"all": 2}, timedelta(0), [8, 9, 10], 2),
        ({"all": 2}, timedelta(hours=1), [9, 10], 3),
        ({"all": 99}, timedelta(hours=1), [6, 7, 8, 9, 10], 0),
    ],
)
def test_times_that_were_missed(misfire: object, late: timedelta, fired: list[int], missed: int) -> None:
    """Five days of downtime, ended on time for the last of them or an hour late."""
    found = due(daily(misfire), NOON - 5 * DAY, NOON + late)
    assert days(found) == fired
    assert (found.missed.number if found.missed else 0) == missed
    if found.missed is not None:
        assert found.missed.first == NOON - 4 * DAY
        assert found.missed.last == NOON - len(fired) * DAY


@given(
    misfire=st.one_of(st.sampled_from(["skip", "latest"]), st.builds(lambda n: {"all": n}, st.integers(1, 4))),
    seconds=st.integers(1, 100_000),
    away=st.integers(0, 500_000),
    pause=st.integers(0, 5_000),
)
def test_every_time_is_begun_or_missed_and_never_twice(misfire: object, seconds: int, away: int, pause: int) -> None:
    """Whatever the rule: the fired and the missed are all there were, and a second look finds none of them."""
    every = Schedule(name="s", every=timedelta(seconds=seconds), misfire=misfire)  # type: ignore[arg-type]
    start = NOON + timedelta(seconds=pause)
    now = start + timedelta(seconds=away)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    total = (now - epoch) // every.every - (start - epoch) // every.every  # type: ignore[operator]
    found = due(every, start, now)
    assert len(found.fire) + (found.missed.number if found.missed else 0) == total
    if total:
        handled = max([one.at for one in found.fire] + ([found.missed.last] if found.missed else []))
        assert due(every, handled, now) == Due()
        if found.missed is not None:
            assert all(one.at > found.missed.last for one in found.fire)


def test_years_of_seconds_are_decided_about_at_once() -> None:
    """A schedule of every second that was away for ten years."""
    found = due(Schedule(name="s", every=timedelta(seconds=1)), NOON - 3650 * DAY, NOON)
    assert [one.at for one in found.fire] == [NOON]
    assert found.missed is not None
    assert found.missed.number == 3650 * 86_400 - 1


@pytest.mark.parametrize(
    ("rule", "going_on", "waiting", "expected"),
    [
        ("skip", False, 0, Overlap.START),
        ("skip", True, 0, Overlap.SKIP),
        ("allow", True, 0, Overlap.START),
        ("cancel_old", True, 1, Overlap.CANCEL),
        ({"queue": 2}, True, 1, Overlap.QUEUE),
        ({"queue": 2}, True, 2, Overlap.SKIP),
        ({"queue": 2}, False, 1, Overlap.QUEUE),
    ],
)
def test_a_time_at_which_a_run_goes_on(rule: object, going_on: bool, waiting: int, expected: Overlap) -> None:
    """The rule decides; whoever waits already goes first."""
    assert overlap(rule, going_on=going_on, waiting=waiting) == expected  # type: ignore[arg-type]


def test_a_firing_has_one_name_and_no_other_has_it() -> None:
    """By source, instant and happening; names sort by time, and are short and plain."""
    names = {
        firing_id(source, NOON + timedelta(microseconds=micro), what)
        for source in ("a", "b", "a.b", "ü" * 200)
        for micro in (0, 1, 500)
        for what in ("", "file")
    }
    assert len(names) == 24
    assert firing_id("a", NOON) == firing_id("a", NOON)
    assert firing_id("z", NOON) < firing_id("a", NOON + timedelta(seconds=1))
    assert all(len(name) <= 128 and name.isascii() for name in names)
    assert source_key("p", "p") == "p"
    assert source_key("p", "daily") == "p.daily"


@pytest.mark.parametrize("year", [1970, 2038, 2126, 9989, 9999])
@pytest.mark.parametrize("cron", ["* * * * *", "0 0 29 2 *", "0 0 * 2 mon#5"])
def test_a_clock_of_any_year_is_answered_at_once(year: int, cron: str) -> None:
    """A clock that went to the end of the calendar holds nothing up, and overflows nothing."""
    found = due(Schedule(name="s", cron=cron, timezone="Europe/Berlin"), NOON, datetime(year, 6, 1, tzinfo=UTC))
    assert len(found.fire) <= 1
    assert found.missed is None or found.missed.last <= datetime(year, 6, 1, tzinfo=UTC)
