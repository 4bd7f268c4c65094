"""Needs and what follows from them: order, cycles, implied needs, writers, ranks, selections."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as hs

from flowd.core.graph import (
    AmbiguousWriter,
    UnorderedWriters,
    Upstream,
    case_clashes,
    cycle_text,
    escapes,
    find_cycle,
    find_cycles,
    implied_needs,
    normal_path,
    topological_order,
    writer_problems,
    writers_of,
)
from flowd.core.patterns import folders_above
from flowd.core.rank import critical_path, learned
from flowd.core.shape import Shape, select
from flowd.core.spec import Input, Output, TaskSpec
from walk import task

NAMES = [f"t{number}" for number in range(8)]
GRAPHS = hs.lists(hs.integers(0, 255), min_size=1, max_size=8).map(
    lambda masks: {
        NAMES[n]: [NAMES[need] for need in range(len(masks)) if mask >> need & 1] for n, mask in enumerate(masks)
    }
)
ACYCLIC = GRAPHS.map(lambda needs: {name: [need for need in wanted if need < name] for name, wanted in needs.items()})


def reachable(needs: dict[str, list[str]], start: str) -> set[str]:
    """All that `start` needs, the slow way: until nothing is added."""
    found = set(needs[start])
    while (more := found | {above for name in found for above in needs[name]}) != found:
        found = more
    return found


def spec(name: str, *needs: str, reads: tuple[str, ...] = (), writes: tuple[str, ...] = ()) -> TaskSpec:
    """A task with files."""
    return task(
        name,
        *needs,
        inputs=tuple(Input(path=path) for path in reads),
        outputs=tuple(Output(path=path) for path in writes),
    )


@given(GRAPHS)
def test_an_order_puts_every_task_after_its_needs(needs) -> None:
    """And leaves out exactly what is in a cycle or behind one."""
    order = topological_order(needs)
    for number, name in enumerate(order):
        assert set(needs[name]) <= set(order[:number])
    cyclic = {name for name in needs if name in reachable(needs, name)}
    assert set(order) == {name for name in needs if not cyclic & ({name} | reachable(needs, name))}


@given(GRAPHS)
def test_upstream_agrees_with_the_slow_way(needs) -> None:
    """Over all pairs of a graph without cycles."""
    if not find_cycle(needs):
        upstream = Upstream(needs)
        for name in needs:
            assert {above for above in needs if upstream(above, name)} == reachable(needs, name)
        assert not upstream("nobody", "t0")


@given(GRAPHS)
def test_a_cycle_is_a_real_and_a_shortest_one(needs) -> None:
    """Each step of the path is a need, no task comes twice, and there is none where there is no cycle."""
    cycle = find_cycle(needs)
    cyclic = [name for name in needs if name in reachable(needs, name)]
    assert (cycle is None) is (not cyclic)
    if cycle is not None:
        assert cycle[0] == cycle[-1] == min(cycle)
        assert len(set(cycle)) == len(cycle) - 1
        assert all(before in needs[after] for before, after in pairwise(cycle))
        assert len(cycle) - 1 == min(_way_back(needs, name) for name in cyclic)


def _way_back(needs: dict[str, list[str]], start: str) -> int:
    steps, front = 1, set(needs[start])
    while start not in front:
        steps, front = steps + 1, {above for name in front for above in needs[name]}
    return steps


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "a → a"),
        (2, "a → b → a"),
        (3, "a → b → c → a"),
        (4, "a → b → c → d → a"),
        (5, "a → b → c → d → e → a"),
        (8, "a → b → c → d → (1 more) → f → g → h → a"),
        (26, "a → b → c → d → (19 more) → x → y → z → a"),
    ],
)
def test_a_cycle_is_printed_as_a_path_of_the_work(count: int, text: str) -> None:
    """`a → b` says that b comes after a; a long one is shortened in its middle."""
    names = "abcdefghijklmnopqrstuvwxyz"[:count]
    needs = {name: [names[number - 1]] for number, name in enumerate(names)}
    needs |= {"before": [], "behind": [names[0], "before"], names[0]: ["before", names[-1]]}
    cycle = find_cycle(needs)
    assert cycle is not None
    assert cycle_text(cycle) == text


def test_a_cycle_of_any_length() -> None:
    """Nothing recurses: a cycle of twenty thousand tasks is found, and printed short."""
    many = 20_000
    needs = {str(number): [str((number - 1) % many)] for number in range(many)}
    cycle = find_cycle(needs)
    assert cycle is not None
    assert len(cycle) == many + 1
    assert cycle_text(cycle).startswith("0 → 1 → 2 → 3 → (19993 more) → 19997")
    assert topological_order(needs) == []


def test_several_cycles_are_all_named() -> None:
    """Those that share no task, a shorter one first."""
    needs = {"a": ["b"], "b": ["a"], "c": ["c", "a"], "d": [], "e": ["f"], "f": ["e", "d"]}
    assert find_cycles(needs) == [["c", "c"], ["a", "b", "a"], ["e", "f", "e"]]
    assert len(find_cycles(needs, most=1)) == 1


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("a", "a"),
        ("./a//b/", "a/b"),
        ("a/../b", "b"),
        ("a/b/../../c", "c"),
        ("../a", "../a"),
        ("../../a/..", "../.."),
        (".", "."),
        ("", "."),
        ("/home/me/p/a", "a"),
        ("/home/me/p2/a", "/home/me/p2/a"),
        ("/home/me/p/../q", "/home/me/q"),
        ("/../a", "/a"),
        ("/", "/"),
        ("{{ params.a }}/../b", "{{ params.a }}/../b"),
    ],
)
def test_a_path_in_normal_form(path: str, normal: str) -> None:
    """Two ways to write one path are one path; what holds an expression equals only itself."""
    assert normal_path(path, "/home/me/p") == normal
    assert normal_path(normal, "/home/me/p") == normal


@pytest.mark.parametrize(
    ("path", "leaves"),
    [("a", False), ("../a", True), ("a/../../b", True), ("a/..", False), ("/a", False), ("../{{ x }}", True)],
)
def test_a_path_that_leaves_its_folder(path: str, leaves: bool) -> None:
    """By `..`, even where only what stands before an expression says so."""
    assert escapes(path) is leaves


def test_needs_that_files_imply() -> None:
    """An input that exactly one other task writes is a need, named as the reader writes it, once each."""
    tasks = [
        spec("raw", writes=("raw.csv", "./log")),
        spec("clean", reads=("./raw.csv", "log"), writes=("clean.csv",)),
        spec("twice", reads=("clean.csv", "outside.csv"), writes=("model",)),
        spec("update", reads=("model",), writes=("model",)),
        spec("own", reads=("own.txt",), writes=("own.txt",)),
        spec("reader", reads=("own.txt", "model")),
    ]
    assert writers_of(tasks)["model"] == ["twice", "update"]
    assert implied_needs(tasks) == {
        "clean": (("raw", "./raw.csv"),),
        "twice": (("clean", "clean.csv"),),
        "reader": (("own", "own.txt"),),
    }


@pytest.mark.parametrize(
    ("path", "above"),
    [("a/b/c", ["a/b", "a"]), ("/a/b", ["/a"]), ("a", []), ("/a", []), ("../a/b", ["../a", ".."])],
)
def test_the_folders_above_a_path(path: str, above: list[str]) -> None:
    """The nearest first; neither the root nor the folder that a relative path starts from."""
    assert folders_above(path) == above


def test_needs_that_folders_and_patterns_imply() -> None:
    """What lies in a written folder, a folder that is written into, and what a pattern finds."""
    tasks = [
        spec("train", writes=("model", "log/train.txt")),
        spec("test", reads=("model/weights.bin",), writes=("log/deep/test.txt",)),
        spec("one", reads=("log/*.txt",)),
        spec("all", reads=("log/**/*.txt",)),
        spec("folder", reads=("./log/",)),
        spec("other", reads=("models/a", "log*", "{{params.log}}/train.txt")),
        spec("own", reads=("kept/*",), writes=("kept/a", "top.csv")),
        spec("top", reads=("*.csv",)),
    ]
    assert {name: [need for need, _ in needs] for name, needs in implied_needs(tasks).items()} == {
        "test": ["train"],
        "one": ["train"],
        "all": ["train", "test"],
        "folder": ["train", "test"],
        "top": ["own"],
    }


def test_writers_of_one_path_have_to_be_ordered() -> None:
    """Two that no need orders are named, and a reader that needs none of several."""
    tasks = [
        spec("a", writes=("x", "y")),
        spec("b", "a", writes=("./x",)),
        spec("c", writes=("x",)),
        spec("d", "a", writes=("y",)),
        spec("r", reads=("y",)),
        spec("s", "b", reads=("x", "y")),
    ]
    needs = {one.name: list(one.needs) for one in tasks}
    assert writer_problems(tasks, needs) == [
        UnorderedWriters("x", "a", "c"),
        UnorderedWriters("x", "b", "c"),
        AmbiguousWriter("y", "r", ("a", "d")),
    ]
    assert writer_problems(tasks[:2], {"a": [], "b": ["a"]}) == []


@settings(max_examples=80)
@given(ACYCLIC, hs.integers(1, 255))
def test_writers_are_refused_exactly_where_some_pair_is_unordered(needs, mask) -> None:
    """Looking at neighbours in a topological order is enough."""
    writing = [name for number, name in enumerate(needs) if mask >> number & 1]
    tasks = [spec(name, *wanted, writes=("x",) if name in writing else ()) for name, wanted in needs.items()]
    unordered = any(
        a not in reachable(needs, b) and b not in reachable(needs, a) for a in writing for b in writing if a < b
    )
    assert bool(writer_problems(tasks, needs)) is unordered


def test_names_that_differ_only_in_case() -> None:
    """Each later one with the first that was written."""
    assert case_clashes(["clean", "Fit", "CLEAN", "fit", "Clean", "clean", "straße", "STRASSE"]) == [
        ("clean", "CLEAN"),
        ("Fit", "fit"),
        ("clean", "Clean"),
        ("straße", "STRASSE"),
    ]


# --- shape, selection, rank --------------------------------------------------------------------------


@given(ACYCLIC, hs.sets(hs.sampled_from(NAMES)))
def test_a_selection_is_what_was_named_and_all_it_needs(needs, wanted) -> None:
    """In written order; nothing named means all; the shape of it is closed."""
    tasks = [task(name, *above) for name, above in needs.items()]
    wanted &= needs.keys()
    chosen = select(tasks, wanted)
    expected = wanted.union(*(reachable(needs, name) for name in wanted)) if wanted else set(needs)
    assert list(chosen) == [name for name in needs if name in expected]


@given(ACYCLIC)
def test_a_shape_is_the_graph_in_numbers(needs) -> None:
    """Needs and successors mirror each other, its order is one, and what it reaches is what is reachable."""
    shape = Shape([task(name, *above, "outside") for name, above in needs.items()])
    names = list(needs)
    assert [[names[need] for need in above] for above in shape.needs] == list(needs.values())
    assert all(
        (b in shape.successors[a]) == (a in shape.needs[b]) for a in range(len(shape)) for b in range(len(shape))
    )
    assert [names[number] for number in shape.order()] == topological_order(needs)
    for number, name in enumerate(names):
        assert {names[n] for n in shape.reach([number], down=False)} == reachable(needs, name) | {name}
        below = {other for other in names if name in reachable(needs, other)}
        assert {names[n] for n in shape.reach([number], down=True)} == below | {name}


@given(ACYCLIC, hs.lists(hs.integers(1, 9), min_size=8, max_size=8))
def test_a_rank_is_the_longest_path_below(needs, durations) -> None:
    """The task's own duration included; it is over each successor's by at least that."""
    shape = Shape([task(name, *above) for name, above in needs.items()])
    seconds = [float(number) for number in durations[: len(shape)]]

    def longest(number: int) -> float:
        return seconds[number] + max(map(longest, shape.successors[number]), default=0.0)

    assert critical_path(shape.order(), shape.successors, seconds) == [longest(n) for n in range(len(shape))]


def test_what_is_learned_of_durations() -> None:
    """Halfway to the mean where one is known, the mean where not, and one second where nothing is."""
    assert learned([2.0, None, 6.0]) == [3.0, 4.0, 5.0]
    assert learned([None, None]) == [1.0, 1.0]
    assert learned([]) == []
