"""Large results by content: nothing altered, missing or foreign is ever handed out."""

import hashlib
import os
import pickle
from pathlib import Path

import anyio
import pytest

from flowd.adapters.results import FileResults, MemoryResults
from flowd.core.errors import StateDamaged, StorageFailing
from flowd.ports.stores import Results

DATA = pickle.dumps({"weights": [0.5, 1.5]})


@pytest.fixture
def store(tmp_path: Path) -> FileResults:
    """In a state directory of its own."""
    return FileResults(tmp_path / ".flowd")


@pytest.fixture(params=["file", "memory"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Results:
    """Both kinds."""
    return FileResults(tmp_path / ".flowd") if request.param == "file" else MemoryResults()


@pytest.mark.parametrize("codec", ["json", "pickle"])
@pytest.mark.parametrize("data", [DATA, b"", b"\n", b"x" * 300_000])
async def test_what_was_kept_comes_back(either: Results, codec: str, data: bytes) -> None:
    """The same bytes under the same digest, as often as they are kept."""
    digest = await either.put(data, codec)
    assert digest == hashlib.sha256(data).hexdigest()
    assert await either.put(data, codec) == digest
    assert await either.get(digest, codec) == data


async def test_what_was_never_kept(either: Results) -> None:
    """A digest without bytes is damage, since only a journal can have named it."""
    with pytest.raises(StateDamaged, match="is gone"):
        await either.get("ab" * 32, "json")


async def test_the_same_content_is_kept_once(store: FileResults, tmp_path: Path) -> None:
    """Keeping content again writes nothing; files are private."""
    digest = await store.put(DATA, "json")
    before = store.path(digest).stat()
    await store.put(DATA, "json")
    after = store.path(digest).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert store.path(digest) == tmp_path / ".flowd" / "artifacts" / digest[:2] / digest[2:]
    assert not (tmp_path / ".flowd" / "key").exists()
    await store.put(DATA + b"!", "pickle")
    for path in (tmp_path / ".flowd").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


@pytest.mark.parametrize("codec", ["json", "pickle"])
async def test_every_damaged_byte_is_noticed(store: FileResults, codec: str) -> None:
    """Whatever byte is altered, cut or added, nothing is handed out; keeping the content again heals it."""
    digest = await store.put(DATA, codec)
    path = store.path(digest)
    good = path.read_bytes()
    for at in range(len(good)):
        changed = bytearray(good)
        changed[at] ^= 0x20
        for bad in (bytes(changed), good[:at]):
            path.write_bytes(bad)
            with pytest.raises(StateDamaged, match=f"{path}: damaged at offset"):
                await store.get(digest, codec)
    path.write_bytes(good + b"\n")
    with pytest.raises(StateDamaged):
        await store.get(digest, codec)
    await store.put(DATA, codec)
    assert await store.get(digest, codec) == DATA


async def test_a_foreign_pickle_is_never_handed_out(store: FileResults, tmp_path: Path) -> None:
    """A pickle of another state directory, one posing as JSON, and one without a key are refused."""
    other = FileResults(tmp_path / "other")
    digest = await other.put(DATA, "pickle")
    await store.put(b"something", "pickle")
    store.path(digest).parent.mkdir(parents=True, exist_ok=True)
    store.path(digest).write_bytes(other.path(digest).read_bytes())
    with pytest.raises(StateDamaged, match="was not written by this state directory"):
        await store.get(digest, "pickle")
    store.path(digest).unlink()
    await store.put(DATA, "json")
    with pytest.raises(StateDamaged, match="was not written by this state directory"):
        await store.get(digest, "pickle")
    await store.put(DATA, "pickle")
    (tmp_path / ".flowd" / "key").unlink()
    with pytest.raises(StateDamaged, match="key that results were signed with is gone"):
        await store.get(digest, "pickle")
    (tmp_path / ".flowd" / "key").write_bytes(b"short")
    with pytest.raises(StateDamaged, match="key: damaged"):
        await store.get(digest, "pickle")


async def test_odd_files(store: FileResults) -> None:
    """A pipe or link in the place of a result is refused at once."""
    digest = await store.put(DATA, "json")
    path = store.path(digest)
    path.unlink()
    os.mkfifo(path)
    with anyio.fail_after(5), pytest.raises(StateDamaged, match="not a regular file"):
        await store.get(digest, "json")
    path.unlink()
    path.symlink_to("/dev/zero")
    with anyio.fail_after(5), pytest.raises(StateDamaged, match="not a regular file"):
        await store.get(digest, "json")


async def test_one_key_for_all(tmp_path: Path) -> None:
    """Stores that make the key at once agree on one, and read each other's pickles."""
    stores = [FileResults(tmp_path) for _ in range(8)]
    digests: list[str] = []

    async def put(number: int) -> None:
        digests.append(await stores[number].put(b"%d" % number, "pickle"))

    async with anyio.create_task_group() as group:
        for number in range(8):
            group.start_soon(put, number)
    for digest in digests:
        assert hashlib.sha256(await stores[0].get(digest, "pickle")).hexdigest() == digest
    assert sorted(os.listdir(tmp_path)) == ["artifacts", "key"]


async def test_a_full_disk_is_named(store: FileResults, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that cannot be kept says so and leaves no half of it."""

    def fail(_descriptor: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(StorageFailing, match="cannot keep a result: No space left"):
        await store.put(DATA, "json")
    monkeypatch.undo()
    digest = hashlib.sha256(DATA).hexdigest()
    assert list(store.path(digest).parent.iterdir()) == []
