"""When schedules are due: golden tables of the weekends at which clocks change, and every zone that there is."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from flowd.core.declared import Dst, Schedule
from flowd.core.occurrences import between, count, explained, newest, occurrences

GOLDEN = Path(__file__).parents[1] / "golden" / "changes_of_the_clock.txt"
ZONES = {
    "America/New_York": (date(2026, 3, 8), date(2026, 11, 1)),
    "Europe/Berlin": (date(2026, 3, 29), date(2026, 10, 25)),
    "Australia/Lord_Howe": (date(2026, 4, 5), date(2026, 10, 4)),
    "America/Santiago": (date(2026, 4, 5), date(2026, 9, 6)),
}
CRONS = ("0 0 * * *", "15 2 * * *", "30 1 * * *", "*/30 1,2 * * *", "45 * * * *", "0 */2 * * *")
RULES = (("shift", "first"), ("shift", "both"), ("skip", "second"))


def cron(text: str, zone: str = "UTC", gap: str = "shift", fold: str = "first") -> Schedule:
    return Schedule(name="s", cron=text, timezone=zone, dst=Dst(gap=gap, fold=fold))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def table() -> Iterator[str]:
    """Every firing of the golden schedules from six hours before to six hours after the day of a change."""
    for zone, days in ZONES.items():
        for day in days:
            midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
            for text in CRONS:
                for gap, fold in RULES:
                    yield f"{zone} {day} {text} gap={gap} fold={fold}"
                    for found in between(
                        cron(text, zone, gap, fold), midnight - timedelta(hours=1), midnight + timedelta(hours=7)
                    ):
                        local = found.at.astimezone(ZoneInfo(zone))
                        yield f"    {local:%m-%d %H:%M %z}  {found.at:%m-%dT%H:%MZ}  {found.mark}".rstrip()


def test_the_weekends_at_which_clocks_change_are_as_they_were_agreed() -> None:
    """The table is read and agreed to by a person."""
    assert list(table()) == GOLDEN.read_text().splitlines()


def changes(zone: ZoneInfo, since: datetime, until: datetime) -> Iterator[datetime]:
    """The instants at which a zone's offset changes, to the second."""
    step = timedelta(days=5)
    while since < until:
        if since.astimezone(zone).utcoffset() != (since + step).astimezone(zone).utcoffset():
            low, high = since, since + step
            while high - low > timedelta(seconds=1):
                middle = low + (high - low) // 2
                middle = middle.replace(microsecond=0)
                same = middle.astimezone(zone).utcoffset() == since.astimezone(zone).utcoffset()
                low, high = (middle, high) if same else (low, middle)
            yield high
        since += step


@pytest.mark.timeout(120)
def test_every_zone_has_each_day_once_and_each_quarter_once() -> None:
    """Over each change of each zone from 2020 to 2040: a daily time once a day, quarters at all real quarters."""
    seen: set[tuple[object, ...]] = set()
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        for change in changes(zone, at("2020-01-01"), at("2040-01-01")):
            before, after = ((change + timedelta(seconds=s)).astimezone(zone).utcoffset() for s in (-1, 0))
            if (key := (change, before, after)) in seen:
                continue  # the same change, of a zone that goes by another name
            seen.add(key)
            start, end = change - timedelta(days=2), change + timedelta(days=2)
            for hour in (0, 1, 2, 3):
                daily = list(between(cron(f"30 {hour} * * *", name), start, end))
                days = [found.at.astimezone(zone).date() for found in daily]
                assert len(set(days)) == len(days), (name, change, hour)
                assert max(days) - min(days) == timedelta(days=len(days) - 1), (name, change, hour)
            quarters = [found.at for found in between(cron("*/15 * * * *", name), start, end)]
            assert quarters == [start + timedelta(minutes=15) * n + (quarters[0] - start) for n in range(len(quarters))]
            assert len(quarters) == 4 * 24 * 4
    assert len(seen) > 500


def test_as_cronsim_itself_where_nothing_else_was_decided() -> None:
    """By default a whole year of fixed and repeated times is that of the library that Debian's cron stands behind."""
    start, end = at("2026-01-01"), at("2026-12-31")
    for zone in (*ZONES, "Africa/Casablanca", "Atlantic/Azores"):
        for text in ("30 2 * * *", "0 0 * * *", "15 1,2,3 * * mon", "5 * * * *", "0 6 L * *"):
            theirs = []
            for wall in CronSim(text, start.astimezone(ZoneInfo(zone))):
                if wall.astimezone(UTC) > end:
                    break
                theirs.append(wall.astimezone(UTC))
            assert [found.at for found in between(cron(text, zone), start, end)] == theirs, (zone, text)


