"""Small policies: which failures a retry is about, and durations as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as hs

from flowd.core.durations import format_duration, parse_duration
from flowd.core.events import Error
from flowd.core.retry import named_by, worth_trying
from flowd.core.spec import Retry

RESET = Error(type="ConnectionResetError", message="reset")
KINDS = ("ConnectionResetError", "ConnectionError", "OSError", "builtins.OSError", "Exception")
EXIT = Error(type="CommandFailed", message="exit code 75", exit_code=75)
LATE = Error(type="TimeoutError", message="too long")


@pytest.mark.parametrize(
    ("names", "error", "timed_out", "speaks"),
    [
        ((), RESET, False, False),
        (("ConnectionResetError",), RESET, False, True),
        (("OSError",), RESET, False, True),
        (("builtins.OSError",), RESET, False, True),
        (("ValueError",), RESET, False, False),
        ((75,), EXIT, False, True),
        ((1, 2), EXIT, False, False),
        ((75,), RESET, False, False),
        (("timeout",), LATE, True, True),
        (("timeout",), LATE, False, False),
        (("timeout",), RESET, False, False),
        (("TimeoutError",), LATE, True, True),
    ],
)
def test_which_failures_names_speak_of(names, error: Error, timed_out: bool, speaks: bool) -> None:
    """Exception names with all their bases, exit codes, and `timeout` for a task's own."""
    kinds = KINDS if error is RESET else ()
    assert named_by(names, error, timed_out=timed_out, kinds=kinds) is speaks


@pytest.mark.parametrize(
    ("policy", "worth"),
    [
        (Retry(), True),
        (Retry(on=("OSError",)), True),
        (Retry(on=("ValueError",)), False),
        (Retry(never_on=("ConnectionError",)), False),
        (Retry(on=("OSError",), never_on=("ConnectionResetError",)), False),
        (Retry(never_on=("ValueError",)), True),
    ],
)
def test_what_is_worth_another_try(policy: Retry, worth: bool) -> None:
    """An empty `on` means any failure; `never_on` wins."""
    assert worth_trying(policy, RESET, timed_out=False, kinds=KINDS) is worth


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("200ms", 0.2),
        ("30s", 30),
        ("10m", 600),
        ("6h", 21_600),
        ("7d", 604_800),
        ("1.5s", 1.5),
        ("1h30m", 5_400),
        ("1d2h3m4s5ms", 93_784.005),
        ("0s", 0),
        ("0.001ms", 0.000001),
        ("36500d", 3_153_600_000),
    ],
)
def test_a_duration(text: str, seconds: float) -> None:
    """Numbers with units, the greatest first."""
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text",
    ["", "1", "s", "1 s", " 1s", "1s ", "-1s", "1s1h", "1m1m", "1e3s", "1,5s", "1.s", "1w", "1S", "²s", "٣s", "1s\n"],
)
def test_what_is_no_duration(text: str) -> None:
    """The message says what to write."""
    with pytest.raises(ValueError, match="write a number and a unit, such as 200ms, 30s, 10m, 6h or 7d"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["36501d", "9" * 400 + "d", "876001h"])
def test_a_duration_that_no_clock_can_wait_for(text: str) -> None:
    """More than a hundred years is a mistake, whatever its size."""
    with pytest.raises(ValueError, match="longer than a hundred years"):
        parse_duration(text)


@given(hs.timedeltas(min_value=timedelta(0), max_value=timedelta(days=36_500)))
def test_a_duration_comes_back(delta: timedelta) -> None:
    """What is formatted is read back to the microsecond."""
    assert parse_duration(format_duration(delta)) == delta


@pytest.mark.parametrize("text", ["200ms", "30s", "10m", "6h", "7d", "90s", "36h", "0.001ms", "1.5ms", "0s"])
def test_the_shortest_form(text: str) -> None:
    """One unit, the greatest that divides it."""
    assert format_duration(parse_duration(text)) == text
