"""Which runs go: never what is needed or goes on, and never more for being asked twice."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from flowd.core.declared import Retention
from flowd.core.retention import DEFAULT, Kept, decide

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def kept(run: str, days: float, *, pipeline: str = "p", size: int = 10, is_open: bool = False) -> Kept:
    return Kept(run=run, pipeline=pipeline, moment=NOW - timedelta(days=days), size=size, open=is_open)


def gone(*runs: Kept, needed: tuple[str, ...] = (), **policy: object) -> list[str]:
    return [one.run for one in decide(runs, needed, {"p": Retention(**policy)}, NOW)]  # type: ignore[arg-type]


RUNS = [kept(f"r{days}", days) for days in range(5)]


def test_by_count_age_and_size() -> None:
    """The oldest go; the newest stays whatever the policy says."""
    assert gone(*RUNS, runs=2) == ["r4", "r3", "r2"]
    assert gone(*RUNS, age=timedelta(days=2, hours=1)) == ["r4", "r3"]
    assert gone(*RUNS, size=25) == ["r4", "r3", "r2"]
    assert gone(*RUNS, size=1) == ["r4", "r3", "r2", "r1"]
    assert gone(*RUNS, runs=4, age=timedelta(days=2, hours=1)) == ["r4", "r3"]
    assert gone(kept("old", 900), age=timedelta(days=1)) == []


def test_what_is_needed_or_goes_on_stays() -> None:
    """Each for its own reason; a run that is a task of another stays and goes with it."""
    assert gone(*RUNS, needed=("r4",), runs=2) == ["r3", "r2"]
    assert gone(*RUNS[:4], kept("r4", 4, is_open=True), runs=2) == ["r3", "r2"]
    family = [kept("r4+inner", 4, pipeline="q"), kept("r4", 4), kept("r4+inner+x", 4, pipeline="z")]
    assert gone(*RUNS[:4], *family, runs=4)[-1] == "r4"
    assert sorted(gone(*RUNS[:4], *family, runs=4)) == ["r4", "r4+inner", "r4+inner+x"]
    assert gone(*RUNS[:4], *family, needed=("r4+inner",), runs=4) == []


def test_each_pipeline_has_its_own() -> None:
    """One that says nothing keeps a hundred runs; why each goes is said."""
    many = [kept(f"q{number:03}", number, pipeline="q") for number in range(DEFAULT.runs + 2)]  # type: ignore[operator]
    found = decide([*RUNS, *many], (), {"p": Retention(runs=4)}, NOW)
    assert [(one.run, one.why) for one in found] == [
        ("r4", "4 newer runs are kept"),
        ("q101", "100 newer runs are kept"),
        ("q100", "100 newer runs are kept"),
    ]


SOME = st.lists(
    st.builds(
        kept,
        st.sampled_from([f"r{number}{tail}" for number in range(6) for tail in ("", "+a", "+b+c")]),
        st.floats(0, 100),
        pipeline=st.sampled_from("pq"),
        size=st.integers(0, 50),
        is_open=st.booleans(),
    ),
    unique_by=lambda one: one.run,
)
POLICIES = st.dictionaries(
    st.sampled_from("pq"),
    st.builds(
        Retention,
        runs=st.none() | st.integers(1, 3),
        age=st.none() | st.integers(1, 50).map(lambda days: timedelta(days=days)),
        size=st.none() | st.integers(1, 100),
    ),
)


@given(runs=SOME, needed=st.sets(st.sampled_from([f"r{number}" for number in range(6)])), policies=POLICIES)
def test_nothing_goes_that_has_to_stay_and_nothing_more_at_a_second_look(
    runs: list[Kept], needed: set[str], policies: dict[str, Retention]
) -> None:
    """Whole families, and the newest of each pipeline stays."""
    found = {one.run for one in decide(runs, needed, policies, NOW)}
    assert not found & needed
    assert not found & {one.run for one in runs if one.open}
    for root in {one.run.partition("+")[0] for one in runs}:
        family = {one.run for one in runs if one.run.partition("+")[0] == root}
        assert family <= found or not family & found
    left = [one for one in runs if one.run not in found]
    assert decide(left, needed, policies, NOW) == []
    if runs:
        assert left
