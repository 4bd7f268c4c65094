"""Globs: one meaning, which is that of `glob.glob(…, recursive=True)`."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowd.core.patterns import finds, folder_of, is_pattern, named

NAMES = st.text("ab.[]!-*?", min_size=1, max_size=3).filter(lambda name: name not in {".", ".."})
TREES = st.lists(st.lists(NAMES, min_size=1, max_size=4), min_size=1, max_size=8)
LIKELY = st.sampled_from(
    ["**", "*", "?", "a*", ".*", "*.b", "[ab]", "[!a]*", "[[]", "[]a]", "[b-a]", "a**", "[", "a", "b"]
)
PATTERNS = st.lists(st.one_of(LIKELY, NAMES), min_size=1, max_size=4).map("/".join)


@settings(deadline=None, max_examples=200)
@given(TREES, PATTERNS)
def test_a_glob_finds_what_glob_finds(tree, pattern):
    """Of any tree, hidden names and names with signs in them included."""
    folder = tempfile.mkdtemp()
    try:
        for names in tree:
            place = Path(folder, *names)
            if not any(above.is_file() for above in place.parents) and not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                place.touch()
        there = [os.path.relpath(Path(parent, name), folder) for parent, _, names in os.walk(folder) for name in names]
        glob_finds = glob.glob(pattern, root_dir=folder, recursive=True)
        found = {one for one in glob_finds if os.path.isfile(f"{folder}/{one}")}  # a Path would forget a `/` at the end
        assert {one for one in there if finds(pattern, one)} == found
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        ("out/**/b.csv", "out/ab.csv", False),
        ("out/**/b.csv", "out/b.csv", True),
        ("out/**/b.csv", "out/x/y/b.csv", True),
        ("out/*.csv", "out/.a.csv", False),
        ("out/**/*.csv", "out/.x/a.csv", False),
        ("out/[!x]b", "out/x/b", False),
    ],
)
def test_what_a_glob_finds(pattern, path, found):
    """`**` stands for whole folders, and what is hidden has to be named."""
    assert finds(pattern, path) is found


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("data/[ab].csv", True),
        ("data/?.csv", True),
        ("data/a.csv", False),
        ("{{ params.a * 2 }}.csv", False),
        ("{{ params['a'] }}/*.csv", True),
        ("{{ not closed * ", False),
    ],
)
def test_what_is_written_as_a_glob(written, expected):
    """What stands in an expression makes no glob."""
    assert is_pattern(written) is expected


def test_signs_that_are_escaped_are_part_of_a_name():
    """So a file can be named whatever is in its name."""
    assert named("a[[]1].txt") == "a[1].txt"
    assert not hasattr(named("a[[]1].txt"), "pattern")
    assert folder_of("q what[?]/[ab]/x*.csv") == "q what?"
    assert (folder_of("*.csv"), folder_of("/*"), folder_of("/a/*")) == ("", "/", "/a")
