"""Fixtures for pytest: `from flowd.testing.fixtures import crashtest` in a `conftest.py` makes them known.

def test_my_pipeline_survives_being_killed(crashtest):
assert crashtest("pipeline.yaml").ok
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from flowd.testing.crashtest import Verdict
from flowd.testing.crashtest import crashtest as kill_and_compare


@pytest.fixture
def crashtest(tmp_path: Path) -> Callable[..., Verdict]:
    """`crashtest(file, tasks=(), params=None)`: kills copies of a pipeline at every durable boundary, and compares."""
    return partial(kill_and_compare, scratch=tmp_path)
