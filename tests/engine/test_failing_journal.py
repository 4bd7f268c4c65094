"""A journal that fails ends its run: with one error that names the cause, and after what ran has stopped."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import anyio
import pytest

from flowd import Engine, Pipeline
from flowd.core.errors import StorageFailing


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
