"""Which state directory and which run a person means."""

from __future__ import annotations

import pytest

from flowd.cli.finding import find_run
from flowd.cli.state_dir import find_state_dir
from flowd.core.errors import BadRequest, NoSuchRun


def test_what_is_asked_for_wins_over_the_environment(tmp_path):
    """`--state-dir`, then `FLOWD_STATE_DIR`, then the search."""
    named = {"FLOWD_STATE_DIR": str(tmp_path / "env")}
    assert find_state_dir(str(tmp_path / "asked"), tmp_path, named) == tmp_path / "asked"
    assert find_state_dir(None, tmp_path, named) == tmp_path / "env"
    assert find_state_dir(None, tmp_path, {"FLOWD_STATE_DIR": ""}) == tmp_path / ".flowd"


@pytest.mark.parametrize("mark", [".git", "pyproject.toml"])
def test_the_nearest_one_up_to_the_root_is_found(tmp_path, mark):
    """A `.flowd` above is found up to the project's root and never beyond it."""
    deep = tmp_path / "project" / "configs" / "prices"
    deep.mkdir(parents=True)
    (tmp_path / ".flowd").mkdir()
    (tmp_path / "project" / mark).touch()
    assert find_state_dir(None, deep, {}) == tmp_path / "project" / ".flowd"
    (tmp_path / "project" / "configs" / ".flowd").mkdir()
    assert find_state_dir(None, deep, {}) == tmp_path / "project" / "configs" / ".flowd"
    (deep / ".flowd").mkdir()
    assert find_state_dir(None, deep, {}) == deep / ".flowd"


def test_without_a_root_it_is_beside_the_file(tmp_path):
    """Where nothing marks a project, no folder above is searched."""
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / ".flowd").mkdir()
    assert find_state_dir(None, deep, {}) == deep / ".flowd"


RUNS = ["20261122-0921-q1d", "20261122-0914-k3f", "20261121-0914-aaa"]


def test_a_run_is_named_by_id_beginning_or_last():
    """An exact id wins over being the beginning of another."""
    assert find_run("20261122-0914-k3f", RUNS, "d") == RUNS[1]
    assert find_run("20261121", RUNS, "d") == RUNS[2]
    assert find_run("last", RUNS, "d") == find_run(None, RUNS, "d") == RUNS[0]
    assert find_run("a", ["ab", "a"], "d") == "a"


def test_an_unknown_run_names_what_comes_close():
    """The message says where it looked and what there is."""
    with pytest.raises(NoSuchRun, match="no run 20261122-0914-k3g in d; did you mean 20261122-0914-k3f"):
        find_run("20261122-0914-k3g", RUNS, "d")
    with pytest.raises(NoSuchRun, match="no run in d yet"):
        find_run("last", [], "d")


def test_an_ambiguous_beginning_is_refused():
    """It names the runs that begin so."""
    with pytest.raises(BadRequest, match="2 runs begin with 20261122: 20261122-0921-q1d, 20261122-0914-k3f"):
        find_run("20261122", RUNS, "d")
