"""Amounts in words."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as some

from flowd.cli.wording import NOTE_LENGTH, age_text, duration_text, note, size_text, wait_text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00s"),
        (0.314, "0.31s"),
        (0.996, "1.0s"),
        (1.44, "1.4s"),
        (99.94, "99.9s"),
        (99.96, "1m40s"),
        (185, "3m05s"),
        (7800, "2h10m"),
        (273600, "3d04h"),
        (-1, "0.00s"),
    ],
)
def test_durations(seconds, text):
    """As many digits as say something."""
    assert duration_text(seconds) == text


def test_waits_and_ages_and_sizes():
    """Each in its own short form."""
    assert [wait_text(timedelta(seconds=s)) for s in (0.2, 10, 400)] == ["0.2s", "10s", "6m40s"]
    assert [age_text(s) for s in (36.4, 300, 7200, 200000)] == ["36s ago", "5m ago", "2h ago", "2d ago"]
    assert [size_text(s) for s in (812, 1434, 5 * 2**20)] == ["812 B", "1.4 KiB", "5.0 MiB"]


@pytest.mark.parametrize(
    ("metrics", "result", "text"),
    [
        ({"mae": 0.8391, "r2": 0.5}, None, "mae 0.8391, r2 0.5"),
        ({"rows": 203.0}, {"ignored": 1}, "203 rows"),
        ({}, {"rows_in": 203, "rows_out": 199}, "203 → 199 rows"),
        ({}, {"loss": 2, "path": "a/b", "name": "x"}, "loss 2, name x"),
        ({}, "done", "done"),
        ({}, "two\nlines", ""),
        ({}, [1, 2], ""),
        ({}, None, ""),
        ({}, True, "true"),
    ],
)
def test_notes(metrics, result, text):
    """Metrics first, else a short result."""
    assert note(metrics, result) == text


@given(some.dictionaries(some.text(), some.integers() | some.floats(allow_nan=False) | some.text() | some.none()))
def test_a_note_is_one_short_line(result):
    """Whatever a task returns, its note never breaks the table."""
    text = note({}, result)
    assert len(text) <= NOTE_LENGTH
