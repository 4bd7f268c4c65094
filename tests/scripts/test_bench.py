"""The benchmark suite: each floor does what it says, and the cases, the ratios and the report hold together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benching import kinds, peers, report
from benching.__main__ import main
from benching.cases import CASES, HUGE, LONG, Case
from benching.goals import CPU, FLOWD, GOALS, IDEAL, SCALING, SECONDS, Goal, goals_of
from benching.graphs import chain
from benching.kinds import NotHere, flows, graph, lag, start, taker, tool
from benching.measure import Measured, Unable, in_a_process, measure
from benching.place import prepared


@pytest.mark.parametrize("name", list(CASES))
def test_every_case_runs_on_every_side(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample of each side at a tiny size has the figures that the goals ask for."""
    monkeypatch.setattr(start, "REPEATED", 1)
    case = replace(CASES[name], sleep_s=0.001 if CASES[name].sleep_s else 0.0)
    tasks = 1 if case.sizes == (1,) else 8
    (tmp_path / name).mkdir()
    for side in (*case.floors, *case.ours):
        try:
            figures = taker(case)(case, tasks, side, tmp_path / name / side, 0)
        except NotHere:
            assert side.split()[0] in {"make", "ninja", "xargs"}
            continue
        # memory held is a difference: of so few tasks it may be less than what else was given back
        assert name == "M" or all(value >= 0 for value in figures.values())
        wanted = {goal.figure for goal in goals_of(name, tasks) if side in {goal.over, goal.side}} - {SCALING}
        assert wanted <= set(figures)


def test_flowds_side_is_what_users_have(tmp_path: Path) -> None:
    """Durable, its log lines in run.log, and a retry policy on each task."""
    from benching import ours

    made = ours.pipeline(chain(3), graph.noop, tmp_path)

    async def run() -> None:
        async with ours.engine(tmp_path, ["t0", "t1", "t2"], None) as engine:
            await ours.timed_run(engine, made)

    asyncio.run(run())
    (folder,) = (tmp_path / ".flowd" / "runs").iterdir()
    logged = [json.loads(line)["event"] for line in (folder / "run.log").read_text().splitlines()]
    assert logged.count("task_succeeded") == logged.count("task_started") == 3
    assert (folder / "journal.0001.jsonl").stat().st_size > 0
    assert all(task.retry is not None and task.retry.attempts == 3 for task in made.spec.tasks)


def test_a_wrong_sum_is_no_sample() -> None:
    """W8 looks at what its pipelines come to."""
    flows.check([json.dumps({"total": 210.0})], 1)
    for totals in ([json.dumps({"total": 209.0})], []):
        with pytest.raises(RuntimeError, match="wrong end"):
            flows.check(totals, 1)


def test_what_the_last_tasks_cost() -> None:
    """W9: tasks that become three times as dear show, and too few tell nothing."""
    stamps = graph.Stamps(100_000)
    cheap = [number * 1e-3 for number in range(500)]
    stamps.at = [*cheap, *(cheap[-1] + number * 3e-3 for number in range(1, 501))]
    assert stamps.every == 100
    assert stamps.marginal(100_000) == pytest.approx(3.0)
    assert graph.Stamps(2).marginal(2) is None


