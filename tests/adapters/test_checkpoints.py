"""Checkpoints: the newest of each task, whatever was killed, damaged or forgotten; on disk and without."""

import fcntl
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zlib import crc32

import anyio
import msgspec
import pytest

from flowd.adapters.checkpoints import FileCheckpoints, MemoryCheckpoints, pipeline_key
from flowd.adapters.journal.file import FileJournal
from flowd.adapters.journal.memory import MemoryJournal
from flowd.core.errors import StateDamaged, StorageFailing
from flowd.core.events import AnyEvent, Artifact, Envelope, Stored, TaskReset, TaskStarted, TaskSucceeded
from flowd.ports.journal import Journal
from flowd.ports.stores import Checkpoint, Checkpoints
from flowd.testing.conformance import sample_definition

START = datetime(2026, 11, 22, 9, 14, tzinfo=UTC)
NOW = START + timedelta(hours=1)


def minute(number: int) -> datetime:
    """A moment of the tests' morning."""
    return START + timedelta(minutes=number)


def success(task: str, run: str, at: int, attempt: int = 1) -> Checkpoint:
    """The checkpoint of a task that took half a minute."""
    return Checkpoint(
        run=run,
        at=minute(at),
        attempt=attempt,
        duration_s=30.0,
        result=Stored(digest="ab" * 32, size=2, inline=msgspec.Raw(b"42")),
        outputs=(Artifact(path=f"{task}.csv", size=3, digest="cd" * 32),),
        metrics={"rows": 203.0},
        parts={"action": f"{run}-{at}"},
    )


async def record(journal: Journal, run: str, found: dict[str, Checkpoint], name: str = "prices") -> None:
    """A run whose journal tells of these successes."""
    await journal.create(run, sample_definition(name))
    events: list[tuple[datetime, AnyEvent]] = []
    for task, known in found.items():
        began = known.at - timedelta(seconds=known.duration_s)
        events.append((began, TaskStarted(task=task, attempt=known.attempt)))
        events.append(
            (
                known.at,
                TaskSucceeded(
                    task=task,
                    attempt=known.attempt,
                    result=known.result,
                    outputs=known.outputs,
                    metrics=known.metrics,
                    parts=known.parts,
                ),
            )
        )
    async with journal.open(run) as writer:
        writer.append([Envelope(run, seq, at, event) for seq, (at, event) in enumerate(events, 1)])


