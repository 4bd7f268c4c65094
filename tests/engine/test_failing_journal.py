"""A journal that fails ends its run: with one error that names the cause, and after what ran has stopped."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from flowd import Engine, Pipeline
from flowd.adapters.executors.guardian import _Line, _refusal
from flowd.adapters.journal.writer import GroupWriter
from flowd.core.errors import StorageFailing
from flowd.core.events import Envelope, TaskStarted


class FailingDisk:
    """Syncs of journals fail from the moment that it is told so."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.fails = False
        self._real = os.fdatasync
        patch.setattr(os, "fdatasync", self._sync)

    def _sync(self, descriptor: int) -> None:
        if self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._real(descriptor)


@pytest.mark.parametrize("idempotent", [True, False])
async def test_the_run_is_let_go_when_its_tasks_have_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, idempotent: bool
) -> None:
    """One StorageFailing, whoever meets it first, and nothing of the run still runs then."""
    disk = FailingDisk(monkeypatch)
    pipeline = Pipeline("p", folder=tmp_path)
    running, stopped = anyio.Event(), anyio.Event()

    @pipeline.task(idempotent=idempotent)
    async def lasting() -> None:
        running.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.05)
            stopped.set()

    for number in range(4):

        @pipeline.task(name=f"t{number}", idempotent=idempotent)
        async def task() -> None:
            await running.wait()
            disk.fails = True

        @pipeline.task(name=f"then{number}", needs=[f"t{number}"], idempotent=idempotent)
        async def then() -> None:
            """What is started while the disk fails."""

    async with Engine(tmp_path / ".flowd", grace="2s") as engine:
        run = await engine.start(pipeline, run_id="r")
        with anyio.fail_after(10), pytest.raises(StorageFailing, match=r"cannot sync: .*EIO"):
            await run.wait()
        assert stopped.is_set()


async def test_nothing_begins_after_a_record_that_was_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even an idempotent body, which does not wait for its start to be on disk."""
    pipeline = Pipeline("p", folder=tmp_path)
    begun = []

    @pipeline.task
    async def task() -> None:
        begun.append("task")

    real = GroupWriter.append

    def append(writer: GroupWriter, batch: Sequence[Envelope]) -> None:
        if any(isinstance(envelope.event, TaskStarted) for envelope in batch):
            raise StorageFailing("the disk is gone")
        real(writer, batch)

    monkeypatch.setattr(GroupWriter, "append", append)
    async with Engine(tmp_path / ".flowd") as engine:
        run = await engine.start(pipeline, run_id="r")
        with pytest.raises(StorageFailing, match="the disk is gone"):
            await run.wait()
    assert begun == []


@pytest.mark.parametrize("idempotent", [True, False])
async def test_a_command_for_which_the_disk_has_no_room_never_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, idempotent: bool
) -> None:
    """Storage fails, not the task: it is neither failed nor uncertain, and begins once there is room."""
    pipeline = Pipeline("p", folder=tmp_path)
    pipeline.shell("task", "echo x >> ledger", idempotent=idempotent)
    async with Engine(tmp_path / ".flowd") as engine:
        monkeypatch.setattr(_Line, "begin", _no_room)
        run = await engine.start(pipeline, run_id="r")
        with pytest.raises(StorageFailing, match=r"task\.1\.log: No space left on device"):
            await run.wait()
    monkeypatch.undo()
    assert not (tmp_path / "ledger").exists()
    async with Engine(tmp_path / ".flowd") as engine:
        result = await (await engine.resume("r", pipeline)).wait()
    assert result.tasks["task"].state == "succeeded"
    assert (tmp_path / "ledger").read_text() == "x\n"


def _no_room(line: _Line, watched: Any, order: dict[str, Any], _descriptors: object) -> None:
    """The guardian's answer where it can make no file."""
    said = f"{os.fsdecode(order['log'])}: {os.strerror(errno.ENOSPC)}"
    line._watched[watched.ident] = watched
    line._end(watched.ident, failure=_refusal("no_room", said))
