"""The agenda on disk: what was acknowledged is there after any death, and nothing else is believed."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowd.adapters import agenda as adapter
from flowd.adapters import disk
from flowd.adapters.agenda import FILE, FileAgenda
from flowd.core import agenda as facts
from flowd.core.agenda import Agenda, AnyFact
from flowd.core.errors import StateDamaged, StorageFailing

START = datetime(2026, 1, 1, tzinfo=UTC)
MOMENT = st.integers(0, 1000).map(lambda minutes: START + timedelta(minutes=minutes))
SOURCE = st.sampled_from(["a", "b.daily"])
FACT: st.SearchStrategy[AnyFact] = st.one_of(
    st.builds(facts.Seen, source=SOURCE, at=MOMENT, digest=st.sampled_from(["x", "y"])),
    st.builds(facts.Fired, source=SOURCE, at=MOMENT, time=MOMENT, run=st.sampled_from("rstuv"), mark=st.just("gap")),
    st.builds(facts.Queued, source=SOURCE, at=MOMENT, time=MOMENT, behind=st.just("r"), cancelled=st.booleans()),
    st.builds(
        facts.Skipped,
        source=SOURCE,
        at=MOMENT,
        time=MOMENT,
        last=MOMENT,
        why=st.just("overlap"),
        sentence=st.text(max_size=5),
    ),
    st.builds(facts.Paused, source=SOURCE, at=MOMENT, by=st.sampled_from(["ada", ""])),
    st.builds(facts.Resumed, source=SOURCE, at=MOMENT, by=st.just("ada")),
    st.builds(facts.Removed, source=SOURCE, at=MOMENT),
    st.builds(facts.Stepped, source=st.just(""), at=MOMENT, seconds=st.floats(-5, 5)),
    st.builds(
        facts.Known,
        source=SOURCE,
        at=MOMENT,
        names=st.lists(st.text(max_size=3), max_size=3).map(tuple),
        anew=st.booleans(),
    ),
)


def known(agenda: Agenda) -> object:
    """All of it, to be compared."""
    return {source: vars(entry) for source, entry in agenda.entries.items()}, agenda.steps


async def opened(folder: Path) -> FileAgenda:
    found = FileAgenda(folder)
    await found.open()
    return found


@given(told=st.lists(FACT, max_size=30), more=st.lists(FACT, max_size=5))
def test_what_is_kept_of_all_facts_folds_to_the_same(told: list[AnyFact], more: list[AnyFact]) -> None:
    """Also for all that is told afterwards."""
    whole = Agenda(told)
    kept = Agenda(whole.facts(START))
    assert known(kept) == known(whole)
    for fact in more:
        whole.apply(fact)
        kept.apply(fact)
    assert known(kept) == known(whole)


async def test_cut_at_every_byte_it_holds_the_whole_lines(tmp_path: Path) -> None:
    """A line without its end was never acknowledged: it is cut off, and what is told next stands whole."""
    told = [facts.Fired(source="a", at=START, time=START + timedelta(hours=n), run=f"r{n}") for n in range(2)]
    store = await opened(tmp_path)
    await store.record(told, START)
    data = (tmp_path / FILE).read_bytes()
    ends = [number for number, byte in enumerate(data, 1) if byte == ord("\n")]
    for cut in range(len(data) + 1):
        (tmp_path / FILE).write_bytes(data[:cut])
        after = await opened(tmp_path)
        assert after.agenda.entry("a").runs == [f"r{n}" for n in range(sum(end <= cut for end in ends))]
        await after.record([facts.Paused(source="a", at=START, by="ada")], START)
        assert (await opened(tmp_path)).agenda.entry("a").paused
        after.close()
    store.close()


async def test_a_line_that_was_changed_is_refused_with_its_number(tmp_path: Path) -> None:
    """Whoever guessed would fire twice, or never."""
    store = await opened(tmp_path)
    await store.record([facts.Seen(source="a", at=START, digest=str(n)) for n in range(3)], START)
    data = bytearray((tmp_path / FILE).read_bytes())
    data[data.index(b"\n") + 30] ^= 4
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(StateDamaged, match=r"agenda.jsonl:2: the line is not as it was written; put it right, or move"):
        await opened(tmp_path)
    store.close()


async def test_after_a_failed_sync_nothing_that_it_left_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is written anew from what was acknowledged; then it goes on."""
    store = await opened(tmp_path)
    first, lost, last = (facts.Fired(source="a", at=START, time=START, run=run) for run in ("first", "lost", "last"))
    await store.record([first], START)

    def broken(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(disk, "sync_data", broken)
        with pytest.raises(StorageFailing, match=r"agenda\.jsonl: cannot be written"):
            await store.record([lost], START)
    assert store.agenda.entry("a").runs == ["first"]
    await store.record([last], START)
    assert (await opened(tmp_path)).agenda.entry("a").runs == ["first", "last"]
    store.close()


async def test_many_facts_are_written_anew_as_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file does not grow for ever, and says the same."""
    monkeypatch.setattr(adapter, "_MOST_LINES", 20)
    store = await opened(tmp_path)
    for n in range(100):
        moment = START + timedelta(minutes=n)
        await store.record([facts.Fired(source="a", at=moment, time=moment, run=f"r{n}")], moment)
    assert len((tmp_path / FILE).read_bytes().splitlines()) <= 21
    assert known((await opened(tmp_path)).agenda) == known(store.agenda)
    store.close()
