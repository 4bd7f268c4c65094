"""A damaged journal: what was altered is found and said, what stands before it is believed, nothing else is."""

import os
from pathlib import Path

import anyio
import pytest

from flowd.adapters.journal import mark as marks
from flowd.adapters.journal.repair import restore
from flowd.core.errors import StateDamaged
from flowd.testing.conformance import RUN, recorded, sample_records
from journal_place import DATA, ENDS, LINES, RECORDS, Place, created, lines_of


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    """A run that was created and never opened."""
    return await created(tmp_path / ".flowd")


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the disk, where thousands of repairs are made."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda _descriptor: None)


def whole(end: int) -> int:
    """How many records stand complete in the first `end` bytes."""
    return sum(last <= end for last in ENDS)


async def test_cut_at_every_byte_without_a_mark(place: Place, unsynced: None) -> None:
    """The records before the cut stand, the rest is set aside to the byte, and the journal goes on after it."""
    for cut in range(len(DATA) + 1):
        place.put(DATA[:cut], marked=None)
        count = whole(cut)
        assert await place.readable() == (RECORDS[:count], None)
        end, repairs = restore(place.folder, RUN)
        start = ENDS[count - 1] if count else 0
        assert (end.seq, end.offset) == (count, start)
        assert place.segment.read_bytes() == DATA[:start]
        assert [(repair.offset, repair.bytes) for repair in repairs] == ([(start, cut - start)] if cut > start else [])
        assert cut == start or place.kept(start) == DATA[start:cut]


async def test_cut_at_every_byte_of_what_was_acknowledged(place: Place, unsynced: None) -> None:
    """Acknowledged records that are gone are noticed; what stands before them can still be read; nothing changes."""
    for cut in range(len(DATA)):
        place.put(DATA[:cut], marked=5)
        found, said = await place.readable()
        assert found == RECORDS[: whole(cut)]
        assert said is not None
        assert f"{place.segment}: damaged at offset {ENDS[whole(cut) - 1] if whole(cut) else 0}, line" in said
        assert "acknowledged" in said
        with pytest.raises(StateDamaged, match="acknowledged"):
            restore(place.folder, RUN)
        assert place.segment.read_bytes() == DATA[:cut]


@pytest.mark.parametrize("boot", ["", "another-boot"], ids=["same boot", "another boot"])
async def test_cut_at_every_byte_after_a_mark_that_lags(place: Place, unsynced: None, boot: str) -> None:
    """Whole records beyond the mark are kept; in the same boot they are written anew, into a new segment."""
    for cut in range(ENDS[1], len(DATA) + 1):
        place.put(DATA[:cut], marked=2, boot=boot or None)
        count = whole(cut)
        assert await place.readable() == (RECORDS[: count if boot else 2], None)
        end, repairs = restore(place.folder, RUN)
        assert end.seq == count
        assert end.segment == (1 if boot or count == 2 else 2)
        assert bool(repairs) == (cut not in ENDS)
        (place.folder / "mark").write_bytes(end.encoded())
        assert await place.readable() == (RECORDS[:count], None)
        assert place.journal.inspect(RUN) is None


async def test_every_flipped_byte_of_what_was_acknowledged(place: Place, unsynced: None) -> None:
    """A changed byte is refused with file, offset and line; nothing of its line or after it is believed."""
    for at in range(len(DATA)):
        changed = bytearray(DATA)
        changed[at] ^= 0x20
        place.put(bytes(changed), marked=5)
        found, said = await place.readable()
        assert found == RECORDS[: whole(at)]
        line = whole(at) + 1
        offset = ENDS[line - 2] if line > 1 else 0
        assert f"{place.segment}: damaged at offset {offset}, line {line}: " in str(said)
        with pytest.raises(StateDamaged, match=f"offset {offset}, line {line}:"):
            restore(place.folder, RUN)
        assert place.segment.read_bytes() == bytes(changed)


@pytest.mark.parametrize("marked", [None, 1])
async def test_every_flipped_byte_beyond_the_mark(place: Place, unsynced: None, marked: int | None) -> None:
    """Damage with records behind it is refused; at the very end it is set aside; neither is believed."""
    for at in range(ENDS[0], len(DATA)):
        changed = bytearray(DATA)
        changed[at] ^= 0x01
        place.put(bytes(changed), marked=marked, boot="another")
        found, said = await place.readable()
        assert found == RECORDS[: whole(at)]
        if at == len(DATA) - 1 or (marked and at >= ENDS[3] - 1):
            end, repairs = restore(place.folder, RUN)
            assert end.seq == whole(at)
            assert repairs[0].offset == ENDS[whole(at) - 1]
        else:
            assert f"damaged at offset {ENDS[whole(at) - 1]}, line {whole(at) + 1}" in str(said)
            with pytest.raises(StateDamaged):
                restore(place.folder, RUN)


