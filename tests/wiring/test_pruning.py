"""`flowd prune` on real state: what it says is what it does, and a death in the middle leaves nothing half."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from flowd import Engine, Pipeline
from flowd.__main__ import main
from flowd.core.declared import Retention
from flowd.wiring import pruning
from flowd.wiring.doctor.examination import examine
from flowd.wiring.pruning import Pruner

LATER = timedelta(hours=2)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory that is there already."""
    return tmp_path / ".flowd"


async def runs_of(state: Path, count: int, name: str = "work", **policies: Any) -> list[str]:
    """So many runs, each with a result that is a file of its own."""
    begun = []
    async with Engine(state) as engine:
        for number in range(count):
            pipeline = Pipeline(name, folder=state.parent, params={"n": 0})
            pipeline.task(name="large", cache=True, **policies)(_large)
            begun.append((await engine.run(pipeline, params={"n": number})).run_id)
            await anyio.sleep(0.01)  # what is newer is told by the file system's clock
    return begun


async def _large(ctx: Any) -> str:
    return f"{ctx.params['n']}" * 40_000


def names(state: Path) -> set[str]:
    return {path.name for path in (state / "runs").iterdir()}


def results(state: Path) -> int:
    return sum(1 for path in (state / "artifacts").rglob("*") if path.is_file())


async def test_old_runs_go_and_their_results_with_them(state: Path) -> None:
    """Once results have settled; what is left is whole, and its newest success is still fresh."""
    begun = await runs_of(state, 4)
    pruner = Pruner(state, instead=Retention(runs=2))
    now = datetime.now(UTC)
    plan = pruner.plan(now)
    assert [gone.run for gone in plan.runs] == begun[:2]
    assert names(state) == set(begun)
    assert results(state) == 4
    done = pruner.carry_out(plan)
    assert done == plan
    assert names(state) == set(begun[2:])
    swept = pruner.carry_out(pruner.plan(now + LATER))
    assert len(swept.results) == 2
    assert results(state) == 2
    assert examine(state, now).exit_code == 0
    async with Engine(state) as engine:
        pipeline = Pipeline("work", folder=state.parent, params={"n": 0})
        pipeline.task(name="large", cache=True)(_large)
        again = await engine.run(pipeline, params={"n": 3})
    assert again.counts == {"fresh": 1}


async def test_what_a_pipeline_says_is_kept_of_it(state: Path) -> None:
    """As its newest run has it; one that says nothing keeps what the configuration says."""
    async with Engine(state) as engine:
        for name, retention in (("own", {"runs": 1}), ("other", None)):
            for _ in range(3):
                raw = {"name": name, "tasks": {"a": {"run": "true"}}, **({"retention": retention} if retention else {})}
                path = state.parent / f"{name}.yaml"
                path.write_text(json.dumps(raw))
                await engine.run(Pipeline.load(path), run_id=f"{name}{len(engine.runs())}")
                await anyio.sleep(0.01)
    pruner = Pruner(state, otherwise=Retention(runs=2))
    pruner.carry_out(pruner.plan(datetime.now(UTC)))
    assert names(state) == {"own2", "other4", "other5"}


async def test_the_run_that_a_fresh_task_comes_from_stays(state: Path) -> None:
    """However old it is: its record is what the checkpoint could be made anew from."""
    [first] = await runs_of(state, 1)
    async with Engine(state) as engine:
        for _ in range(3):
            pipeline = Pipeline("work", folder=state.parent, params={"n": 0})
            pipeline.task(name="large", cache=True)(_large)
            await engine.run(pipeline)
    done = Pruner(state, instead=Retention(runs=1))
    done.carry_out(done.plan(datetime.now(UTC)))
    assert first in names(state)
    assert len(names(state)) == 2


async def test_a_run_that_has_not_ended_stays(state: Path) -> None:
    """Waiting for a person, or interrupted, or going on right now."""
    asking = Pipeline("work", folder=state.parent)
    asking.approve("ask", "Go on?")
    async with Engine(state) as engine:
        waits = await engine.start(asking)
        await waits.wait()
        begun = await runs_of(state, 3)
        pruner = Pruner(state, instead=Retention(runs=1))
        pruner.carry_out(pruner.plan(datetime.now(UTC)))
    assert names(state) == {waits.id, begun[-1]}


