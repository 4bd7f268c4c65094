"""Declared outputs are on disk before their task is told as succeeded, whoever wrote them."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from flowd import Engine, Pipeline
from flowd.core.errors import StorageFailing
from flowd.core.spec import Output
from flowd.engine.files import Files, collect, prepare_places
from flowd.engine.looks import Look


def lazy(folder: Path) -> Pipeline:
    """One task that writes its output unless it is there."""
    pipeline = Pipeline("p", folder=folder)

    @pipeline.task(outputs=["out/a"])
    async def make() -> None:
        if not (folder / "out/a").exists():
            (folder / "out/a").write_text("a")

    return pipeline


def looked(files: Files, written: str) -> dict[str, Look]:
    """How an output is before an attempt."""
    return prepare_places(files, [(Output(path=written), written)])


def test_an_output_that_is_unchanged_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that a crash cut off may have written it, and nobody synced it then."""
    path = tmp_path / "a"
    path.write_text("a")
    synced = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    files = Files(tmp_path)
    [artifact] = collect(files, [(Output(path="a"), "a")], looked(files, "a"), time.time_ns())
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


class Rewrites:
    """Which files are written by flowd itself, however often."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        self._real = os.pwrite
        patch.setattr(os, "pwrite", self._pwrite)

    def _pwrite(self, descriptor: int, data: bytes, at: int) -> int:
        self.names.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        return self._real(descriptor, data, at)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("written", ["a", "folder"])
def test_what_no_sync_has_proved_is_written_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, old: bool
) -> None:
    """After a failed sync Linux calls the pages clean: the file of the attempt before may be in memory alone."""
    (tmp_path / "folder").mkdir()
    paths = [tmp_path / "a", tmp_path / "folder/b", tmp_path / "folder/c"]
    for path in paths:
        path.write_text(path.name)
        path.chmod(0o640)
        if old:  # as `cp -p` or `tar` leave it
            os.utime(path, ns=(10**18, 10**18))
    mtimes = [path.stat().st_mtime_ns for path in paths]
    rewrites, files = Rewrites(monkeypatch), Files(tmp_path)
    for _ in range(2):
        collect(files, [(Output(path=written), written)], looked(files, written), time.time_ns())
    assert sorted(rewrites.names) == (["a"] if written == "a" else ["b", "c"])
    assert [path.stat().st_mtime_ns for path in paths] == mtimes
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o640}
    assert [path.read_text() for path in paths] == ["a", "b", "c"]


async def test_what_a_checkpoint_proves_is_not_written_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that keeps its output costs no second copy of it in each run."""
    pipeline = lazy(tmp_path)
    rewrites = Rewrites(monkeypatch)
    async with Engine(tmp_path / ".flowd") as engine:
        for _ in range(2):
            result = await (await engine.start(pipeline, force=True)).wait()
            assert result.counts == {"succeeded": 1}
    assert "a" not in rewrites.names


def test_what_is_older_than_this_boot_is_not_written_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pages came from the disk: a large file that was always there is left alone."""
    path = tmp_path / "a"
    path.write_text("a")
    monkeypatch.setattr(time, "clock_gettime_ns", lambda _clock: -(10**9))
    rewrites, files = Rewrites(monkeypatch), Files(tmp_path)
    collect(files, [(Output(path="a"), "a")], looked(files, "a"), time.time_ns())
    assert rewrites.names == []


def test_names_outside_the_folder_are_synced_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that an attempt made before it was cut off may not have its name on disk."""
    folder, far = tmp_path / "pipeline", tmp_path / "far/off/a"
    folder.mkdir()
    far.parent.mkdir(parents=True)
    far.write_text("a")
    synced = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    collect(Files(folder), [(Output(path=str(far)), str(far))], {})
    assert {path.stat().st_ino for path in (far, far.parent, tmp_path / "far", tmp_path)} <= synced


def test_a_program_that_runs_is_put_in_place_anew(tmp_path: Path) -> None:
    """It cannot be opened for writing; a copy of it goes to disk, and the program runs on."""
    shutil.copy2("/bin/sleep", tmp_path / "program")
    before = (tmp_path / "program").stat()
    files = Files(tmp_path)
    with subprocess.Popen([tmp_path / "program", "60"]) as running:
        try:
            [artifact] = collect(files, [(Output(path="program"), "program")], looked(files, "program"), time.time_ns())
            assert running.poll() is None
        finally:
            running.kill()
    after = (tmp_path / "program").stat()
    assert after.st_ino != before.st_ino
    assert (after.st_mode, after.st_mtime_ns, after.st_size) == (before.st_mode, before.st_mtime_ns, artifact.size)
    assert [path.name for path in tmp_path.iterdir()] == ["program"]
