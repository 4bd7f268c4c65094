"""What every adapter of a port must keep: suites to inherit from, needing pytest and pytest-asyncio.

class TestMine(JournalConformance):
    @pytest.fixture
    def journal(self): return MyJournal()
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from flowd.core.errors import NoSuchRun, StateLocked
from flowd.core.events import AnyEvent, Artifact, Envelope, Reason, RunStarted, TaskStarted, TaskSucceeded
from flowd.core.spec import Call, Definition, PipelineSpec, TaskSpec
from flowd.ports.journal import Journal

RUN = "20261122-0914-k3f"
_START = datetime(2026, 11, 22, 9, 14, 0, 123456, tzinfo=UTC)


def sample_definition(name: str = "prices", folder: str = "/pipelines/prices") -> Definition:
    """A small definition, such as a run is created with."""
    action = Call(module="steps", function="ingest")
    return Definition(
        spec=PipelineSpec(name=name, tasks=(TaskSpec(name="ingest", action=action, executor="thread"),)), folder=folder
    )


def sample_records(count: int, run: str = RUN, first: int = 1) -> list[Envelope]:
    """`count` records of a run, numbered from `first`: the start of the run, then tasks that start and succeed."""
    events: list[AnyEvent] = []
    for number in range(first, first + count):
        task = f"task-{number // 2}"
        if number == 1:
            events.append(RunStarted(pipeline="prices", spec="ab" * 32, params={"source": "prices_ä.csv"}))
        elif number % 2:
            artifact = Artifact(path="data/a.csv", size=number, digest="cd" * 32)
            events.append(TaskSucceeded(task=task, attempt=1, outputs=(artifact,), metrics={"rows": 203.0}))
        else:
            events.append(TaskStarted(task=task, attempt=1, reason=Reason("no_checkpoint", 'it "never" ran\n')))
    return [
        Envelope(run, number, _START + timedelta(milliseconds=number), event)
        for number, event in enumerate(events, first)
    ]


async def recorded(journal: Journal, run: str = RUN, after: int = 0) -> list[Envelope]:
    """All that `read` gives."""
    return [envelope async for envelope in journal.read(run, after)]


class JournalConformance:
    """The promises of ports.journal; an adapter's tests inherit it and give the fixture `journal`."""

    async def test_what_was_appended_is_read_back(self, journal: Journal) -> None:
        """Durable records come back equal and in order, across several openings."""
        await journal.create(RUN, sample_definition())
        records = sample_records(12)
        for part in (records[:5], records[5:6], records[6:]):
            async with journal.open(RUN) as writer:
                assert writer.durable_seq == part[0].seq - 1
                writer.append(part)
                await writer.durable(part[-1].seq)
                assert writer.durable_seq == part[-1].seq
        assert await recorded(journal) == records

    async def test_reading_begins_after_a_record(self, journal: Journal) -> None:
        """`after` leaves out that record and all before it; beyond the last there is nothing."""
        records = await self._filled(journal, 6)
        assert await recorded(journal, after=4) == records[4:]
        assert await recorded(journal, after=6) == []
        assert await recorded(journal, after=600) == []

    async def test_closing_writes_what_is_queued(self, journal: Journal) -> None:
        """Records that nobody waited for are durable once the writer is closed."""
        records = await self._filled(journal, 300)
        assert await recorded(journal) == records

    async def test_closing_after_an_error_writes_what_is_queued(self, journal: Journal) -> None:
        """An error in the block passes unchanged, and what was queued before it is kept."""
        await journal.create(RUN, sample_definition())
        records = sample_records(3)

        async def fails() -> None:
            async with journal.open(RUN) as writer:
                writer.append(records)
                raise LookupError("mine")

        with pytest.raises(LookupError, match="mine"):
            await fails()
        assert await recorded(journal) == records

    async def test_closing_under_cancellation_writes_what_is_queued(self, journal: Journal) -> None:
        """A cancelled scope around the writer loses nothing that was appended."""
        await journal.create(RUN, sample_definition())
        records = sample_records(3)
        with anyio.CancelScope() as scope:
            async with journal.open(RUN) as writer:
                writer.append(records)
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        assert await recorded(journal) == records

    async def test_a_cancelled_host_task_writes_what_is_queued(self, journal: Journal) -> None:
        """Cancelled by the loop itself, not by a scope, a task's writer loses nothing either."""
        await journal.create(RUN, sample_definition())
        records = sample_records(3)
        opened = anyio.Event()

        async def write() -> None:
            async with journal.open(RUN) as writer:
                writer.append(records)
                opened.set()
                await anyio.sleep_forever()

        host = asyncio.ensure_future(write())
        await opened.wait()
        host.cancel()
        with pytest.raises(asyncio.CancelledError):
            await host
        assert await recorded(journal) == records
        async with journal.open(RUN) as writer:
            assert writer.durable_seq == 3

    async def test_a_record_is_durable_without_hurry_too(self, journal: Journal) -> None:
        """Whoever waits without hurry waits a moment longer, not for ever."""
        await journal.create(RUN, sample_definition())
        async with journal.open(RUN) as writer:
            writer.append(sample_records(2))
            with anyio.fail_after(5):
                await writer.durable(2, hurry=False)
            assert await recorded(journal) == sample_records(2)

    async def test_many_may_wait(self, journal: Journal) -> None:
        """Each of many waiters returns, with its own record durable; one who gives up harms none."""
        await journal.create(RUN, sample_definition())
        seen: list[int] = []
        async with journal.open(RUN) as writer, anyio.create_task_group() as group:

            async def wait(seq: int) -> None:
                await writer.durable(seq, hurry=bool(seq % 2))
                assert writer.durable_seq >= seq
                seen.append(seq)

            for record in sample_records(40):
                writer.append([record])
                group.start_soon(wait, record.seq)
            with anyio.move_on_after(0):
                await writer.durable(40)
        assert sorted(seen) == list(range(1, 41))

    async def test_reading_beside_the_writer(self, journal: Journal) -> None:
        """A reader beside the writer sees durable records, and none that is not."""
        await journal.create(RUN, sample_definition())
        async with journal.open(RUN) as writer:
            for record in sample_records(20):
                writer.append([record])
                before = writer.durable_seq
                found = await recorded(journal)
                assert found == sample_records(len(found))
                assert before <= len(found) <= writer.durable_seq
                await writer.durable(record.seq)
                assert await recorded(journal) == sample_records(record.seq)

    async def test_selecting_events(self, journal: Journal) -> None:
        """Those of the given names, in order; all of them where none is given."""
        await journal.create(RUN, sample_definition())
        records = sample_records(20)
        async with journal.open(RUN) as writer:
            writer.append(records)
            await writer.durable(20)
        names = {type(record.event).__struct_config__.tag for record in records}
        for name in sorted(map(str, names)):
            found = [envelope async for envelope in journal.select(RUN, (name,))]
            assert found == [record for record in records if type(record.event).__struct_config__.tag == name]
        assert [envelope async for envelope in journal.select(RUN, (), 7)] == records[7:]

    async def test_one_writer(self, journal: Journal) -> None:
        """A second writer is refused while the first is open, and let in afterwards."""
        await journal.create(RUN, sample_definition())
        async with journal.open(RUN):
            with pytest.raises(StateLocked):
                await journal.open(RUN).__aenter__()
        async with journal.open(RUN) as writer:
            assert writer.durable_seq == 0

    async def test_runs_are_apart(self, journal: Journal) -> None:
        """Two runs can be written at once; each reads back its own."""
        await journal.create("a", sample_definition())
        await journal.create("b", sample_definition())
        async with journal.open("a") as first, journal.open("b") as second:
            first.append(sample_records(4, "a"))
            second.append(sample_records(2, "b"))
        assert await recorded(journal, "a") == sample_records(4, "a")
        assert await recorded(journal, "b") == sample_records(2, "b")

    @pytest.mark.parametrize(
        "batch",
        [
            sample_records(1, first=2),
            sample_records(1, "another"),
            [*sample_records(2), *sample_records(1)],
            [*sample_records(1), *sample_records(1, first=3)],
        ],
        ids=["gap", "another run", "again", "gap within"],
    )
    async def test_a_record_that_does_not_follow_is_refused(self, journal: Journal, batch: Sequence[Envelope]) -> None:
        """Records out of order are a defect: the whole batch is refused and the writer goes on."""
        await journal.create(RUN, sample_definition())
        async with journal.open(RUN) as writer:
            with pytest.raises(ValueError, match="is due"):
                writer.append(batch)
            writer.append(sample_records(2))
        assert await recorded(journal) == sample_records(2)

    async def test_waiting_for_what_was_never_appended_is_refused(self, journal: Journal) -> None:
        """Waiting for a record that is not on its way would last for ever."""
        await journal.create(RUN, sample_definition())
        async with journal.open(RUN) as writer:
            with pytest.raises(ValueError, match="never appended"):
                await writer.durable(1)

    async def test_a_closed_writer_takes_nothing(self, journal: Journal) -> None:
        """Records appended after the close would be lost: they are refused."""
        await journal.create(RUN, sample_definition())
        async with journal.open(RUN) as writer:
            pass
        with pytest.raises(RuntimeError, match="closed"):
            writer.append(sample_records(1))

    async def test_the_definition_comes_back(self, journal: Journal) -> None:
        """A run's definition is what it was created with, and its digest tells two apart."""
        one = await journal.create("one", sample_definition())
        two = await journal.create("two", sample_definition("other"))
        assert await journal.definition("two") == sample_definition("other")
        assert one != two

    async def test_a_run_is_created_once(self, journal: Journal) -> None:
        """An id is taken for good."""
        await journal.create(RUN, sample_definition())
        with pytest.raises(FileExistsError):
            await journal.create(RUN, sample_definition("other"))
        assert await journal.definition(RUN) == sample_definition()

    async def test_a_run_that_never_began_can_be_made_again(self, journal: Journal) -> None:
        """Whoever made it was cut off before the first record; after one, the id is taken."""
        digest = await journal.create(RUN, sample_definition())
        assert await journal.create(RUN, sample_definition()) == digest
        async with journal.open(RUN) as writer:
            writer.append(sample_records(1))
        with pytest.raises(FileExistsError):
            await journal.create(RUN, sample_definition())

    async def test_unknown_runs(self, journal: Journal) -> None:
        """What does not exist can be neither read nor written nor described."""
        with pytest.raises(NoSuchRun):
            await recorded(journal, "nothing")
        with pytest.raises(NoSuchRun):
            await journal.definition("nothing")
        with pytest.raises(NoSuchRun):
            await journal.open("nothing").__aenter__()

    async def _filled(self, journal: Journal, count: int) -> list[Envelope]:
        await journal.create(RUN, sample_definition())
        records = sample_records(count)
        async with journal.open(RUN) as writer:
            writer.append(records)
        return records