async def test_beside_a_damaged_run_no_result_goes(state: Path) -> None:
    """It might be what that run refers to; the run stays and is named."""
    begun = await runs_of(state, 3)
    journal = state / "runs" / begun[0] / "journal.0001.jsonl"
    data = bytearray(journal.read_bytes())
    data[len(data) // 2] ^= 1
    journal.write_bytes(data)
    pruner = Pruner(state, instead=Retention(runs=1))
    now = datetime.now(UTC)
    pruner.carry_out(pruner.plan(now))
    plan = pruner.plan(now + LATER)
    assert plan.damaged == [begun[0]]
    assert plan.results == {}
    assert begun[0] in names(state)
    assert results(state) == 3


async def test_what_was_written_to_since_the_plan_stays(state: Path) -> None:
    """A retry between the two makes the run a living one."""
    begun = await runs_of(state, 3)
    pruner = Pruner(state, instead=Retention(runs=1))
    plan = pruner.plan(datetime.now(UTC))
    os.utime(state / "runs" / begun[0] / "mark")
    done = pruner.carry_out(plan)
    assert [gone.run for gone in done.runs] == [begun[1]]


def test_an_output_goes_only_where_it_says_so_and_is_as_it_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After its retention, with `delete: true`, and not where another hand has changed it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "pipeline.yaml").write_text(
        """
name: files
tasks:
  a:
    run: echo x > goes; echo x > stays; echo x > changed
    outputs:
      - {path: goes, retention: 1h, delete: true}
      - {path: stays, retention: 1h}
      - {path: changed, retention: 1h, delete: true}
"""
    )
    assert main(["run"]) == 0
    (tmp_path / "changed").write_text("y\n")
    pruner = Pruner(tmp_path / ".flowd")
    assert pruner.plan(datetime.now(UTC)).outputs == []
    plan = pruner.plan(datetime.now(UTC) + LATER)
    assert [output.path.name for output in plan.outputs] == ["goes"]
    pruner.carry_out(plan)
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == [
        "changed",
        "pipeline.yaml",
        "pyproject.toml",
        "stays",
    ]
    capsys.readouterr()


def python(*words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([sys.executable, *words], capture_output=True, check=False)


async def test_a_dry_run_says_exactly_what_goes(state: Path) -> None:
    """The same document, but for the word that it was dry."""
    begun = await runs_of(state, 4)
    words = ("-m", "flowd", "prune", "--runs", "2", "--json", "--state-dir", str(state))
    dry = json.loads(python(*words, "--dry-run").stdout)
    assert names(state) == set(begun)
    done = json.loads(python(*words).stdout)
    assert (dry.pop("dry_run"), done.pop("dry_run")) == (True, False)
    assert dry == done
    assert [one["run"] for one in done["runs"]] == begun[:2]
    assert names(state) == set(begun[2:])


async def test_killed_in_the_middle_every_run_is_there_whole_or_not_at_all(state: Path) -> None:
    """By a real SIGKILL between the rename and the end of the deletion; the next prune, or the doctor, ends it."""
    begun = await runs_of(state, 3)
    program = (
        "import os, shutil, sys\nfrom datetime import UTC, datetime\nfrom pathlib import Path\n"
        "from flowd.core.declared import Retention\nfrom flowd.wiring.pruning import Pruner\n"
        "def half(folder, **_):\n"
        "    (Path(folder) / 'spec.json').unlink()\n    os.kill(os.getpid(), 9)\n"
        "shutil.rmtree = half\npruner = Pruner(Path(sys.argv[1]), instead=Retention(runs=1))\n"
        "pruner.carry_out(pruner.plan(datetime.now(UTC)))\n"
    )
    assert python("-c", program, str(state)).returncode == -9
    assert names(state) == set(begun[1:])
    assert [path.name for path in (state / pruning.REMOVING).iterdir()] == [begun[0]]
    now = datetime.now(UTC)
    [finding] = examine(state, now).findings
    assert finding.code == "removal_left"
    examine(state, now, repair=True)
    assert list((state / pruning.REMOVING).iterdir()) == []
    assert examine(state, now).findings == []


async def test_a_look_is_kept_as_long_as_nothing_is_written(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hour after hour, only what is new is read."""
    await runs_of(state, 3)
    pruner = Pruner(state)
    pruner.plan(datetime.now(UTC))
    read: list[str] = []
    real = pruning.FileJournal.records

    def counted(self: Any, run: str, events: Any = ()) -> Any:
        read.append(run)
        return real(self, run, events)

    monkeypatch.setattr(pruning.FileJournal, "records", counted)
    pruner.plan(datetime.now(UTC))
    assert read == []
