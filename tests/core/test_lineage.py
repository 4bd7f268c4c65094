"""What runs that are tasks of others are called."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as hs

from flowd.core.lineage import child_id, is_child, origin_of, parent_of, turn_of

RUN = "20261125-050000-abcde"


@pytest.mark.parametrize(
    ("task", "turn", "called"),
    [
        ("fit", 1, f"{RUN}+fit"),
        ("fit", 3, f"{RUN}+fit+3"),
        ("fit.2", 1, f"{RUN}+fit.2"),
        ("load[a/b]", 1, f"{RUN}+load_a_b_-3cd1b1b3"),
    ],
)
def test_it_is_called_by_its_run_and_task(task: str, turn: int, called: str) -> None:
    """With the number of the turn behind the first, and what no file name may hold replaced."""
    found = child_id(RUN, task, turn)
    assert re.sub(r"-[0-9a-f]{8}$", "-3cd1b1b3", found) == called if "[" in task else found == called
    assert (turn_of(found), is_child(found), is_child(RUN)) == (turn, True, False)


@given(hs.lists(hs.text(max_size=120).map("t{}".format), min_size=1, max_size=9), hs.integers(1, 99))
def test_it_fits_a_folder_however_deep_it_lies(tasks: list[str], turn: int) -> None:
    """And two tasks of one run never share one."""
    run = "r" * 128
    for task in tasks:
        first, other = child_id(run, task, turn), child_id(run, f"{task}x", turn)
        assert first != other
        assert turn_of(first) == turn
        assert len(first.encode()) <= 255
        assert re.fullmatch(r"[A-Za-z0-9._+-]+", first)
        run = first


def test_whose_it_is_and_what_began_it_all() -> None:
    """From its trigger alone."""
    inner = {"kind": "pipeline", "run": RUN, "task": "fit", "origin": "schedule"}
    assert (parent_of(inner), origin_of(inner)) == (RUN, "schedule")
    assert (parent_of({"kind": "hand"}), origin_of({}), origin_of({"kind": "file"})) == (None, "hand", "file")
