"""A power cut before or after any sync takes back nothing that was promised."""

from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest

from flowd.adapters import disk
from flowd.adapters.checkpoints import FileCheckpoints
from flowd.adapters.journal.file import FileJournal
from flowd.adapters.results import FileResults
from flowd.core.errors import NoSuchRun
from flowd.ports.stores import Checkpoint
from flowd.testing.conformance import RUN, recorded, sample_definition, sample_records
from power_cut import Died, ForgetfulDisk

KNOWN = Checkpoint(run=RUN, at=datetime(2026, 11, 22, tzinfo=UTC))
DATA = b"\x80pickle"


class Life:
    """All that a run does to the disk, and what has been promised of it so far."""

    def __init__(self, root: Path) -> None:
        self.state_dir = root / "project" / ".flowd"
        self.created = False
        self.durable = 0
        self.announced = False
        self.merged = False
        self.digest = ""

    def promised(self) -> dict[str, object]:
        """The promises given, as they stand."""
        return {name: value for name, value in vars(self).items() if name != "state_dir"}

    async def live(self) -> None:
        """Create a run, write it in two sittings, keep a result, merge a checkpoint."""
        journal = FileJournal(self.state_dir)
        checkpoints = FileCheckpoints(self.state_dir, journal)
        with suppress(FileExistsError):  # an earlier life came as far as to a first record
            await journal.create(RUN, sample_definition())
        self.created = True
        await checkpoints.announce("prices-1", RUN)
        self.announced = True
        for part in (sample_records(6), sample_records(6, first=7)):
            async with journal.open(RUN) as writer:
                left = [record for record in part if record.seq > writer.durable_seq]
                for start in range(0, len(left), 3):
                    writer.append(left[start : start + 3])
                    await writer.durable(left[start : start + 3][-1].seq)
                    self.durable = left[start : start + 3][-1].seq
        self.digest = await FileResults(self.state_dir).put(DATA, "pickle")
        await checkpoints.merge("prices-1", RUN, {"x": KNOWN})
        self.merged = True


async def check(state_dir: Path, promised: dict[str, object]) -> None:
    """Whatever was promised holds in this state directory, and the run can go on."""
    journal = FileJournal(state_dir)
    checkpoints = FileCheckpoints(state_dir, journal)
    if promised["digest"]:
        assert await FileResults(state_dir).get(str(promised["digest"]), "pickle") == DATA
    known = await checkpoints.load("prices-1")
    assert checkpoints.reports == []
    if promised["merged"]:
        assert known["x"] == KNOWN
    elif promised["announced"]:
        assert "task-1" in known or not promised["durable"]
    try:
        found = await recorded(journal)
    except NoSuchRun:
        assert not promised["created"]
        await journal.create(RUN, sample_definition())
        found = []
    assert found == sample_records(len(found))
    assert len(found) >= int(str(promised["durable"]))
    async with journal.open(RUN) as writer:
        assert writer.durable_seq == len(found)
        writer.append(sample_records(2, first=len(found) + 1))
    assert await recorded(journal) == sample_records(len(found) + 2)


async def test_a_cut_at_every_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every cut the promises given until then hold, and the run can be gone on with."""
    root = tmp_path / "root"
    (root / "project").mkdir(parents=True)
    life = Life(root / "project")
    life.state_dir.parent.mkdir()
    watched = ForgetfulDisk(life.state_dir.parent, life.promised)
    with watched.watching(monkeypatch):
        await life.live()
    assert len(watched.cuts) > 30
    monkeypatch.setattr(disk, "boot_id", lambda: "the next boot")
    for number, cut in enumerate(watched.cuts):
        target = tmp_path / str(number)
        cut.restore(watched.root, target)
        promised = cut.promised
        assert isinstance(promised, dict)
        await check(target / ".flowd", promised)


async def test_a_cut_after_a_predecessor_died_at_any_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a dead process left without a sync is made sure of before anything is promised on it."""
    for die_at in count(1):
        project = tmp_path / f"life-{die_at}"
        project.mkdir()
        first, second = Life(project), Life(project)
        watched = ForgetfulDisk(project, second.promised)
        watched.die_at = die_at
        with watched.watching(monkeypatch):
            try:
                await first.live()
                break
            except (Died, BaseExceptionGroup):
                pass
        with watched.watching(monkeypatch):
            await second.live()
        watched.cuts[-1].restore(watched.root, target := tmp_path / f"found-{die_at}")
        with monkeypatch.context() as patch:
            patch.setattr(disk, "boot_id", lambda: "the next boot")
            await check(target / "project" / ".flowd", second.promised())
    assert die_at > 20
