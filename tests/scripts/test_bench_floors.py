"""The floors of the benchmark suite: each does what it says, on every shape of work."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from benching.floors import FLOORS, JOURNAL
from benching.graphs import (
    NEEDS_IN_A_LAYER,
    STEPS_OF_A_CHAIN,
    WIDTH_OF_A_LAYER,
    Graph,
    chain,
    chains,
    fan_out,
    independent,
    layered,
)
from benching.journal import damage

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


@pytest.mark.parametrize("shape", [fan_out, chain, chains, layered, independent])
@pytest.mark.parametrize("floor", list(FLOORS))
async def test_floor_runs_each_task_once_and_not_too_many_together(floor: str, shape: Any, tmp_path: Path) -> None:
    """Every floor runs the whole of every shape, as wide as allowed and no wider."""
    work = Watched()
    made = shape(TASKS)
    await FLOORS[floor](made, work, 5, tmp_path)
    assert work.calls == len(made)
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


def test_chains_know_nothing_of_each_other() -> None:
    """W8's graph: four tasks in a row, as often as asked."""
    assert chains(2).needs == ((), (0,), (1,), (2,), (), (4,), (5,), (6,))
    assert len(chains(10)) == 10 * STEPS_OF_A_CHAIN
