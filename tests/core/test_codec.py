"""One line and one record, both ways; nothing that was altered is believed."""

from datetime import UTC, datetime, timedelta
from typing import get_args
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowd.core import events as e
from flowd.core.codec import Damaged, decode, encode, explain, holds_record, is_torn, public, scan
from flowd.testing.conformance import RUN, sample_records
from walk import pipeline, task

AT = datetime(2026, 11, 22, 9, 14, 0, 5000, tzinfo=UTC)
ERROR = e.Error(type="ValueError", message="NaN in price", where="steps/clean.py:44")
WHY = e.Reason("code", "a sentence")
ALL = [
    e.RunStarted(pipeline="p", spec="0" * 64, params={"n": [1, 2.5, None, {"event": "x"}]}, force=True),
    e.RunAdopted(owner="me"),
    e.RunCancelRequested(reason="enough"),
    e.RunDeadlinePassed(),
    e.RunPaused(reason="interrupted"),
    e.RunClosing(state="failed", reason=WHY, failed=("t",)),
    e.RunFinished(state="failed", reason=WHY),
    e.RunReopened(by="me"),
    e.RunRedefined(
        spec="d", definition=pipeline(task("t", timeout=timedelta(seconds=1), with_={"n": [1, None]})), removed=("u",)
    ),
    e.TaskStarted(task="t", attempt=1, executor="async", reason=WHY),
    e.TaskSucceeded(
        task="t", attempt=2, result=e.Stored(digest="d", size=2, inline=msgspec.Raw(b"{}")), parts={"a": "b"}
    ),
    e.TaskFresh(task="t", source="other"),
    e.TaskRetryScheduled(task="t", attempt=1, error=ERROR, delay=timedelta(seconds=0.2), retry_at=AT),
    e.TaskRoundEnded(task="t", attempt=1, round=1, delay=timedelta(seconds=1), next_at=AT, exit_code=1, reason=WHY),
    e.TaskFailed(task="t", attempt=3, error=ERROR, metrics={"mae": 0.5}),
    e.TaskTimedOut(task="t", attempt=1, error=ERROR),
    e.TaskAbandoned(task="t", attempt=1, reason=WHY),
    e.TaskInterrupted(task="t", attempt=1, reason=WHY),
    e.TaskUncertain(task="t", attempt=1, reason=WHY),
    e.TaskResolved(task="t", verdict="rerun"),
    e.TaskApprovalRequested(
        task="t", message="go on?", show=(e.Artifact(path="a", size=1, digest="d"),), expires_at=AT, reason=WHY
    ),
    e.TaskApproved(task="t", by="ann", answered_at=AT, comment="yes", values={"n": [1, None]}),
    e.TaskRejected(task="t", by="ann", answered_at=AT, comment="no", reason=WHY),
    e.TaskServing(task="t", attempt=1, url="http://127.0.0.1:80", port=80, pid=7),
    e.TaskTimerStarted(task="t", until=AT, reason=WHY),
    e.TaskSkipped(task="t", reason=WHY),
    e.TaskUpstreamFailed(task="t", cause="u"),
    e.TaskCancelled(task="t"),
    e.TaskExpanded(task="t", count=2, keys=("a", "b"), result=e.Stored(digest="d", size=9)),
    e.TaskPartial(task="t", reason=WHY),
    e.TaskReopened(task="t", items=("a",), by="me"),
    e.TaskDeferred(task="t", attempt=1, child="r+t", reason=WHY, commands=("flowd approve r+t q",)),
    e.TaskTakenUp(task="t"),
    e.TaskReset(task="t", by="me"),
]


def journal(records: list[e.Envelope]) -> list[bytes]:
    """The lines of a whole journal."""
    lines, previous = [], 0
    for record in records:
        line, previous = encode(record, previous)
        lines.append(line)
    return lines


LINES = journal(sample_records(5))


def test_the_format() -> None:
    """The bytes of a line are fixed: what an older flowd wrote must be readable for ever."""
    line, checksum = encode(e.Envelope("r-1", 7, AT, e.TaskStarted(task="x", attempt=1)), 0xAB)
    payload = (
        b'{"seq":7,"at":"2026-11-22T09:14:00.005000Z","run":"r-1","prev":"000000ab",'
        b'"event":"task_started","task":"x","attempt":1'
    )
    assert checksum == crc32(payload)
    assert line == payload + b',"sum":"%08x"}\n' % checksum


@pytest.mark.parametrize("event", ALL, ids=lambda event: type(event).__name__)
def test_every_event_makes_the_trip(event: e.AnyEvent) -> None:
    """Each event comes back equal, and each line is JSON on its own."""
    record = e.Envelope(RUN, 3, AT, event)
    line, checksum = encode(record, 17)
    assert decode(line, 17, RUN, 3) == (record, checksum)
    assert msgspec.json.decode(line)["event"] == type(event).__struct_config__.tag


def test_no_event_is_forgotten_here() -> None:
    """The list above is the whole vocabulary."""
    assert {type(event) for event in ALL} == set(get_args(e.AnyEvent))


@given(
    st.text(),
    st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
    st.datetimes(timezones=st.just(UTC)),
)
def test_any_text_and_moment_makes_the_trip(text: str, metrics: dict[str, float], at: datetime) -> None:
    """Whatever a task says of itself is read back as it was, on one line."""
    event = e.TaskFailed(task=text, attempt=1, error=e.Error(type="E", message=text), metrics=metrics)
    line, _ = encode(e.Envelope(RUN, 1, at, event), 0)
    assert line.count(b"\n") == 1
    assert decode(line, 0, RUN, 1)[0] == e.Envelope(RUN, 1, at, event)