class Kept:
    """Where the checkpoints of the sample pipeline are kept."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.folder = file.parent


class Suite:
    """What both kinds keep."""

    KEY = "prices-12345678"

    async def test_the_newest_wins(self, store: Checkpoints) -> None:
        """Merging keeps the newest success of each task, in whatever order runs end."""
        assert await store.load(self.KEY) == {}
        await store.merge(self.KEY, "new", {"a": success("a", "new", 5), "b": success("b", "new", 5)})
        await store.merge(self.KEY, "old", {"a": success("a", "old", 3), "c": success("c", "old", 3)})
        assert await store.load(self.KEY) == {
            "a": success("a", "new", 5),
            "b": success("b", "new", 5),
            "c": success("c", "old", 3),
        }
        assert await store.load("other-12345678") == {}

    async def test_announced_runs_are_looked_into(self, store: Checkpoints, journal: Journal) -> None:
        """A run that crashed before its merge loses no checkpoint; merged, it counts once."""
        await store.merge(self.KEY, "first", {"a": success("a", "first", 1), "b": success("b", "first", 1)})
        await store.announce(self.KEY, "crashed")
        assert set(await store.load(self.KEY)) == {"a", "b"}
        found = {"a": success("a", "crashed", 4, attempt=2)}
        await record(journal, "crashed", found)
        assert await store.load(self.KEY) == {**found, "b": success("b", "first", 1)}
        await store.merge(self.KEY, "crashed", {})
        assert (await store.load(self.KEY))["a"] == success("a", "first", 1)

    async def test_what_is_forgotten_stays_so(self, store: Checkpoints, journal: Journal) -> None:
        """A forgotten checkpoint comes back neither from a merge nor from an unmerged run; a new success counts."""
        crashed = {"a": success("a", "crashed", 4), "b": success("b", "crashed", 4)}
        await record(journal, "crashed", crashed)
        await store.announce(self.KEY, "crashed")
        assert await store.forget(self.KEY, ("a", "unknown")) == ("a",)
        assert await store.load(self.KEY) == {"b": crashed["b"]}
        await store.merge(self.KEY, "crashed", crashed)
        assert await store.load(self.KEY) == {"b": crashed["b"]}
        assert await store.forget(self.KEY, ()) == ("b",)
        assert await store.forget(self.KEY, ()) == ()
        await store.merge(self.KEY, "old", {"b": success("b", "old", 2)})
        assert await store.load(self.KEY) == {}
        await store.merge(self.KEY, "new", {"b": success("b", "new", 61)})
        assert await store.load(self.KEY) == {"b": success("b", "new", 61)}

    async def test_a_clock_set_back_forgets_all_the_same(self, store: Checkpoints) -> None:
        """A checkpoint from later than now is forgotten like any other."""
        await store.merge(self.KEY, "r", {"a": success("a", "r", 90)})
        assert await store.forget(self.KEY, ("a",)) == ("a",)
        await store.merge(self.KEY, "r", {"a": success("a", "r", 90)})
        assert await store.load(self.KEY) == {}

    async def test_a_person_may_touch(self, store: Checkpoints) -> None:
        """A checkpoint of the same moment that says more replaces the one before."""
        await store.merge(self.KEY, "r", {"a": success("a", "r", 1)})
        touched = msgspec.structs.replace(success("a", "r", 1), touched=True)
        await store.merge(self.KEY, "r", {"a": touched})
        assert await store.load(self.KEY) == {"a": touched}


class TestMemoryCheckpoints(Suite):
    """Without a disk."""

    @pytest.fixture
    def journal(self) -> MemoryJournal:
        """An empty one."""
        return MemoryJournal()

    @pytest.fixture
    def store(self, journal: MemoryJournal) -> MemoryCheckpoints:
        """Beside that journal."""
        return MemoryCheckpoints(journal, now=lambda: NOW)

    async def test_without_a_journal(self) -> None:
        """With nothing to look into, what was merged is known."""
        store = MemoryCheckpoints()
        await store.announce(self.KEY, "r")
        await store.merge(self.KEY, "q", {"a": success("a", "q", 1)})
        assert await store.load(self.KEY) == {"a": success("a", "q", 1)}


class TestFileCheckpoints(Suite):
    """On disk, and what only a disk can do to them."""

    @pytest.fixture
    def journal(self, tmp_path: Path) -> FileJournal:
        """A state directory of its own."""
        return FileJournal(tmp_path / ".flowd")

    @pytest.fixture
    def store(self, journal: FileJournal) -> FileCheckpoints:
        """In that state directory."""
        return FileCheckpoints(journal.state_dir, journal, now=lambda: NOW)

    @pytest.fixture
    def kept(self, store: FileCheckpoints, journal: FileJournal) -> Kept:
        """The file of the pipeline that the runs here belong to."""
        return Kept(journal.state_dir / "pipelines" / self.key(journal) / "checkpoints.json")

    def key(self, journal: FileJournal) -> str:
        """The key of the sample pipeline."""
        return pipeline_key("prices", Path("/pipelines/prices"), journal.state_dir)

    async def test_every_damaged_byte_is_noticed(
        self, store: FileCheckpoints, journal: FileJournal, kept: Kept, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever byte is altered, the file is set aside, reported, and made anew from the journals."""
        monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
        key = self.key(journal)
        await record(journal, "one", {"a": success("a", "one", 1)})
        await record(journal, "two", {"a": success("a", "two", 2), "b": success("b", "two", 2)})
        await record(journal, "else", {"z": success("z", "else", 3)}, name="another")
        await store.rebuild(key)
        whole = await store.load(key)
        assert whole == {"a": success("a", "two", 2), "b": success("b", "two", 2)}
        good = kept.file.read_bytes()
        for at in range(0, len(good), 7):
            changed = bytearray(good)
            changed[at] ^= 0x20
            kept.file.write_bytes(bytes(changed))
            store.reports.clear()
            assert await store.load(key) == whole
            assert len(store.reports) == 1
            assert f"{kept.file}: damaged" in store.reports[0]
            aside = max(kept.folder.glob("*.corrupt-*"), key=lambda file: int(file.name.rpartition("-")[2]))
            assert aside.read_bytes() == bytes(changed)
            assert kept.file.read_bytes() == good

    @pytest.mark.parametrize("harm", ["empty", "cut", "folder", "rubbish"])
    async def test_a_merge_heals_too(self, store: FileCheckpoints, journal: FileJournal, kept: Kept, harm: str) -> None:
        """A merge into a damaged file loses neither what it brings nor what journals hold."""
        key = self.key(journal)
        await record(journal, "one", {"a": success("a", "one", 1)})
        await store.merge(key, "one", {"a": success("a", "one", 1)})
        if harm == "folder":
            kept.file.unlink()
            kept.file.mkdir()
        else:
            kept.file.write_bytes({"empty": b"", "cut": kept.file.read_bytes()[:-5], "rubbish": b"[" * 10_000}[harm])
        await store.merge(key, "two", {"b": success("b", "two", 2)})
        assert await store.load(key) == {"a": success("a", "one", 1), "b": success("b", "two", 2)}
        assert len(store.reports) == 1

    async def test_what_is_forgotten_stays_so_when_made_anew(
        self, store: FileCheckpoints, journal: FileJournal, kept: Kept
    ) -> None:
        """Damage to the checkpoints does not bring back what a person had dropped."""
        key = self.key(journal)
        found = {"a": success("a", "one", 1), "b": success("b", "one", 1)}
        await record(journal, "one", found)
        await store.merge(key, "one", found)
        await store.forget(key, ("a",))
        kept.file.write_bytes(kept.file.read_bytes().replace(b"one-1", b"one-2"))
        assert await store.load(key) == {"b": success("b", "one", 1)}
        assert "may be fresh again" not in store.reports[0]

    async def test_a_merge_that_changes_nothing_writes_nothing(
        self, store: FileCheckpoints, kept: Kept, journal: FileJournal
    ) -> None:
        """A run in which everything was fresh leaves the file alone."""
        key = self.key(journal)
        await store.merge(key, "one", {"a": success("a", "one", 1)})
        before = kept.file.stat()
        await store.announce(key, "two")
        await store.merge(key, "two", {"a": success("a", "one", 1)})
        after = kept.file.stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert list((kept.folder / "open").iterdir()) == []
        await store.merge("fresh-12345678", "one", {})
        assert not (journal.state_dir / "pipelines" / "fresh-12345678" / "checkpoints.json").exists()

    async def test_a_damaged_journal_gives_what_stands(self, store: FileCheckpoints, journal: FileJournal) -> None:
        """Of an unmerged run whose journal is damaged, what stands before the damage counts, and it is reported."""
        key = self.key(journal)
        found = {"a": success("a", "one", 1), "b": success("b", "one", 2)}
        await record(journal, "one", found)
        await store.announce(key, "one")
        segment = journal.run_folder("one") / "journal.0001.jsonl"
        segment.write_bytes(segment.read_bytes()[:-30])
        assert await store.load(key) == {"a": found["a"]}
        assert "checkpoints of run one are known in part" in store.reports[0]

    async def test_a_reset_keeps_the_older_success(self, store: FileCheckpoints, journal: FileJournal) -> None:
        """A task asked for again and not yet done keeps the checkpoint it has."""
        key = self.key(journal)
        await record(journal, "one", {"a": success("a", "one", 1)})
        async with journal.open("one") as writer:
            writer.append([Envelope("one", 3, minute(2), TaskReset(task="a"))])
        await store.announce(key, "one")
        assert await store.load(key) == {"a": success("a", "one", 1)}

    async def test_merges_of_many_processes_add_up(self, store: FileCheckpoints, journal: FileJournal) -> None:
        """Runs that end at once, in several stores on one state directory, lose nothing of each other."""
        key = self.key(journal)

        async def merge(number: int) -> None:
            other = FileCheckpoints(journal.state_dir, journal)
            await other.merge(key, f"r{number}", {f"t{number}": success("t", "r", number)})
            other.close()

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(merge, number)
        assert len(await store.load(key)) == 12

    async def test_a_merge_waits_for_the_lock(self, store: FileCheckpoints, journal: FileJournal, kept: Kept) -> None:
        """While another process changes the file, a merge waits; the loop does not."""
        key = self.key(journal)
        kept.folder.mkdir(parents=True)
        descriptor = os.open(kept.folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        timer = threading.Timer(0.1, os.close, (descriptor,))
        timer.start()
        with anyio.fail_after(5):
            await store.merge(key, "r", {"a": success("a", "r", 1)})
        timer.join()
        assert await store.load(key) == {"a": success("a", "r", 1)}

    async def test_a_newer_format_is_refused(self, store: FileCheckpoints, journal: FileJournal, kept: Kept) -> None:
        """A file of a newer flowd is neither half-read nor thrown away."""
        key = self.key(journal)
        await store.merge(key, "r", {"a": success("a", "r", 1)})
        head, _, rest = kept.file.read_bytes().partition(b"\n")
        head = head[: head.rindex(b',"sum"')].replace(b'"format":1', b'"format":2')
        kept.file.write_bytes(b'%b,"sum":"%08x"}\n%b' % (head, crc32(head), rest))
        with pytest.raises(StateDamaged, match="newer flowd, in format 2; this one reads up to 1"):
            await store.load(key)
        assert kept.file.exists()

    async def test_a_failing_disk_is_named(
        self, store: FileCheckpoints, journal: FileJournal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A merge that cannot be written says so, and leaves what was there."""
        key = self.key(journal)
        await store.merge(key, "one", {"a": success("a", "one", 1)})

        def fail(_descriptor: int, _data: bytes) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as full:
            full.setattr(os, "write", fail)
            with pytest.raises(StorageFailing, match=r"checkpoints\.json: cannot write: No space left"):
                await store.merge(key, "two", {"a": success("a", "two", 2)})
        assert await store.load(key) == {"a": success("a", "one", 1)}
        names = [file.name for file in (journal.state_dir / "pipelines" / key).iterdir()]
        assert names == ["checkpoints.json"]

    def test_keys_tell_pipelines_apart(self, tmp_path: Path) -> None:
        """Name and place make a key; a project that moves as a whole keeps its own."""
        here = pipeline_key("p", tmp_path / "a" / "configs", tmp_path / "a" / ".flowd")
        assert here == pipeline_key("p", tmp_path / "b" / "configs", tmp_path / "b" / ".flowd")
        assert here != pipeline_key("p", tmp_path / "a" / "other", tmp_path / "a" / ".flowd")
        assert here != pipeline_key("q", tmp_path / "a" / "configs", tmp_path / "a" / ".flowd")
        assert here.startswith("p-")
        assert len(here) == len("p-12345678")
