"""The journal on disk: failing disks, group commit, ownership: what was acknowledged survives."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace

import anyio
import msgspec
import pytest

from flowd.adapters import disk
from flowd.adapters.journal import file, lock
from flowd.adapters.journal.file import FileJournal
from flowd.adapters.journal.lock import new_incarnation
from flowd.core.errors import StateDamaged, StateLocked, StorageFailing
from flowd.core.events import RunAdopted
from flowd.testing.conformance import RUN, recorded, sample_definition, sample_records
from journal_place import DATA, LINES, RECORDS, Place, created


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    """A run that was created and never opened."""
    return await created(tmp_path / ".flowd")


# --- a failing disk ------------------------------------------------------------------------------------


def failing(error: int, after: int = 0) -> Callable[..., int]:
    """A system call that fails from the n-th time on."""
    calls = 0

    def call(*_arguments: object) -> int:
        nonlocal calls
        calls += 1
        if calls > after:
            raise OSError(error, os.strerror(error))
        return 0

    return call


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ("write", errno.ENOSPC, "cannot write: No space left on device"),
        ("write", errno.EIO, "cannot write: Input/output error"),
        ("fdatasync", errno.EIO, "cannot sync: Input/output error"),
        ("pwrite", errno.EROFS, "cannot write: Read-only file system"),
    ],
)
async def test_a_failed_commit_is_for_ever(
    place: Place, monkeypatch: pytest.MonkeyPatch, call: str, error: int, words: str
) -> None:
    """Whoever waits is told file and cause; nothing is acknowledged any more, though the disk be well again."""

    async def session() -> None:
        async with place.journal.open(RUN) as writer:
            writer.append(RECORDS[:1])
            await writer.durable(1)
            with monkeypatch.context() as broken:
                broken.setattr(os, call, failing(error))
                writer.append(RECORDS[1:3])
                with pytest.raises(StorageFailing, match=words):
                    await writer.durable(3)
            for again in range(2):
                with pytest.raises(StorageFailing, match=words):
                    writer.append(RECORDS[3:4])
                with pytest.raises(StorageFailing, match=words):
                    await writer.durable(again)
            assert writer.durable_seq == 1

    with pytest.raises(StorageFailing, match=words):
        await session()
    assert await recorded(place.journal) == RECORDS[:1]


async def test_a_disk_that_does_not_answer_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is acknowledged meanwhile; it is said once what is waited for, and then it goes on."""
    monkeypatch.setattr(file, "_PATIENCE_S", 0.05)
    said: list[str] = []
    asked, answers = anyio.Event(), threading.Event()

    def waiting(text: str) -> None:
        said.append(text)
        asked.set()

    journal = FileJournal(tmp_path, waiting=waiting)
    await journal.create(RUN, sample_definition())
    async with journal.open(RUN) as writer:
        monkeypatch.setattr(os, "fdatasync", lambda _descriptor: answers.wait(20))
        writer.append(RECORDS[:1])
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            waits = group.create_task(writer.durable(1))
            await asked.wait()
            assert (waits.done(), writer.durable_seq) == (False, 0)
            answers.set()
        assert writer.durable_seq == 1
    assert said == [f"{tmp_path / 'runs' / RUN}: its disk has not answered for 0.05s"]


