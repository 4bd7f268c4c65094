"""The state directory: how it and a run's folder come to be, and how runs are found in it."""

import hashlib
import os
from pathlib import Path

import anyio
import pytest

from flowd.adapters.journal.file import FileJournal
from flowd.core.errors import BadRequest, NoSuchRun, StateDamaged, StorageFailing
from flowd.core.events import Envelope, RunStarted
from flowd.testing.conformance import RUN, recorded, sample_definition
from journal_place import DATA, RECORDS, Place, created


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    """A run that was created and never opened."""
    return await created(tmp_path / ".flowd")


async def test_the_state_directory(tmp_path: Path) -> None:
    """It is made with the first run, private, versioned and ignored by git; looking makes nothing."""
    state_dir = tmp_path / "deep" / ".flowd"
    journal = FileJournal(state_dir)
    assert journal.runs() == []
    with pytest.raises(NoSuchRun):
        await recorded(journal)
    assert not state_dir.exists()
    await journal.create(RUN, sample_definition())
    async with journal.open(RUN) as writer:
        writer.append(RECORDS)
    assert (state_dir / "version").read_text() == "1\n"
    assert (state_dir / ".gitignore").read_text() == "*\n"
    for path in [state_dir, *state_dir.rglob("*")]:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
    names = {path.name for path in journal.run_folder(RUN).iterdir()}
    assert names == {"spec.json", "journal.0001.jsonl", "mark", "owner.json", "inbox", "logs"}


async def test_a_newer_format_is_refused(place: Place) -> None:
    """What a newer flowd wrote is not half-read; both versions are named."""
    spec = place.folder / "spec.json"
    spec.write_bytes(spec.read_bytes().replace(b'"format":1', b'"format":7', 1))
    with pytest.raises(StateDamaged, match="newer flowd, in format 7; this one reads up to format 1"):
        await place.journal.definition(RUN)
    (place.state_dir / "version").write_text("3\n")
    with pytest.raises(StateDamaged, match="newer flowd, in format 3; this one reads up to format 1"):
        await recorded(place.journal)
    with pytest.raises(StateDamaged, match="format 3"):
        await place.journal.open(RUN).__aenter__()
    with pytest.raises(StateDamaged, match="format 3"):
        await FileJournal(place.state_dir).create("next", sample_definition())


async def test_a_definition_that_was_changed_is_refused(place: Place) -> None:
    """A run's definition is the one its first record names, to the byte."""
    digest = await FileJournal(place.state_dir).create("other", sample_definition())
    event = RunStarted(pipeline="prices", spec=digest)
    async with place.journal.open("other") as writer:
        writer.append([Envelope("other", 1, RECORDS[0].at, event)])
    assert await place.journal.definition("other") == sample_definition()
    spec = place.state_dir / "runs" / "other" / "spec.json"
    spec.write_bytes(spec.read_bytes().replace(b"ingest", b"digest"))
    with pytest.raises(StateDamaged, match=r"spec\.json: damaged"):
        await place.journal.definition("other")
    spec.write_bytes(b"{")
    with pytest.raises(StateDamaged, match=r"spec\.json"):
        await place.journal.definition("other")


async def test_every_flipped_bit_of_a_definition_is_refused(place: Place) -> None:
    """Whatever byte of it differs, UTF-8 or not, JSON or not: it is said with file and offset."""
    async with place.journal.open(RUN) as writer:
        event = RunStarted(
            pipeline="prices", spec=hashlib.sha256((place.folder / "spec.json").read_bytes()).hexdigest()
        )
        writer.append([Envelope(RUN, 1, RECORDS[0].at, event)])
    path = place.folder / "spec.json"
    good = path.read_bytes()
    for at in range(len(good)):
        for bit in range(8):
            changed = bytearray(good)
            changed[at] ^= 1 << bit
            path.write_bytes(changed)
            with pytest.raises(StateDamaged, match=r"spec\.json: (damaged at offset \d+|written by a newer flowd)"):
                place.journal.defined(RUN)


async def test_a_run_half_made_is_made_anew(place: Place) -> None:
    """A folder without its definition, left by a crash, is no run and blocks no run of its name."""
    (place.folder / "spec.json").unlink()
    assert place.journal.runs() == []
    with pytest.raises(NoSuchRun):
        await place.journal.open(RUN).__aenter__()
    await place.journal.create(RUN, sample_definition())
    assert place.journal.runs() == [RUN]


async def test_a_run_whose_definition_is_lost_is_a_damaged_one(place: Place) -> None:
    """Where records stand it was a run: listed, refused with the file's name, and made anew by nobody."""
    await place.journal.create("newer", sample_definition())
    place.put(DATA, marked=5)
    (place.folder / "spec.json").unlink()
    mark = (place.folder / "mark").read_bytes()
    assert sorted(place.journal.runs()) == sorted([RUN, "newer"])
    said = r"spec\.json: the definition is missing"
    with pytest.raises(StateDamaged, match=said):
        place.journal.defined(RUN)
    with pytest.raises(StateDamaged, match=said):
        await recorded(place.journal)
    with pytest.raises(StateDamaged, match=said):
        await place.journal.open(RUN).__aenter__()
    with pytest.raises(StateDamaged, match=said):
        await place.journal.create(RUN, sample_definition())
    assert not (place.folder / "spec.json").exists()
    assert (place.folder / "mark").read_bytes() == mark


async def test_one_of_many_creates_a_run(tmp_path: Path) -> None:
    """Of many that create one run at once, exactly one does."""
    outcomes: list[bool] = []

    async def create(number: int) -> None:
        try:
            await FileJournal(tmp_path).create(RUN, sample_definition(f"p{number}"))
            outcomes.append(True)
        except FileExistsError:
            outcomes.append(False)

    async with anyio.create_task_group() as group:
        for number in range(12):
            group.start_soon(create, number)
    assert sorted(outcomes) == [False] * 11 + [True]


@pytest.mark.parametrize("run", ["", ".", "..", "a/b", "../x", "a b", "ä", "x" * 129, "a\n", "last"])
async def test_impossible_ids(tmp_path: Path, run: str) -> None:
    """An id that is no plain name reaches no file."""
    journal = FileJournal(tmp_path)
    with pytest.raises(BadRequest, match="cannot be a run's id"):
        await journal.create(run, sample_definition())
    with pytest.raises(BadRequest, match="cannot be a run's id"):
        await recorded(journal, run)


async def test_listing_runs(tmp_path: Path) -> None:
    """The newest first; what is no run is left out."""
    journal = FileJournal(tmp_path)
    for number, run in enumerate(["b-1", "b-2", "a-3", "a"]):
        await journal.create(run, sample_definition())
        os.utime(tmp_path / "runs" / run / "spec.json", (number, number))
    (tmp_path / "runs" / "stray").write_text("")
    assert journal.runs() == ["a", "a-3", "b-2", "b-1"]


async def test_a_state_directory_that_is_a_file(tmp_path: Path) -> None:
    """A file in the place of the state directory is named, with what the system says."""
    (tmp_path / ".flowd").write_text("")
    with pytest.raises(StorageFailing, match=r"\.flowd: cannot make run .*: (Not a directory|File exists)"):
        await FileJournal(tmp_path / ".flowd").create(RUN, sample_definition())
