"""The benchmark suite: each floor does what it says, and the cases, the ratios and the report hold together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benching import report
from benching.__main__ import main
from benching.cases import CASES, FLOWD, Case, Goal
from benching.floors import FLOORS, JOURNAL
from benching.graphs import NEEDS_IN_A_LAYER, WIDTH_OF_A_LAYER, Graph, chain, fan_out, independent, layered
from benching.journal import damage
from benching.measure import Measured, measure
from benching.sample import take

TASKS = 40


class Watched:
    """The work of every task: counts the calls, and how many ran at once."""

    def __init__(self) -> None:
        self.calls = 0
        self.now = 0
        self.most = 0

    async def __call__(self) -> None:
        self.calls += 1
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1


@pytest.mark.parametrize("shape", [fan_out, chain, layered, independent])
@pytest.mark.parametrize("floor", list(FLOORS))
async def test_floor_runs_each_task_once_and_not_too_many_together(floor: str, shape: Any, tmp_path: Path) -> None:
    """Every floor runs the whole of every shape, as wide as allowed and no wider."""
    work = Watched()
    await FLOORS[floor](shape(TASKS), work, 5, tmp_path)
    assert work.calls == TASKS
    assert work.most == (1 if shape is chain else 5)


@pytest.mark.parametrize("floor", ["L2", "L3", "L3w", "L4"])
async def test_journal_of_a_floor_holds_two_checksummed_lines_for_each_task(floor: str, tmp_path: Path) -> None:
    """A start and an end of each task, in that order, each line following the one before it."""
    graph = layered(120)
    await FLOORS[floor](graph, Watched(), 5, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / JOURNAL).read_text().splitlines()]
    place = {(line["task"], line["event"]): line["seq"] for line in lines}
    assert damage(tmp_path / JOURNAL) is None
    assert len(lines) == len(place) == 2 * len(graph)
    for number, needs in enumerate(graph.needs):
        assert place[f"t{number}", "task_started"] < place[f"t{number}", "task_succeeded"]
        for need in needs:
            assert place[f"t{need}", "task_succeeded"] < place[f"t{number}", "task_started"]


async def test_damage_of_a_floors_journal_is_noticed(tmp_path: Path) -> None:
    """The checksums are real: a changed or a missing line is seen."""
    await FLOORS["L2"](chain(5), Watched(), 2, tmp_path)
    path = tmp_path / JOURNAL
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"t3"', b'"t4"'))
    assert "checksum" in str(damage(path))
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[1:]))
    assert "follow" in str(damage(path))


@pytest.mark.parametrize(
    ("floor", "shape", "least", "most"),
    [
        ("L2", fan_out, 1, TASKS),
        ("L3", fan_out, 1, TASKS),
        ("L2", chain, 1, TASKS),
        ("L3w", chain, TASKS, TASKS),
        ("L4", fan_out, TASKS, TASKS),
        ("L4", chain, TASKS, TASKS),
    ],
)
async def test_syncs_of_a_floor(floor: str, shape: Any, least: int, most: int, tmp_path: Path) -> None:
    """Group commit syncs fewer times than there are lines; L4 once a task; L3w once a link of a chain."""
    journal = await FLOORS[floor](shape(TASKS), Watched(), 5, tmp_path)
    assert journal is not None
    assert journal.lines == 2 * TASKS
    assert least <= journal.syncs <= most


@pytest.mark.parametrize("floor", ["L0", "L1"])
async def test_floors_in_memory_write_nothing(floor: str, tmp_path: Path) -> None:
    """L0 and L1 keep no journal."""
    await FLOORS[floor](fan_out(TASKS), Watched(), 5, tmp_path)
    assert not list(tmp_path.iterdir())


def test_layers() -> None:
    """Each task of a layer needs three others of the layer before, and the same ones every time."""
    graph = layered(200)
    assert graph == layered(200)
    for number, needs in enumerate(graph.needs):
        layer = number // WIDTH_OF_A_LAYER
        assert len(set(needs)) == (NEEDS_IN_A_LAYER if layer else 0)
        assert {need // WIDTH_OF_A_LAYER for need in needs} <= {layer - 1}


def test_successors_mirror_needs() -> None:
    """A graph knows who waits for whom from both ends."""
    assert Graph(((), (0,), (0, 1))).successors == ((1, 2), (2,), ())


@pytest.mark.parametrize("name", list(CASES))
def test_every_case_runs_on_every_side(name: str, tmp_path: Path) -> None:
    """A sample of each side at a tiny size: it ends well, took time, and leaves nothing behind."""
    case = replace(CASES[name], sleep_s=0.001 if CASES[name].sleep_s else 0.0)
    for side in (*case.floors, FLOWD):
        figures = take(case, 6, side, tmp_path)
        assert figures["seconds"] > 0
        assert 0 < figures["idle"] <= figures["built"] <= figures["peak"]
    assert not list(tmp_path.iterdir())


def test_flowds_side_is_what_users_have(tmp_path: Path) -> None:
    """Durable, its log lines in run.log, and a retry policy on each task."""
    from benching import ours
    from benching.sample import noop

    made = ours.pipeline(chain(3), noop, tmp_path)

    async def run() -> None:
        async with ours.engine(tmp_path, ["t0", "t1", "t2"], None) as engine:
            await ours.timed_run(engine, made)

    asyncio.run(run())
    (folder,) = (tmp_path / ".flowd" / "runs").iterdir()
    logged = [json.loads(line)["event"] for line in (folder / "run.log").read_text().splitlines()]
    assert logged.count("task_succeeded") == logged.count("task_started") == 3
    assert (folder / "journal.0001.jsonl").stat().st_size > 0
    assert all(task.retry is not None and task.retry.attempts == 3 for task in made.spec.tasks)


def measured(seconds: Mapping[str, list[float]], case: Case, tasks: int) -> Measured:
    """What `measure` makes of samples that took `seconds`, round by round."""
    left = {side: list(taken) for side, taken in seconds.items()}

    def one(_case: Case, _tasks: int, side: str) -> Mapping[str, Any]:
        return {"seconds": left[side].pop(0), "idle": 30e6, "built": 31e6, "peak": 40e6}

    return measure(case, tasks, len(seconds[FLOWD]), one)


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    """A round's samples are compared with each other, so a machine that slows down changes no ratio."""
    case = replace(CASES["W1"], floors=("L3",), goals=(Goal("L3", must=1.0, aim=0.5),))
    found = measured({FLOWD: [2.0, 4.0, 90.0], "L3": [1.0, 2.0, 3.0]}, case, 1_000)
    (ratio,) = found.ratios
    assert (ratio.ratio, ratio.low, ratio.high) == (2.0, 2.0, 30.0)
    assert ratio.floor_us == 2_000
    assert ratio.verdict == "SHORT"
    assert found.bytes_a_task == 10_000