def test_a_day_that_is_missing_is_made_up_for_once() -> None:
    """Apia left 30 December 2011 out: its midnight is that of the day after."""
    found = [
        one.at for one in between(cron("0 0 * * *", "Pacific/Apia"), at("2011-12-28T12:00"), at("2012-01-01T12:00"))
    ]
    assert found == [at("2011-12-29T10:00"), at("2011-12-30T10:00"), at("2011-12-31T10:00"), at("2012-01-01T10:00")]


def test_every_other_hour_is_neither_lost_nor_doubled() -> None:
    """`*/2` is twelve fixed hours: one that is missing is made up for, one that comes twice comes once."""
    york, berlin = cron("0 */2 * * *", "America/New_York"), cron("0 */2 * * *", "Europe/Berlin")
    assert len(list(between(york, at("2026-03-08T04:59"), at("2026-03-09T03:59")))) == 12
    assert len(list(between(berlin, at("2026-10-24T21:59"), at("2026-10-25T22:59")))) == 12


def test_all_hours_are_all_however_they_are_written() -> None:
    """What counts are the hours, not the star."""
    for hours in ("*", "*/1", "0-23"):
        found = between(cron(f"0 {hours} * * *", "Europe/Berlin"), at("2026-10-24T21:59"), at("2026-10-25T22:59"))
        assert len(list(found)) == 25


def test_an_interval_counts_from_1970_in_real_time() -> None:
    """So it is the same after every restart, and knows no change of the clock."""
    every = Schedule(name="s", every=timedelta(minutes=7))
    found = [one.at for one in islice(occurrences(every, at("2026-03-29T00:58")), 3)]
    assert [(one - at("1970-01-01")) % timedelta(minutes=7) for one in found] == [timedelta(0)] * 3
    assert found[2] - found[0] == timedelta(minutes=14)


def test_dates_end_and_nothing_is_raised() -> None:
    """What is due after the last year that dates know is not due."""
    assert list(islice(occurrences(cron("0 0 1 1 *", "Europe/Berlin"), at("9995-01-01")), 3)) == []
    assert list(occurrences(Schedule(name="s", every=timedelta(days=300)), at("9999-11-01"))) == []


SCHEDULES = st.one_of(
    st.builds(
        cron,
        st.sampled_from([*CRONS, "0 6 * * mon", "0 0 29 2 *", "59 23 L * *"]),
        st.sampled_from([*ZONES, "UTC"]),
        st.sampled_from(["shift", "skip"]),
        st.sampled_from(["first", "second", "both"]),
    ),
    st.builds(
        lambda seconds: Schedule(name="s", every=timedelta(seconds=seconds)), st.integers(min_value=1, max_value=90_000)
    ),
)
MOMENTS = st.integers(0, 3 * 365 * 86_400).map(lambda seconds: at("2025-01-01") + timedelta(seconds=seconds))


@given(schedule=SCHEDULES, start=MOMENTS, hours=st.integers(0, 800), cut=st.floats(0, 1), most=st.integers(1, 5))
def test_a_stretch_is_the_same_in_one_piece_or_in_two(
    schedule: Schedule, start: datetime, hours: int, cut: float, most: int
) -> None:
    """In order, each once, none outside; and the newest and their number are those of the whole."""
    if schedule.every is not None:
        hours = min(hours, int(schedule.every.total_seconds() / 10) + 1)
    end = start + timedelta(hours=hours)
    whole = list(between(schedule, start, end))
    instants = [found.at for found in whole]
    assert instants == sorted(set(instants))
    assert all(start < found <= end for found in instants)
    middle = start + (end - start) * cut
    assert [found.at for found in [*between(schedule, start, middle), *between(schedule, middle, end)]] == instants
    assert [found.at for found in newest(schedule, start, end, most)] == instants[-most:]
    assert count(schedule, start, end) == len(whole)


def test_the_newest_of_years_are_found_without_the_others() -> None:
    """Ten years of seconds: two looks."""
    every = Schedule(name="s", every=timedelta(seconds=1))
    assert [one.at for one in newest(every, at("2016-01-01"), at("2026-01-01"), 2)] == [
        at("2025-12-31T23:59:59"),
        at("2026-01-01"),
    ]
    assert count(every, at("2016-01-01"), at("2026-01-01")) == 315_619_200


def test_when_in_words() -> None:
    """For people, with the zone."""
    assert explained(cron("0 6 * * mon", "Europe/Berlin")) == "At 06:00 on Monday (Europe/Berlin)"
    assert explained(Schedule(name="s", every=timedelta(minutes=90))) == "every 90m"
