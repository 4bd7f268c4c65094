"""Which files are read again: none that is as it was, and every one that could have changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowd.adapters.shelf import FileShelf, MemoryShelf
from flowd.engine import files as files_room
from flowd.engine.files import ABSENT, Files
from flowd.engine.looks import Looks, is_settled

A_TICK = 0.06
"""Seconds after which a file has been left alone for long enough."""


def files_on(shelf, folder: Path, **options) -> Files:
    """The files as another process would see them."""
    return Files(folder, Looks(shelf, "looks"), **options)


def truth(path: Path) -> str:
    """The digest of what is really there."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else ABSENT


def written(path: Path, text: bytes) -> None:
    path.write_bytes(text)


def put_back(path: Path, text: bytes) -> None:
    """Other content of the same size, under the old time."""
    before = path.stat()
    path.write_bytes(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def renamed_over(path: Path, text: bytes) -> None:
    """Another file of the same size and time in its place."""
    before, other = path.stat(), path.with_name("other")
    other.write_bytes(text)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def touched(path: Path, _text: bytes) -> None:
    os.utime(path)


def removed(path: Path, _text: bytes) -> None:
    path.unlink()


CHANGES = [written, put_back, renamed_over, touched, removed]
TEXTS = st.sampled_from([b"one", b"two", b"six", b"four"])  # of one size, but for one


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(CHANGES), TEXTS, st.booleans()), max_size=12))
def test_a_change_within_the_tick_of_the_clock_is_seen(changes):
    """However quickly a file is changed after it was read, and whoever looks, its digest is that of its content."""
    folder = Path(tempfile.mkdtemp())
    try:
        path, shelf = folder / "a", MemoryShelf()
        path.write_bytes(b"one")
        files = files_on(shelf, folder)
        for change, text, another in changes:
            assert files.glance([str(path)]) == {str(path): truth(path)}
            (change if path.exists() else written)(path, text)
            if another:
                files.keep(all_seen=True)
                files = files_on(shelf, folder)
            assert files.digest(path) == truth(path)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_a_file_that_is_believed_is_seen(change, tmp_path):
    """A file that was read long ago is read again after any change, by another process too."""
    path, shelf = tmp_path / "a", MemoryShelf()
    path.write_bytes(b"one")
    time.sleep(A_TICK)
    first = files_on(shelf, tmp_path)
    assert first.digest(path) == truth(path)
    first.keep(all_seen=True)
    change(path, b"two")
    assert first.digest(path) == truth(path)
    assert files_on(shelf, tmp_path).digest(path) == truth(path)


def test_a_file_that_was_left_alone_is_read_once(tmp_path, monkeypatch):
    """It is read by the first process and by none after it; a touch makes it be read once more."""
    reads = counted(monkeypatch)
    path, shelf = tmp_path / "a", MemoryShelf()
    path.write_bytes(b"one")
    time.sleep(A_TICK)
    for _ in range(3):
        files = files_on(shelf, tmp_path)
        assert files.digest(path) == files.digest(path) == truth(path)
        files.keep(all_seen=True)
    assert len(reads) == 1
    os.utime(path)
    time.sleep(A_TICK)
    for _ in range(3):
        files = files_on(shelf, tmp_path)
        files.digest(path)
        files.keep(all_seen=True)
    assert len(reads) == 2


def test_where_others_set_the_times_every_look_reads(tmp_path, monkeypatch):
    """However long a file was left alone there; which place that is, is asked once a file system."""
    reads, asked = counted(monkeypatch), []
    shelf, paths = MemoryShelf(), [tmp_path / "a", tmp_path / "b"]
    for path in paths:
        path.write_bytes(b"one")
    time.sleep(A_TICK)
    for _ in range(2):
        files = files_on(shelf, tmp_path, keeps_times=lambda path: asked.append(path) is not None)
        for path in paths * 2:
            files.digest(path)
        files.keep(all_seen=True)
    assert len(reads) == 8
    assert asked == [str(paths[0])] * 2


def test_a_file_that_is_young_is_read_again(tmp_path, monkeypatch):
    """A write in the same tick of the clock could follow: the first look is not believed."""
    reads = counted(monkeypatch)
    path = tmp_path / "a"
    path.write_bytes(b"one")
    files = files_on(MemoryShelf(), tmp_path)
    files.digest(path)
    files.digest(path)
    assert len(reads) == 2


@pytest.mark.parametrize(
    ("ctime_ns", "later_ns", "settled"),
    [
        (5_000_000_001, 49_000_000, False),
        (5_000_000_001, 51_000_000, True),
        (5_000_000_000, 1_900_000_000, False),  # a file system that counts whole seconds, or two of them
        (5_000_000_000, 2_100_000_000, True),
        (5_000_000_001, -1_000_000, False),  # a clock behind that of the file system
    ],
)
def test_when_a_look_is_believed(ctime_ns, later_ns, settled):
    """A file is believed once no write can carry its time any more, by the coarsest clock it may have."""
    assert is_settled(ctime_ns, ctime_ns + later_ns) is settled


def test_damage_of_what_is_kept_costs_a_read_and_nothing_else(tmp_path):
    """Cut short or altered at any byte, it counts as not there."""
    path, shelf = tmp_path / "a", FileShelf(tmp_path)
    path.write_bytes(b"one")
    time.sleep(A_TICK)
    files = files_on(shelf, tmp_path)
    files.digest(path)
    files.keep(all_seen=True)
    place = tmp_path / "kept" / "looks"
    whole = place.read_bytes()
    assert Looks(shelf, "looks").load()
    for at in range(len(whole)):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            place.write_bytes(damaged)
            assert not Looks(shelf, "looks").load()
            assert files_on(shelf, tmp_path).digest(path) == truth(path)


def test_large_files_are_digested_like_small_ones(tmp_path):
    """Those that are read side by side get each its own digest; what is absent or no file is so."""
    names = [tmp_path / str(number) for number in range(5)]
    for number, path in enumerate(names):
        path.write_bytes(bytes([number]) * (2 << 20 if number % 2 else 3))
    gone, folder = tmp_path / "gone", tmp_path / "folder"
    folder.mkdir()
    os.mkfifo(tmp_path / "pipe")
    found = Files(tmp_path).glance([*map(str, names), str(gone), str(folder), str(tmp_path / "pipe")])
    assert [found[str(path)] for path in names] == [truth(path) for path in names]
    assert found[str(gone)] == found[str(tmp_path / "pipe")] == ABSENT
    assert found[str(folder)] == Files(tmp_path).digest(folder)


def counted(monkeypatch) -> list[str]:
    """Which files are hashed from now on."""
    reads: list[str] = []
    plain = hashlib.file_digest

    def digest(file, name):
        reads.append(file.name)
        return plain(file, name)

    monkeypatch.setattr(files_room.hashlib, "file_digest", digest)
    return reads
