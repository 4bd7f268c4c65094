"""One journal line and one record, both ways; and how far a piece of journal can be believed.

House rules of this room. A line is flat JSON that a person can grep:

    {"seq":1,"at":"…Z","run":"…","prev":"<8 hex>","event":"task_started","task":"x",…,"sum":"<8 hex>"}

`sum` is the crc32 of the raw bytes before `,"sum":`; `prev` is the `sum` of the line before it,
and zero for the first. Sequence number, run and `prev` stand inside the checksum, so a line
cannot be changed, left out, doubled, moved or brought in from another run unnoticed. A line is
believed only if its bytes are exactly what `encode` would have written around the event. A line
without its newline was never finished.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from zlib import crc32

import msgspec

from flowd.core.events import AnyEvent, Envelope, TaskEvent, TaskRetryScheduled

JOURNAL_FORMAT = 1
"""The number of this format; it stands in the state directory and in each run's `spec.json`."""

MAX_LINE = 16 * 1024 * 1024
"""No line is longer, in bytes: what is longer was not written by flowd."""

_TAIL = len(b',"sum":"00000000"}')

_encode = msgspec.json.Encoder().encode
_decode_event = msgspec.json.Decoder(AnyEvent).decode
_decode_at = msgspec.json.Decoder(datetime).decode
_SHAPE = re.compile(
    rb'\{"seq":(?P<seq>\d+),"at":"[^"]*","run":"(?P<run>[^"]*)","prev":"(?P<prev>[0-9a-f]{8})",.*,"sum":"(?P<sum>[^"]*)"\}',
    re.DOTALL,
)


class Damaged(Exception):
    """A line is not what flowd wrote there; the message says what differs."""


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """What a piece of journal was found to hold.

    `seq` and `previous` are the number and checksum of the last good record, `good` the bytes
    up to its end, `lines` how many good lines these are. `damage` says what is wrong with the
    line after it, None where there is no further complete line.
    """

    envelopes: list[Envelope]
    seq: int
    previous: int
    good: int
    lines: int
    damage: str | None


def encode(envelope: Envelope, previous: int) -> tuple[bytes, int]:
    """The line of a record that follows one with checksum `previous`, and its own checksum."""
    payload = b'{"seq":%d,"at":%b,"run":%b,"prev":"%08x",%b' % (
        envelope.seq,
        _encode(envelope.at),
        _encode(envelope.run),
        previous,
        _encode(envelope.event)[1:-1],
    )
    checksum = crc32(payload)
    return b'%b,"sum":"%08x"}\n' % (payload, checksum), checksum


def decode(line: bytes, previous: int, run: str, seq: int) -> tuple[Envelope, int]:
    """The record in `line`, which has to be number `seq` of `run` after `previous`; and its checksum.

    Raises Damaged.
    """
    found = scan(line, run, seq - 1, previous)
    if found.damage is not None:
        raise Damaged(found.damage)
    if found.lines != 1 or found.good != len(line):
        raise Damaged("an unfinished line" if not found.lines else "more than one line")
    return found.envelopes[0], found.previous


def public(envelope: Envelope) -> bytes:
    """The event as users see it, one JSON line without newline: `seq, at, run, event, task, attempt` and its fields.

    What lasts is told in seconds, too, as everywhere else that users look.
    """
    event = envelope.event
    fields = _encode(event)
    if isinstance(event, TaskRetryScheduled):
        fields = b'%b,"delay_s":%b}' % (fields[:-1], _encode(event.delay.total_seconds()))
    absent = b"" if isinstance(event, TaskEvent) else b',"task":null'
    absent += b"" if hasattr(event, "attempt") else b',"attempt":null'
    return b'{"seq":%d,"at":%b,"run":%b,%b%b}' % (
        envelope.seq,
        _encode(envelope.at),
        _encode(envelope.run),
        fields[1:-1],
        absent,
    )


def scan(
    data: bytes,
    run: str,
    seq: int = 0,
    previous: int = 0,
    *,
    after: int = 0,
    only: Sequence[str] = (),
) -> Scan:
    """Walk the complete lines of `data`, which follow record `seq` with checksum `previous`.

    Every line is checked; decoded are those numbered over `after` and, where `only` is given,
    of these events. Stops at the first line that cannot be believed.
    """
    is_wanted = re.compile(b'"event":"(?:%b)"' % "|".join(map(re.escape, only)).encode()).search
    link_start = b'","run":%b,"prev":"' % _encode(run)
    link_size = len(link_start) + len(b'00000000",')
    envelopes: list[Envelope] = []
    first_seq, good = seq, 0
    at_text, at = b"", None
    lines = data.split(b"\n")
    lines.pop()  # what follows the last newline is no line
    damage = None
    for line in lines:
        due = seq + 1
        checksum = crc32(line[:-_TAIL])
        head = b'{"seq":%d,"at":"' % due
        quote = line.find(b'"', len(head))
        if (
            line[-_TAIL:] != b',"sum":"%08x"}' % checksum
            or not line.startswith(head)
            or not line.startswith(b'%b%08x",' % (link_start, previous), quote)
        ):
            damage = explain(line, run, due, previous)
            break
        if due > after and (not only or is_wanted(line)):
            text = line[len(head) - 1 : quote + 1]
            body = b"{" + line[quote + link_size : -_TAIL] + b"}"
            try:
                if text != at_text or at is None:
                    at_text, at = text, _decode_at(text)
                envelopes.append(Envelope(run, due, at, _decode_event(body)))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                damage = f"no event that this flowd knows: {error}"
                break
        seq, previous = due, checksum
        good += len(line) + 1
    return Scan(envelopes=envelopes, seq=seq, previous=previous, good=good, lines=seq - first_seq, damage=damage)


def explain(line: bytes, run: str, seq: int, previous: int) -> str:
    """Why `line` cannot be record `seq` of `run` after `previous`, in words."""
    if line.startswith(b"\xef\xbb\xbf"):
        return "a byte order mark: another program has edited it"
    if line.endswith(b"\r"):
        return "a line end of another system (CRLF): another program has edited it"
    shape = _SHAPE.fullmatch(line)
    if shape is None:
        return "NUL bytes" if line and not line.strip(b"\0") else "no record"
    checksum = b"%08x" % crc32(line[: shape.start("sum") - len(b',"sum":"')])
    if shape["sum"] != checksum:
        same = shape["sum"].lower() == checksum
        return "a checksum that is not written as flowd writes it" if same else "the checksum does not fit the record"
    if shape["run"] != run.encode():
        return f"a record of another run, {shape['run'][:128].decode(errors='replace')}"
    if shape["seq"] != b"%d" % seq:
        return f"record {shape['seq'][:20].decode()} where {seq} is due"
    if shape["prev"] != b"%08x" % previous:
        return "the record does not follow the one before it"
    return "not written as flowd writes it"


def is_torn(rest: bytes) -> bool:
    """Whether bytes after the last good line are a write cut short: a line never finished, zeros after it."""
    return b"\n" not in rest.rstrip(b"\0")


def holds_record(rest: bytes, run: str, after: int) -> bool:
    """Whether any complete line in `rest` is by itself a record of `run` with a number over `after`."""
    for line in rest.split(b"\n"):
        shape = _SHAPE.fullmatch(line) if b'"seq":' in line else None
        if (
            shape is not None
            and shape["run"] == run.encode()
            and len(shape["seq"]) <= 20
            and int(shape["seq"]) > after
            and shape["sum"] == b"%08x" % crc32(line[:-_TAIL])
        ):
            return True
    return False