def test_lag_at_a_share() -> None:
    """A percentile is one of the values that were seen."""
    assert [lag.at(range(1, 101), share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 51, 100, 100]


def test_what_is_prepared_stays(tmp_path: Path) -> None:
    """A place is prepared once, and anew where that was cut off."""
    calls: list[Path] = []

    def prepare(folder: Path) -> None:
        calls.append(folder)
        (folder / "left").touch()
        if len(calls) == 1:
            raise RuntimeError("cut off")

    with pytest.raises(RuntimeError):
        prepared(tmp_path / "place", prepare)
    for _ in range(2):
        assert (prepared(tmp_path / "place", prepare) / "left").exists()
    assert len(calls) == 2


def measured(
    seconds: Mapping[str, list[float]], case: Case, tasks: int, peers: Mapping[str, int] | None = None, **more: float
) -> Measured:
    """What `measure` makes of samples that took `seconds`, round by round; `more` figures are in each."""
    left = {side: list(taken) for side, taken in seconds.items()}

    def one(_case: Case, _tasks: int, side: str) -> Mapping[str, Any]:
        taken = left[side].pop(0)
        return {SECONDS: taken, CPU: taken / 2 if side == FLOWD else taken, **more}

    return measure(case, tasks, len(seconds[FLOWD]), one, (peers or {}).items())


def only(name: str, *floors: str) -> Case:
    """A case with no other floors."""
    return replace(CASES[name], floors=floors, ours=(FLOWD,))


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    """A round's samples are compared with each other, so a machine that slows down changes no ratio."""
    found = measured({FLOWD: [2.0, 4.0, 90.0], "L3": [1.0, 2.0, 3.0]}, only("W1", "L3"), 1_000)
    ratio = found.ratio("L3")
    assert ratio is not None
    assert (ratio.value, ratio.low, ratio.high) == (2.0, 2.0, 30.0)
    assert (ratio.ours, ratio.theirs, ratio.cpu) == (4.0, 2.0, 1.0)
    assert found.ratio("L4") is None
    assert found.amount("peak_mb") is None


def test_sides_alternate() -> None:
    """Forwards, then backwards, and a peer in no more rounds than it can take."""
    taken: list[str] = []

    def one(_case: Case, _tasks: int, side: str) -> Mapping[str, Any]:
        taken.append(side)
        return {SECONDS: 1.0, CPU: 1.0}

    found = measure(only("W1", "L3"), 10, 3, one, [("dbos", 1)])
    assert taken == ["L3", "dbos", FLOWD, FLOWD, "L3", "L3", FLOWD]
    assert found.ratio("dbos") is not None


def test_what_is_missing_is_said_and_not_taken_for_met(capsys: pytest.CaptureFixture[str]) -> None:
    """A reference that is not installed leaves a row that says so, and no must that counts as met."""

    def one(_case: Case, _tasks: int, side: str) -> Mapping[str, Any]:
        return {"missing": "make is not installed here"} if side == "make -j2" else {SECONDS: 1.0, CPU: 1.0}

    found = measure(only("W5", "make -j2", "ninja -j2"), 10, 2, one)
    (section,) = report.sections([found])
    assert [(row.goal.over, row.verdict) for row in section.rows if row.goal.side == FLOWD] == [
        ("make -j2", "not measured"),
        ("ninja -j2", ""),
    ]
    report.show([found], 120.0, 100)
    said = capsys.readouterr().out
    assert "make is not installed here" in said
    assert "0 of 1 musts met; 1 not measured" in said


def test_sleeps_are_held_against_the_ideal() -> None:
    """500 sleeps of 50 ms, 50 at once, take half a second where nothing is lost."""
    ratio = measured({FLOWD: [0.51, 0.52, 0.53]}, only("W4"), 500).ratio(IDEAL)
    assert ratio is not None
    assert ratio.value == pytest.approx(1.04)
    assert next(goal for goal in goals_of("W4", 500) if goal.over == IDEAL).verdict(ratio.value) == "short of aim"


@pytest.mark.parametrize(
    ("goal", "value", "verdict"),
    [
        (Goal("W1", must=1.0), 1.0, "ok"),
        (Goal("W1", must=1.0), 1.01, "SHORT"),
        (Goal("W1", aim=3.5), 4.0, "short of aim"),
        (Goal("W1", must=2.0, aim=1.0), 1.5, "short of aim"),
        (Goal("W1"), 99.0, ""),
    ],
)
def test_verdicts(goal: Goal, value: float, verdict: str) -> None:
    """A goal is met up to its bound, and where nothing is asked nothing is said."""
    assert goal.verdict(value) == verdict


def test_the_table_of_goals_fits_the_cases() -> None:
    """Every goal is of a case, of sides that it has, and asks once; an aim is not laxer than its must."""
    seen: set[tuple[Any, ...]] = set()
    for goal in GOALS:
        case = CASES[goal.case]
        assert goal.side in case.ours
        if goal.figure == SECONDS:
            assert goal.over in {*case.floors, *peers.PEERS, IDEAL}
        else:
            assert goal.what
        assert goal.must is None or goal.aim is None or goal.aim <= goal.must
        seen.add((goal.case, goal.over, goal.figure, goal.side, goal.at))
    assert len(seen) == len(GOALS)
    assert {goal.case for goal in GOALS} == set(CASES)
    for case in CASES.values():
        assert set(case.floors) <= {goal.over for goal in GOALS if goal.case == case.name}


def test_what_is_long_has_fewer_rounds() -> None:
    """A hundred thousand three times, a million once."""
    rounds = [CASES["W9"].rounds_at(tasks, 5) for tasks in (10_000, LONG, HUGE)]
    assert rounds == [5, 3, 1]
    assert CASES["W7v"].sized(50) is None


def test_report_holds_every_goal(capsys: pytest.CaptureFixture[str]) -> None:
    """Scaling and memory join the ratios, with their goals, on the screen and in the document."""
    both = [
        measured({FLOWD: [0.02], "L3": [0.04]}, only("W1", "L3"), 1_000, peak_mb=61.0, over_idle_mb=8.0),
        measured({FLOWD: [0.30], "L3": [0.25]}, only("W1", "L3"), 10_000, peak_mb=61.0, over_idle_mb=10.0),
    ]
    small, large = (
        {(one["over"], one["figure"]): one for one in case["figures"]} for case in report.document(both, 120.0)["cases"]
    )
    assert small["L3", SECONDS]["verdict"] == "ok"
    assert small["", "peak_mb"]["verdict"] == "SHORT"
    assert large["L3", SECONDS]["verdict"] == "SHORT"
    assert large["1,000", SCALING]["value"] == pytest.approx(1.5)
    assert large["", "over_idle_mb"]["verdict"] == "ok"
    assert ("", "peak_mb") not in large
    assert [row.goal.figure for row in report.falls_short(both)] == ["peak_mb", SECONDS, SCALING]
    report.show(both, 120.0, 120)
    assert "flowd 30.0 / L3 25.0" in capsys.readouterr().out


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_report_fits_the_terminal(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Between 80 and 120 columns, and nothing cut short."""
    found = measured({FLOWD: [0.2], "process pool": [0.04]}, only("W11", "process pool"), 200)
    slow = measured({FLOWD: [0.05], "prefect": [5.0]}, only("W1"), 1_000, {"prefect": 1})
    report.show([found, slow], 120.0, width)
    said = capsys.readouterr().out
    assert "≤ 0.0067" in said
    assert max(map(len, said.splitlines())) <= min(max(width, 80), 120)
    assert "flowd 1,000 / process pool 200" in said
    assert "SHORT" in said
    assert "…" not in said


def test_a_peer_that_fails_is_told_and_one_of_ours_ends_the_bench(tmp_path: Path) -> None:
    """Another program's trouble stands in the table; a floor that fails is an error."""
    take = in_a_process(tmp_path, {"doit": Path("/bin/false")})
    assert take(CASES["W1"], 5, "doit") == {"missing": "ended with 1"}
    with pytest.raises(Unable, match="the sample of nobody in W1 at 5 ended with 1"):
        take(CASES["W1"], 5, "nobody")


def test_a_case_that_cannot_be_measured_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said, the rest is shown, and the exit code is not that of a bench that went well."""

    def broken(*_: Any, **__: Any) -> Any:
        def take(case: Case, _tasks: int, _side: str) -> Mapping[str, Any]:
            if case.name == "W2":
                raise Unable("the sample of flowd in W2 ended with 1")
            return {SECONDS: 1.0, CPU: 1.0}

        return take

    monkeypatch.setattr("benching.__main__.in_a_process", broken)
    assert main(["W2", "W3", "--rounds", "1", "--dir", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert "scripts/bench: the sample of flowd in W2 ended with 1" in said.err
    assert "W3 layers of 50" in said.out


def test_peers_are_where_the_user_keeps_what_can_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environments are not in the checkout; one that cannot be made leaves nothing that looks made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def cannot(folder: Path, *_: str) -> Path:
        folder.mkdir()
        raise peers.CannotPrepare("pip failed")

    monkeypatch.setattr(peers, "bare", cannot)
    with pytest.raises(peers.CannotPrepare):
        peers.python_for("doit")
    assert list((tmp_path / "flowd-bench").iterdir()) == []
    assert list(peers.beside("W1", 10_000, ["doit", "dbos"], 5)) == [("doit", 5)]
    assert list(peers.beside("W1", 1_000, ["doit", "dbos"], 5)) == [("doit", 5), ("dbos", 3)]


def test_every_peer_has_a_side() -> None:
    """Its module is there, and its cases are cases."""
    folder = Path(peers.__file__).parent
    for name, peer in peers.PEERS.items():
        assert set(peer.cases) <= set(CASES)
        assert (folder / f"{name}_side.py").exists() == bool(peer.cases)
        assert "==" in peer.requirement


def test_a_tool_that_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named."""
    monkeypatch.setattr(kinds.shutil, "which", lambda _name, path: None)
    with pytest.raises(NotHere, match="ninja is not installed here"):
        tool("ninja")


def test_the_whole_suite_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line: samples in processes of their own, a table, and the figures in a file."""
    file = tmp_path / "figures.json"
    words = ["W2n", "--tasks", "5", "--rounds", "1", "--dir", str(tmp_path), "--json", str(file)]
    assert main(words) == 0
    (case,) = json.loads(file.read_text())["cases"]
    assert [one["over"] for one in case["figures"]] == ["L3w", "L4"]
    assert {side: len(taken) for side, taken in case["samples"].items()} == {"L3w": 1, "L4": 1, FLOWD: 1}
    assert "W2n chain, not idempotent, 5; µs a task, 1 round" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [file]


def test_strict_fails_where_a_must_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code follows the verdicts, and only with --strict."""
    taken = {"seconds": 1.0, "cpu": 1.0}

    def slow(*_: Any, **__: Any) -> Any:
        return lambda _case, _tasks, side: {**taken, "seconds": 9.0 if side == FLOWD else 1.0}

    monkeypatch.setattr("benching.__main__.in_a_process", slow)
    words = ["W3", "--rounds", "1", "--dir", str(tmp_path)]
    assert [main(words), main([*words, "--strict"])] == [0, 1]
    assert "SHORT" in capsys.readouterr().out


def test_a_case_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    """The cases there are are named."""
    with pytest.raises(SystemExit):
        main(["W99"])
    assert "W99 is no case; write one of W1, W2, W2n" in capsys.readouterr().err


def test_help_names_every_case_and_peer(capsys: pytest.CaptureFixture[str]) -> None:
    """What --help says is made from the tables."""
    with pytest.raises(SystemExit):
        main(["--help"])
    said = capsys.readouterr().out
    assert all(case.title in said for case in CASES.values())
    assert all(name in said for name in peers.PEERS)


def test_profile_says_where_the_time_goes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`--profile` runs flowd's side alone and lists its functions, in µs a task."""
    assert main(["--profile", "W2", "--tasks", "5", "--dir", str(tmp_path)]) == 0
    said = capfd.readouterr().err
    assert "own µs" in said
    assert "flowd/engine/" in said