async def test_after_a_failed_sync_comes_a_new_segment(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records whose sync failed are written and synced anew elsewhere before they count."""

    async def session() -> None:
        async with place.journal.open(RUN) as writer:
            writer.append(RECORDS[:2])
            await writer.durable(2)
            monkeypatch.setattr(os, "fdatasync", failing(errno.EIO))
            writer.append(RECORDS[2:4])

    with pytest.raises(StorageFailing):
        await session()
    monkeypatch.undo()
    assert place.segment.read_bytes() == b"".join(LINES[:4])
    assert await recorded(place.journal) == RECORDS[:2]
    async with place.journal.open(RUN) as writer:
        assert writer.durable_seq == 4
        assert writer.repairs == []
        writer.append(RECORDS[4:])
    assert place.segment.read_bytes() == b"".join(LINES[:2])
    assert (place.folder / "journal.0002.jsonl").read_bytes() == b"".join(LINES[2:])
    assert await place.readable() == (RECORDS, None)
    async with place.journal.open(RUN):
        pass
    assert not (place.folder / "journal.0003.jsonl").exists()


async def test_short_writes_are_continued(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes a few bytes at a time gets all of them in order."""
    real = os.write
    async with place.journal.open(RUN) as writer:
        monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
        writer.append(RECORDS)
        await writer.durable(5)
    assert place.segment.read_bytes() == DATA


async def test_a_full_disk_leaves_a_torn_tail(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """First comes a short write, then the error; the next owner sets the piece aside and goes on."""
    real, room = os.write, len(LINES[1]) + 30

    def write(descriptor: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = real(descriptor, data[:room])
        room -= taken
        return taken

    async def session() -> None:
        async with place.journal.open(RUN) as writer:
            writer.append(RECORDS[:1])
            await writer.durable(1)
            monkeypatch.setattr(os, "write", write)
            writer.append(RECORDS[1:])

    with pytest.raises(StorageFailing, match="No space left"):
        await session()
    monkeypatch.undo()
    async with place.journal.open(RUN) as writer:
        assert writer.durable_seq == 2
        assert [repair.bytes for repair in writer.repairs] == [30]
        writer.append(RECORDS[2:])
    assert await place.readable() == (RECORDS, None)


async def move_folder(place: Place) -> None:
    """Give the run's folder another name."""
    place.folder.rename(place.folder.with_name("elsewhere"))


async def replace_folder(place: Place) -> None:
    """Put a new run of the same name in its place."""
    await move_folder(place)
    await FileJournal(place.state_dir).create(RUN, sample_definition())


async def remove_journal(place: Place) -> None:
    """Remove the open segment."""
    place.segment.unlink()


async def move_journal(place: Place) -> None:
    """Give the open segment another name."""
    place.segment.rename(place.folder / "aside")


async def copy_journal(place: Place) -> None:
    """Put a copy in the place of the open segment."""
    copy = place.folder / "copy"
    copy.write_bytes(place.segment.read_bytes())
    copy.rename(place.segment)


async def append_by_hand(place: Place) -> None:
    """Write into the open segment from outside."""
    place.segment.write_bytes(place.segment.read_bytes() + b"\n")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (move_folder, "cannot find the run's folder"),
        (replace_folder, "was replaced"),
        (remove_journal, "was removed"),
        (move_journal, "was removed"),
        (copy_journal, "was replaced"),
        (append_by_hand, "was changed by another program"),
    ],
)
async def test_a_place_that_changes_under_the_writer(
    place: Place, harm: Callable[[Place], Awaitable[None]], words: str
) -> None:
    """Nothing is acknowledged in a folder or file that is no longer the one that was opened."""

    async def session() -> None:
        async with place.journal.open(RUN) as writer:
            writer.append(RECORDS[:1])
            await writer.durable(1)
            await harm(place)
            writer.append(RECORDS[1:])
            await writer.durable(5)

    with pytest.raises(StorageFailing, match=words):
        await session()


async def test_file_work_goes_on_without_room_for_another_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks may have used up the threads of the machine: those for files that are there do all of the work."""
    threads = disk.FileThreads(4, "flowd-test")

    def no_room(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    done: list[int] = []
    try:
        with monkeypatch.context() as full:
            full.setattr(threading.Thread, "start", no_room)
            async with asyncio.timeout(20), asyncio.TaskGroup() as group:
                for number in range(10):
                    group.create_task(threads.run(done.append, number))
    finally:
        threads.close()
    assert sorted(done) == list(range(10))


# --- group commit --------------------------------------------------------------------------------------


async def test_many_records_share_few_syncs(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand records appended one by one, with someone who waits now and then, need few syncs."""
    real, syncs = os.fdatasync, 0

    def count(descriptor: int) -> None:
        nonlocal syncs
        syncs += 1
        real(descriptor)

    async with place.journal.open(RUN) as writer:
        monkeypatch.setattr(os, "fdatasync", count)
        for record in sample_records(1000):
            writer.append([record])
            if record.seq % 100 == 0:
                await writer.durable(record.seq)
        await writer.durable(1000)
    assert syncs == 10


async def test_a_follower_reads_what_is_new(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks again after the last record it got does not read the journal from its start."""
    records = sample_records(400)
    async with place.journal.open(RUN) as writer:
        writer.append(records[:390])
        await writer.durable(390)
        assert await recorded(place.journal) == records[:390]
        read, real = 0, os.pread

        def count(descriptor: int, size: int, offset: int) -> bytes:
            nonlocal read
            data = real(descriptor, size, offset)
            read += len(data)
            return data

        monkeypatch.setattr(os, "pread", count)
        for end in range(391, 401):
            writer.append(records[end - 1 : end])
            await writer.durable(end)
            assert await recorded(place.journal, after=end - 1) == records[end - 1 : end]
    assert read < 10 * 600
    assert await recorded(place.journal, after=100) == records[100:]


async def test_user_work_does_not_delay_the_journal(place: Place) -> None:
    """Records become durable while every thread of the loop's default executor is taken."""
    gate = threading.Event()
    async with place.journal.open(RUN) as writer:
        loop = asyncio.get_running_loop()
        blocked = [loop.run_in_executor(None, gate.wait) for _ in range(64)]
        writer.append(RECORDS)
        try:
            with anyio.fail_after(5):
                await writer.durable(5)
        finally:
            gate.set()
            await asyncio.gather(*blocked)


# --- ownership -----------------------------------------------------------------------------------------

PROGRAM = """
import sys, anyio
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from flowd.adapters.journal import lock
from flowd.adapters.journal.file import FileJournal
from flowd.adapters.journal.lock import new_incarnation
from flowd.core.events import Envelope, TaskStarted

def record(seq):
    return Envelope(sys.argv[2], seq, datetime.now(UTC), TaskStarted(task=f"task-{seq}", attempt=1))

async def main():
    async with FileJournal(Path(sys.argv[1])).open(sys.argv[2]) as writer:
        seq = writer.durable_seq
        print("open", flush=True)
        while True:
            writer.append([record(seq + 1 + more) for more in range(50)])
            seq += 50
            await writer.durable(seq)
            print(writer.durable_seq, flush=True)

anyio.run(main)
"""


def start_writer(place: Place) -> subprocess.Popen[str]:
    """A process that writes for ever and prints what is durable."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(place.state_dir), RUN], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def start_child() -> subprocess.Popen[bytes]:
    """A process that inherits all that can be inherited."""
    return subprocess.Popen(["sleep", "30"], close_fds=False)


async def test_acknowledged_records_survive_sigkill(place: Place) -> None:
    """Killed in the middle of commits, again and again, a writer loses nothing it had said was durable."""
    for round_ in range(4):
        with start_writer(place) as process:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(5 + 3 * round_)]
            process.kill()
            said += process.stdout.readlines()
        acknowledged = int([line for line in said if line.endswith("\n")][-1])
        before = await recorded(place.journal)
        assert len(before) >= acknowledged
        async with place.journal.open(RUN) as writer:
            assert writer.durable_seq >= len(before)
        found = await recorded(place.journal)
        assert [(record.seq, getattr(record.event, "task", None)) for record in found] == [
            (seq, f"task-{seq}") for seq in range(1, len(found) + 1)
        ]
        assert len(found) >= acknowledged


async def test_a_second_owner_is_refused(place: Place) -> None:
    """While its owner lives, or is stopped, a run is refused, naming the pid; killed, it is free at once."""
    alias = place.state_dir.with_name("alias")
    alias.symlink_to(place.state_dir)
    with start_writer(place) as process:
        try:
            os.kill(process.pid, signal.SIGSTOP)
            for journal in (place.journal, FileJournal(alias)):
                owner = journal.is_owned(RUN)
                assert owner is not None
                assert owner.pid == process.pid
                with pytest.raises(StateLocked, match=rf"{RUN} is held by pid {process.pid} on \S+ since \d{{4}}-"):
                    await journal.open(RUN).__aenter__()
        finally:
            process.kill()
    assert place.journal.is_owned(RUN) is None
    async with place.journal.open(RUN):
        owner = place.journal.is_owned(RUN)
        assert owner is not None
        assert owner.pid == os.getpid()


async def test_a_child_does_not_inherit_the_lock(place: Place) -> None:
    """A process started while a run is open holds nothing of it once the run is closed."""
    async with place.journal.open(RUN):
        child = start_child()
    try:
        assert place.journal.is_owned(RUN) is None
    finally:
        child.kill()
        child.wait()


async def test_owners_whose_left_overs_were_not_ended_are_named_until_they_are(place: Place) -> None:
    """One that dies before it wrote anything passes on who was before it; one that has written need not."""

    async def before(owner: str, *, writes: bool = False) -> list[str]:
        async with FileJournal(place.state_dir, incarnation=owner).open(RUN) as writer:
            if writes:
                writer.append(RECORDS[:1])
                await writer.durable(1)
            return list(writer.left_by)

    assert await before("first") == []
    assert await before("second") == ["first"]
    assert await before("third") == ["first", "second"]
    assert await before("third", writes=True) == ["first", "second", "third"]
    assert await before("fourth") == ["third"]


@pytest.mark.parametrize("damage", [None, b"", b'{"pid": 1, "incarn', b"{}"])
async def test_the_journal_names_the_owners_where_their_file_does_not(place: Place, damage: bytes | None) -> None:
    """Without `owner.json`, or with a torn one, all owners of this start of the machine are named from the record."""
    first, second, of_another_start = new_incarnation(), new_incarnation(), "1-2-00000000-ffffffff"
    begun = msgspec.structs.replace(RECORDS[0].event, owner=first)
    owners = [begun, RunAdopted(owner=of_another_start), RunAdopted(owner=second)]
    async with place.journal.open(RUN) as writer:
        writer.append([msgspec.structs.replace(RECORDS[n], event=owner) for n, owner in enumerate(owners)])
        await writer.durable(len(owners))
    file = place.folder / "owner.json"
    file.unlink()
    if damage is not None:
        file.write_bytes(damage)
    async with place.journal.open(RUN) as writer:
        assert list(writer.left_by) == [first, second]


async def test_making_a_run_never_waits_for_the_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who finds a folder half made waits until it is made, not for its owner, who may hold it for days."""
    spec, aside = place.folder / "spec.json", place.state_dir / "aside"
    spec.rename(aside)

    def sleep(_seconds: float) -> None:
        if aside.exists():
            aside.rename(spec)

    monkeypatch.setattr(lock, "time", SimpleNamespace(sleep=sleep))
    owner = lock.take(place.folder)
    try:
        with anyio.fail_after(5):
            await place.journal.create(RUN, sample_definition())
    finally:
        os.close(owner)


async def test_looking_does_not_keep_an_owner_out(place: Place) -> None:
    """Whoever asks who owns a run never makes an opening fail."""
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            place.journal.is_owned(RUN)

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for _ in range(20):
            async with place.journal.open(RUN):
                pass
    finally:
        stop.set()
        looker.join()


async def test_no_descriptor_is_left_open(place: Place) -> None:
    """Openings, refused openings and readings leave no file open."""

    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    place.put(DATA, marked=5)
    before = count()
    async with place.journal.open(RUN):
        with pytest.raises(StateLocked):
            await place.journal.open(RUN).__aenter__()
        await recorded(place.journal)
        await anext(place.journal.read(RUN))
    place.put(DATA[:-9], marked=5)
    with pytest.raises(StateDamaged):
        await place.journal.open(RUN).__aenter__()
    assert count() == before