def test_sleeps_are_held_against_the_ideal() -> None:
    """500 sleeps of 50 ms, 50 at once, take half a second where nothing is lost."""
    case = replace(CASES["W4"], floors=(), goals=CASES["W4"].goals[:1])
    (ratio,) = measured({FLOWD: [0.51, 0.52, 0.53]}, case, 500).ratios
    assert ratio.ratio == pytest.approx(1.04)
    assert ratio.verdict == "short of aim"


@pytest.mark.parametrize(
    ("goal", "ratio", "verdict"),
    [
        (Goal("L3", must=1.0), 1.0, "ok"),
        (Goal("L3", must=1.0), 1.01, "SHORT"),
        (Goal("L2", aim=3.5), 4.0, "short of aim"),
        (Goal("L2", must=2.0, aim=1.0), 1.5, "short of aim"),
        (Goal("L0"), 99.0, ""),
    ],
)
def test_verdicts(goal: Goal, ratio: float, verdict: str) -> None:
    """A goal is met up to its bound, and where nothing is asked nothing is said."""
    assert goal.verdict(ratio) == verdict


def test_report_holds_every_goal(capsys: pytest.CaptureFixture[str]) -> None:
    """Scaling and memory join the ratios, with their goals, on the screen and in the document."""
    case = replace(CASES["W1"], floors=("L3",), goals=(Goal("L3", must=1.0),))
    both = [
        measured({FLOWD: [0.02], "L3": [0.04]}, case, 1_000),
        measured({FLOWD: [0.30], "L3": [0.25]}, case, 10_000),
    ]
    figures = {(one["case"], one["over"]): one for one in report.document(both, 120.0)["figures"]}
    assert figures["W1 fan-out, 1,000", "L3"]["verdict"] == "ok"
    assert figures["W1 fan-out, 10,000", "L3"]["verdict"] == "SHORT"
    assert figures["W1 scaling, 10,000", "W1 at 1,000"]["value"] == 1.5
    assert figures["W1 memory, 10,000", "idle"]["value"] == 10.0
    assert {row.case for row in report.falls_short(both)} == {"W1 fan-out, 10,000", "W1 scaling, 10,000"}
    report.show(both, 120.0)
    assert "flowd 30.0 / L3 25.0 µs a task" in capsys.readouterr().out


def test_the_whole_suite_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line: samples in processes of their own, a table, and the figures in a file."""
    file = tmp_path / "figures.json"
    words = ["--case", "W2n", "--tasks", "5", "--rounds", "1", "--dir", str(tmp_path), "--json", str(file)]
    assert main(words) == 0
    assert {one["over"] for one in json.loads(file.read_text())["figures"]} == {"L3w", "L4"}
    assert "W2n chain, not idempotent, 5" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [file]


def test_profile_says_where_the_time_goes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`--profile` runs flowd's side alone and lists its functions, in µs a task."""
    assert main(["--profile", "--case", "W2", "--tasks", "5", "--dir", str(tmp_path)]) == 0
    said = capfd.readouterr().err
    assert "own µs" in said
    assert "flowd/engine/" in said