def test_users_see_no_checksums() -> None:
    """The public line holds place, time and the event's own fields."""
    line = public(e.Envelope("r-1", 7, AT, e.TaskStarted(task="x", attempt=1)))
    assert list(msgspec.json.decode(line)) == ["seq", "at", "run", "event", "task", "attempt"]


def test_a_journal_is_read_in_pieces() -> None:
    """Cut anywhere and continued, the records are the same; an unfinished line is left for later."""
    data = b"".join(LINES)
    for cut in range(len(data) + 1):
        first = scan(data[:cut], RUN)
        assert first.damage is None
        second = scan(data[first.good :], RUN, first.seq, first.previous)
        assert first.envelopes + second.envelopes == sample_records(5)


def test_what_is_not_wanted_is_checked_all_the_same() -> None:
    """Records before `after` and events outside `only` are not decoded, but the chain is whole."""
    data = b"".join(LINES)
    assert [record.seq for record in scan(data, RUN, after=3).envelopes] == [4, 5]
    found = scan(data, RUN, only=["task_succeeded"])
    assert [record.seq for record in found.envelopes] == [3, 5]
    assert found.seq == 5
    assert scan(LINES[0] + LINES[2], RUN, only=["run_finished"]).damage is not None


def test_every_flipped_bit_is_found() -> None:
    """A changed byte ends belief at its line, and nothing after it is believed."""
    data = b"".join(LINES)
    ends = [sum(map(len, LINES[: n + 1])) for n in range(len(LINES))]
    for place in range(len(data)):
        for bit in (1, 4, 32, 128):
            changed = bytearray(data)
            changed[place] ^= bit
            found = scan(bytes(changed), RUN)
            whole = sum(end <= place for end in ends)
            assert found.envelopes == sample_records(whole)
            assert found.damage is not None or found.good < len(data)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (LINES[1].replace(b"task_started", b"task_Started"), "checksum does not fit"),
        (LINES[2], "record 3 where 2 is due"),
        (LINES[0], "record 1 where 2 is due"),
        (journal(sample_records(2, "another"))[1], "record of another run, another"),
        (encode(sample_records(2)[1], 5)[0], "does not follow the one before"),
        (b"\xef\xbb\xbf" + LINES[1], "byte order mark"),
        (LINES[1][:-1] + b"\r\n", "CRLF"),
        (b"\0" * 40 + b"\n", "NUL bytes"),
        (b"garbage\n", "no record"),
        (b"\n", "no record"),
        (b"[" * 100_000 + b"\n", "no record"),
        (LINES[1][:-1], "unfinished line"),
        (b"", "unfinished line"),
        (LINES[1] + LINES[2], "more than one line"),
    ],
)
def test_what_differs_is_said(line: bytes, words: str) -> None:
    """Damage is told in words that say what differs."""
    previous = int(LINES[0][-11:-3], 16)
    with pytest.raises(Damaged, match=words):
        decode(line, previous, RUN, 2)


def test_a_checksum_in_other_letters_is_no_checksum() -> None:
    """The bytes are compared, not the numbers: what was edited by hand is not believed."""
    line = next(line for line in LINES if line[-11:-3].upper() != line[-11:-3])
    seq = LINES.index(line) + 1
    found = scan(b"".join(LINES[: seq - 1]) + line[:-11] + line[-11:-3].upper() + line[-3:], RUN)
    assert found.seq == seq - 1
    assert found.damage == "a checksum that is not written as flowd writes it"


def forged(body: bytes) -> bytes:
    """A first line with any content and a checksum that fits."""
    payload = b'{"seq":1,"at":"2026-11-22T09:14:00Z","run":"%b","prev":"00000000",%b' % (RUN.encode(), body)
    return payload + b',"sum":"%08x"}\n' % crc32(payload)


@pytest.mark.parametrize(
    "body", [b'"event":"task_teleported"', b'"event":"task_started"', b'"event":' + b"[" * 100_000, b"\xff\xfe"]
)
def test_a_valid_checksum_does_not_make_an_event(body: bytes) -> None:
    """An event that is unknown, incomplete, bottomless or no text is refused, not raised through."""
    assert "no event that this flowd knows" in str(scan(forged(body), RUN).damage)


def test_torn_tails() -> None:
    """Only a line that was never finished, and zeros, are a write cut short."""
    assert is_torn(LINES[1][:-1])
    assert is_torn(LINES[1][:20] + b"\0" * 5000)
    assert is_torn(b"\0" * 512)
    assert not is_torn(LINES[1])
    assert not is_torn(LINES[1][:20] + b"\0" * 50 + b"\n" + LINES[2])


def test_records_behind_damage_are_seen() -> None:
    """A record of this run with a higher number, anywhere in the rest, tells damage from a torn tail."""
    assert holds_record(b"garbage\n" + LINES[2] + b"more", RUN, 2)
    assert not holds_record(b"garbage\n" + LINES[2], RUN, 3)
    assert not holds_record(b"garbage\n" + LINES[2], "another", 2)
    assert not holds_record(LINES[2].replace(b"203", b"204"), RUN, 2)
    assert not holds_record(LINES[2][:-1], RUN, 9)


def test_what_is_canonical_but_out_of_shape_is_named() -> None:
    """A line with a fitting checksum that flowd would write otherwise is said to be so."""
    payload = b'{"seq":01,"at":"x","run":"%b","prev":"00000000","event":"x"' % RUN.encode()
    line = payload + b',"sum":"%08x"}' % crc32(payload)
    assert explain(line, RUN, 1, 0) == "record 01 where 1 is due"
