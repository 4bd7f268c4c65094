"""Both shelves keep the promises of the port."""

from pathlib import Path

import pytest

from flowd.adapters.shelf import FileShelf, MemoryShelf
from flowd.ports.stores import Shelf


class ShelfConformance:
    """The promises of `ports.stores.Shelf`; an adapter's tests give the fixture `shelf` and say how it is damaged."""

    def damage(self, shelf: Shelf, name: str, damaged: bytes) -> bytes:
        """Put other bytes where those of `name` are, past the shelf; returns those that were there."""
        raise NotImplementedError

    def test_what_was_written_last_is_there(self, shelf: Shelf) -> None:
        """Each under its own name, empty or not; what was never put is not there."""
        for number in range(2):
            shelf.put("one", b"1%d" % number)
            shelf.put("none", b"")
        shelf.write()
        shelf.put("two", b"\0" * 70_000)
        shelf.write()
        assert [shelf.get(name) for name in ("one", "none", "two", "three")] == [b"11", b"", b"\0" * 70_000, None]

    def test_what_is_damaged_is_not_there(self, shelf: Shelf) -> None:
        """Cut short, longer or altered at any byte; put once more it is there again."""
        shelf.put("one", b"some bytes")
        shelf.write()
        whole = self.damage(shelf, "one", b"")
        assert shelf.get("one") is None
        wrong = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
        for damaged in (*wrong, *(whole[:end] for end in range(len(whole))), whole + b"\0"):
            self.damage(shelf, "one", damaged)
            assert shelf.get("one") is None, damaged
        shelf.put("one", b"some bytes")
        shelf.write()
        assert shelf.get("one") == b"some bytes"


class TestFileShelf(ShelfConformance):
    """The shelf on disk."""

    @pytest.fixture
    def shelf(self, tmp_path: Path) -> FileShelf:
        """In a state directory of its own."""
        self.place = tmp_path / "kept"
        return FileShelf(tmp_path)

    def damage(self, shelf: Shelf, name: str, damaged: bytes) -> bytes:
        before = (self.place / name).read_bytes()
        (self.place / name).write_bytes(damaged)
        return before

    def test_where_there_is_no_state_directory_nothing_is_kept(self, tmp_path: Path) -> None:
        """None is made, and nothing is said; nor where a folder stands in a name's place."""
        shelf = FileShelf(tmp_path / "none")
        shelf.put("one", b"1")
        shelf.write()
        assert shelf.get("one") is None
        assert not list(tmp_path.iterdir())
        (tmp_path / "kept" / "one").mkdir(parents=True)
        shelf = FileShelf(tmp_path)
        shelf.put("one", b"1")
        shelf.write()
        assert shelf.get("one") is None


class TestMemoryShelf(ShelfConformance):
    """The shelf without a disk."""

    @pytest.fixture
    def shelf(self) -> MemoryShelf:
        """An empty one."""
        return MemoryShelf()

    def damage(self, shelf: Shelf, name: str, damaged: bytes) -> bytes:
        assert isinstance(shelf, MemoryShelf)
        before = shelf._kept[name]
        shelf._kept[name] = damaged
        return before
