"""What a matrix is made of, and what items may be called by."""

from __future__ import annotations

import pytest

from flowd.core.fanout import cell_keys, cells, default_keys, key_problem

FRUITS = {"fruit": ["apple", "pear"], "animal": ["cat", "dog"]}


def test_the_first_axis_changes_slowest() -> None:
    """As loops inside each other, in the order in which they are written."""
    made = cells(FRUITS, [], [])
    assert [(cell["fruit"], cell["animal"]) for cell in made] == [
        ("apple", "cat"),
        ("apple", "dog"),
        ("pear", "cat"),
        ("pear", "dog"),
    ]
    assert cell_keys(made, FRUITS) == ("apple,cat", "apple,dog", "pear,cat", "pear,dog")


def test_includes_as_the_documentation_of_github_actions_has_them() -> None:
    """Its own example: added where nothing is contradicted, an earlier addition overwritten, else a new combination."""
    include = [
        {"color": "green"},
        {"color": "pink", "animal": "cat"},
        {"fruit": "apple", "shape": "circle"},
        {"fruit": "banana"},
        {"fruit": "banana", "animal": "cat"},
    ]
    assert cells(FRUITS, include, []) == (
        {"fruit": "apple", "animal": "cat", "color": "pink", "shape": "circle"},
        {"fruit": "apple", "animal": "dog", "color": "green", "shape": "circle"},
        {"fruit": "pear", "animal": "cat", "color": "pink"},
        {"fruit": "pear", "animal": "dog", "color": "green"},
        {"fruit": "banana"},
        {"fruit": "banana", "animal": "cat"},
    )


def test_an_exclude_needs_to_name_a_part_only_and_comes_before_the_includes() -> None:
    """What was excluded may be included again."""
    assert cells(FRUITS, [{"fruit": "pear", "animal": "cat"}], [{"fruit": "pear"}]) == (
        {"fruit": "apple", "animal": "cat"},
        {"fruit": "apple", "animal": "dog"},
        {"fruit": "pear", "animal": "cat"},
    )
    assert cells({"debug": [True, False]}, [], [{"debug": 1}]) == ({"debug": True}, {"debug": False})


def test_includes_alone_are_a_matrix() -> None:
    """Without an axis each include is a combination, called by all that it says."""
    made = cells({}, [{"site": "a", "env": 1}, {"site": "b", "env": 2}], [])
    assert made == ({"site": "a", "env": 1}, {"site": "b", "env": 2})
    assert cell_keys(made, ()) == ("a,1", "b,2")


def test_cells_without_a_name_of_their_own_are_called_by_their_places() -> None:
    """Values that no key can hold, and combinations that would be called alike."""
    assert cell_keys(cells({"of": [{"a": 1}, {"a": 2}]}, [], []), ("of",)) == ("{'a': 1}", "{'a': 2}")
    assert cell_keys(cells({"of": [[1], [2]]}, [], []), ("of",)) == ()
    assert cell_keys(({"x": 1}, {"x": "1"}), ("x",)) == ()


def test_short_texts_are_keys_of_their_own() -> None:
    """Where each can be one and no two are alike; else items are called by their places."""
    assert default_keys(["a.csv", "data/b.csv"]) == ("a.csv", "data/b.csv")
    assert default_keys([]) == ()
    for items in (["a", "a"], ["a", 1], ["x" * 61], ["a[0]"], [" a"], [""]):
        assert default_keys(items) == ()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (None, "NoneType"),
        (True, "bool"),
        (["a"], "list"),
        ("", "empty"),
        ("  ", "empty"),
        (" a", "space"),
        ("x" * 101, "101 characters"),
        ("a[b", "`[`"),
        ("a\nb", "printed"),
    ],
)
def test_what_is_no_key(key: object, said: str) -> None:
    """Each says what is wrong with it."""
    assert said in key_problem(key)


def test_what_is_a_key() -> None:
    """Texts and numbers."""
    assert not any(key_problem(key) for key in ("a", "Zürich", "data/x y.csv", 3, 1.5, "x" * 100))
