"""Declared outputs are on disk before their task is told as succeeded, whoever wrote them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from flowd import Engine, Pipeline
from flowd.core.errors import StorageFailing
from flowd.core.spec import Output
from flowd.engine.files import Files, collect


def lazy(folder: Path) -> Pipeline:
    """One task that writes its output unless it is there."""
    pipeline = Pipeline("p", folder=folder)

    @pipeline.task(outputs=["out/a"])
    async def make() -> None:
        if not (folder / "out/a").exists():
            (folder / "out/a").write_text("a")

    return pipeline


def test_an_output_that_is_unchanged_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that a crash cut off may have written it, and nobody synced it then."""
    path = tmp_path / "a"
    path.write_text("a")
    synced = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    files = Files(tmp_path)
    [artifact] = collect(files, [(Output(path="a"), "a")], {"a": files.look(path)})
    assert artifact.unchanged
    assert {path.stat().st_ino, tmp_path.stat().st_ino} <= synced


async def test_an_output_that_cannot_be_synced_fails_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the disk that fails, not the task: nothing is told, and the run goes on once the disk is well."""
    real = os.fsync
    pipeline = lazy(tmp_path)

    def fsync(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("out/a"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    async with Engine(tmp_path / ".flowd") as engine:
        run = await engine.start(pipeline, run_id="r")
        with pytest.raises(StorageFailing, match=r"out/a: cannot sync: .*EIO"):
            await run.wait()
    monkeypatch.undo()
    async with Engine(tmp_path / ".flowd") as engine:
        result = await (await engine.resume("r", pipeline)).wait()
    assert result.tasks["make"].state == "succeeded"
