"""A folder of its own for each black-box test, with flowd run there as a process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from environment import hear_signals

from flowd_process import Place, place

hear_signals()  # tests send them to flowd


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    """A folder in which nothing of a test's commands is left running."""
    with place(tmp_path) as opened:
        yield opened