OTHER = lines_of(sample_records(5, "another-run"))


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (LINES[0] + LINES[1] + LINES[1] + b"".join(LINES[2:]), 3, "record 2 where 3 is due"),
        (LINES[0] + b"".join(LINES[2:]), 2, "record 3 where 2 is due"),
        (LINES[0] + LINES[2] + LINES[1] + LINES[3] + LINES[4], 2, "record 3 where 2 is due"),
        (b"".join([*LINES[:2], OTHER[2], *LINES[3:]]), 3, "another run, another-run"),
        (b"".join(OTHER), 1, "another run, another-run"),
        (b"\xef\xbb\xbf" + DATA, 1, "byte order mark"),
        (DATA.replace(b"\n", b"\r\n"), 1, "CRLF"),
        (DATA[: ENDS[1] + 30] + b"\0" * 40 + DATA[ENDS[1] + 70 :], 3, "checksum|no record"),
        (b"", 1, "acknowledged records are missing"),
        (b"{}\n" * 400, 1, "no record"),
    ],
    ids=["doubled", "missing", "swapped", "grafted", "exchanged", "BOM", "CRLF", "zero sector", "empty", "other JSON"],
)
async def test_what_was_acknowledged_is_not_to_be_edited(place: Place, data: bytes, line: int, words: str) -> None:
    """Splicing, reordering, grafting and well-meant editing are refused, by place and in words."""
    place.put(data, marked=5)
    with pytest.raises(StateDamaged, match=rf"journal\.0001\.jsonl: damaged at offset \d+, line {line}: .*({words})"):
        restore(place.folder, RUN)


@pytest.mark.parametrize(
    "tail",
    [b"\0" * 512, b"garbage", b"garbage\n", b"[" * 100_000 + b"\n", LINES[4], DATA, LINES[4][:50] + b"\0" * 400],
    ids=["zeros", "words", "a line", "deep JSON", "last line again", "all again", "half a line and zeros"],
)
async def test_what_follows_the_last_record_is_set_aside(place: Place, tail: bytes) -> None:
    """Whatever stands behind all acknowledged records and is no further record is kept aside and reported."""
    place.put(DATA + tail, marked=5)
    torn = place.journal.inspect(RUN)
    assert torn is not None
    async with place.journal.open(RUN) as writer:
        assert [repair.bytes for repair in writer.repairs] == [len(tail)]
        assert writer.repairs == [torn]
        assert torn.kept == f"{place.folder}/journal.0001.torn-{len(DATA)}"
        assert place.kept(len(DATA)) == tail
        writer.append(sample_records(2, first=6))
    assert await place.readable() == (sample_records(7), None)


async def test_a_line_without_end(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line longer than any record is given up early, in bounded memory."""
    monkeypatch.setattr("flowd.adapters.journal.reader.MAX_LINE", 300_000)
    place.put(DATA + b"x" * 2_000_000 + b"\n", marked=5)
    _, repairs = restore(place.folder, RUN)
    assert [(repair.bytes, repair.reason) for repair in repairs] == [(2_000_001, "a line too long for a record")]


async def test_a_bad_mark_counts_as_none(place: Place) -> None:
    """A mark that was torn or altered protects nothing and hinders nothing."""
    good = (place.folder / "mark").read_bytes()
    for bad in (b"", b"\0" * 123, good.replace(b"mark 1 0", b"mark 1 1")):
        place.put(DATA, marked=None)
        (place.folder / "mark").write_bytes(bad)
        assert marks.load(place.folder / "mark") is None
        async with place.journal.open(RUN) as writer:
            assert writer.durable_seq == 5


@pytest.mark.parametrize("name", ["journal.0001.jsonl", "mark", "spec.json"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "link", "device link"])
async def test_odd_files_are_refused_at_once(place: Place, name: str, kind: str) -> None:
    """A pipe, folder or link in the place of a file is refused and never waited for."""
    path = place.folder / name
    aside = path.rename(path.with_suffix(".aside"))
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(aside if kind == "link" else "/dev/zero")
    if name == "spec.json":
        with anyio.fail_after(5), pytest.raises(StateDamaged, match=f"{name}: not a regular file"):
            await place.journal.definition(RUN)
    else:
        with anyio.fail_after(5), pytest.raises(StateDamaged, match=f"{name}: not a regular file"):
            await place.journal.open(RUN).__aenter__()
        with anyio.fail_after(5), pytest.raises(StateDamaged, match="not a regular file"):
            await recorded(place.journal)
    assert place.journal.is_owned(RUN) is None


async def test_missing_segments_are_noticed(place: Place) -> None:
    """A journal without its first or a middle segment is damaged, not short."""
    place.segment.unlink()
    with pytest.raises(StateDamaged, match=r"journal\.0001\.jsonl: the (segment|journal) is missing"):
        await place.journal.open(RUN).__aenter__()
    with pytest.raises(StateDamaged, match=r"journal\.0001\.jsonl: the journal is missing"):
        await place.journal.definition(RUN)
    place.put(DATA, marked=5)
    (place.folder / "journal.0003.jsonl").write_bytes(b"")
    with pytest.raises(StateDamaged, match=r"journal\.0002\.jsonl: the segment is missing"):
        await place.journal.open(RUN).__aenter__()
