"""Signed links by which a person answers a question with one click: made and read here, used up elsewhere.

House rules of this room. A link is a token: what it lets its holder do, and an HMAC of that. It is bound to one
question (run, task and the event by which it was put), to one answer, and to a time; it can be used once.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as BadBase64
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

import msgspec

from flowd.core.errors import FlowdError

ANSWERS: Final = ("approve", "reject")
SHORTEST_KEY: Final = 16
"""Bytes that a key has at least."""

_PURPOSE: Final = b"flowd link 1"
_MOST: Final = 4_096


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """What the holder of a link may do, until `expires`: answer the question put to `task` by event `asked` of `run`.

    `nonce` is what it is known by once it has been used, `by` who has answered where it is.
    """

    run: str
    task: str
    asked: int
    answer: str
    expires: datetime
    nonce: str
    by: str = ""


class LinkRefused(FlowdError):
    """A link does nothing. `code` says why: bad_link, link_expired, link_used or link_answered."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def nonce_of(notice: str, answer: str) -> str:
    """What the link of a notice is known by: told twice, it can still be used once."""
    return sha256(f"{notice}\0{answer}".encode()).hexdigest()[:32]


def make(key: bytes, link: Link) -> str:
    """The token of a link: letters, digits, `-`, `_` and a dot. ValueError for a short key or another answer."""
    if link.answer not in ANSWERS:
        raise ValueError(f"{link.answer!r} is no answer; the answers are {' and '.join(ANSWERS)}")
    body = msgspec.json.encode(link)
    return f"{_text(body)}.{_text(_signature(key, body))}"


def read(key: bytes, token: str, now: datetime) -> Link:
    """What a token lets its holder do at `now`. Raises LinkRefused; whether it was used is not known here."""
    body, dot, signature = token.partition(".")
    if len(token) > _MOST or not dot or not token.isascii():
        raise _bad()
    try:
        data, given = _bytes(body), _bytes(signature)
    except (BadBase64, ValueError):
        raise _bad() from None
    # compared as text: two texts that mean the same bytes are not the same link
    if not hmac.compare_digest(_signature(key, data), given) or token != f"{_text(data)}.{_text(given)}":
        raise _bad()
    try:
        link = msgspec.json.decode(data, type=Link)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _bad() from None
    if link.answer not in ANSWERS or link.expires.tzinfo is None:
        raise _bad()
    if now >= link.expires:
        when = f"{link.expires.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        command = f"flowd {link.answer} {link.run} {link.task}"
        raise LinkRefused("link_expired", f"this link was good until {when}; type: {command}")
    return link


def _bad() -> LinkRefused:
    return LinkRefused("bad_link", "this is no link of this flowd, or it was altered; take it whole from the message")


def _signature(key: bytes, body: bytes) -> bytes:
    if len(key) < SHORTEST_KEY:
        raise ValueError(f"a key of {len(key)} bytes is too short; {SHORTEST_KEY} are the least")
    own = hmac.new(key, _PURPOSE, sha256).digest()  # the same key may sign other things
    return hmac.new(own, body, sha256).digest()


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
