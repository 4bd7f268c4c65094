"""A run's folder in any state that a test of the journal on disk wants it in."""

from pathlib import Path

from flowd.adapters import disk
from flowd.adapters.journal.file import FileJournal
from flowd.adapters.journal.mark import Mark
from flowd.core.codec import encode
from flowd.core.errors import StateDamaged
from flowd.core.events import Envelope
from flowd.testing.conformance import RUN, sample_definition, sample_records

RECORDS = sample_records(5)


def lines_of(records: list[Envelope]) -> list[bytes]:
    """The lines of a whole journal."""
    lines, previous = [], 0
    for record in records:
        line, previous = encode(record, previous)
        lines.append(line)
    return lines


LINES = lines_of(RECORDS)
ENDS = [sum(map(len, LINES[: n + 1])) for n in range(len(LINES))]
DATA = b"".join(LINES)


class Place:
    """One run's folder in the state that a test wants it in."""

    def __init__(self, state_dir: Path) -> None:
        self.journal = FileJournal(state_dir)
        self.state_dir = state_dir
        self.folder = state_dir / "runs" / RUN
        self.segment = self.folder / "journal.0001.jsonl"

    def put(self, data: bytes, *, marked: int | None, boot: str | None = None) -> None:
        """Exactly these bytes and no other segment; the mark at the end of `marked` records (None: no mark)."""
        for file in self.folder.glob("journal.*"):
            file.unlink()
        self.segment.write_bytes(data)
        (self.folder / "mark").unlink(missing_ok=True)
        if marked is not None:
            offset = ENDS[marked - 1] if marked else 0
            checksum = int(LINES[marked - 1][-11:-3], 16) if marked else 0
            mark = Mark(
                segment=1,
                seq=marked,
                offset=offset,
                checksum=checksum,
                boot=disk.boot_id() if boot is None else boot,
            )
            (self.folder / "mark").write_bytes(mark.encoded())

    def kept(self, offset: int) -> bytes:
        """The torn tail that was set aside from this place."""
        return (self.folder / f"journal.0001.torn-{offset}").read_bytes()

    async def readable(self) -> tuple[list[Envelope], str | None]:
        """What a reader gets, and what it is told at the end."""
        found = []
        try:
            async for envelope in self.journal.read(RUN):
                found.append(envelope)  # noqa: PERF401  # what came before an error counts
        except StateDamaged as error:
            return found, str(error)
        return found, None


async def created(state_dir: Path) -> Place:
    """A run that was created and never opened."""
    place = Place(state_dir)
    await place.journal.create(RUN, sample_definition())
    return place
