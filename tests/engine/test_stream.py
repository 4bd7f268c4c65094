"""The stream: numbers, order, and that nobody is told what is not on disk."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

import anyio
import anyio.lowlevel
import pytest

from flowd.core.events import Envelope, RunAdopted
from flowd.core.secrecy import Secrecy
from flowd.engine.channel import AttemptChannel
from flowd.engine.stream import Stream
from flowd.ports.follower import Signal
from flowd.testing import FakeClock

NOW = datetime(2026, 11, 22, tzinfo=UTC)


class SlowDisk:
    """A writer that syncs only when a test says so."""

    def __init__(self) -> None:
        self.appended: list[int] = []
        self.durable_seq = 0
        self.synced = anyio.Event()

    def append(self, batch: Sequence[Envelope]) -> None:
        self.appended += [envelope.seq for envelope in batch]

    async def durable(self, seq: int, *, hurry: bool = True) -> None:
        while self.durable_seq < seq:
            await self.synced.wait()

    def sync(self, seq: int) -> None:
        self.durable_seq = seq
        self.synced.set()
        self.synced = anyio.Event()


class Reader:
    """A follower that remembers every batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    async def record(self, envelopes: Sequence[Envelope]) -> None:
        self.batches.append([envelope.seq for envelope in envelopes])

    def signal(self, signal: Signal) -> None:
        pass


def adopted(count: int) -> list[RunAdopted]:
    return [RunAdopted(owner="o")] * count


async def test_followers_see_what_is_durable_and_nothing_else():
    """An event that was appended while an earlier one was synced waits for its own sync."""
    disk, reader = SlowDisk(), Reader()
    stream = Stream("r", disk, 0, [reader])
    async with anyio.create_task_group() as group:
        group.start_soon(stream.publish)
        stream.emit(adopted(2), NOW)
        await anyio.wait_all_tasks_blocked()
        stream.emit(adopted(1), NOW)
        disk.sync(2)
        await anyio.wait_all_tasks_blocked()
        assert reader.batches == [[1, 2]]
        assert stream.published == 2
        disk.sync(3)
        await stream.told()
        assert reader.batches == [[1, 2], [3]]
        group.cancel_scope.cancel()


async def test_nobody_is_told_an_empty_batch():
    """What came with the batch before is not told again, and no follower is called for nothing."""
    disk, reader = SlowDisk(), Reader()
    stream = Stream("r", disk, 0, [reader])
    async with anyio.create_task_group() as group:
        group.start_soon(stream.publish)
        stream.emit(adopted(1), NOW)
        await anyio.wait_all_tasks_blocked()
        stream.emit(adopted(1), NOW)
        disk.sync(2)
        await stream.told()
        await anyio.wait_all_tasks_blocked()
        assert reader.batches == [[1, 2]]
        group.cancel_scope.cancel()


async def test_a_follower_that_fails_is_dropped_and_the_others_go_on(caplog: pytest.LogCaptureFixture):
    """One bad reader is named in a warning and asked no more."""

    class Broken(Reader):
        async def record(self, envelopes: Sequence[Envelope]) -> None:
            raise RuntimeError("full")

    disk, reader = SlowDisk(), Reader()
    stream = Stream("r", disk, 0, [Broken(), reader])
    async with anyio.create_task_group() as group:
        group.start_soon(stream.publish)
        stream.emit(adopted(1), NOW)
        disk.sync(1)
        await stream.told()
        group.cancel_scope.cancel()
    assert reader.batches == [[1]]
    assert "follower_dropped" in caplog.text
    assert "Broken" in caplog.text


async def test_a_word_is_stamped_when_it_is_said():
    """A thread speaks while the loop is busy: followers hear it later, with the moment at which it was said."""
    clock, heard = FakeClock(NOW), list[Signal]()

    class Listener(Reader):
        def signal(self, signal: Signal) -> None:
            heard.append(signal)

    channel = AttemptChannel(Stream("r", SlowDisk(), 0, [Listener()]), "t", 1, clock.now, Secrecy())
    speaker = threading.Thread(target=channel.log, args=("info", "said", {}))
    speaker.start()
    speaker.join()
    clock.advance(5)
    assert not heard
    await anyio.lowlevel.checkpoint()
    assert [(signal.fields["event"], signal.at) for signal in heard] == [("said", NOW)]
