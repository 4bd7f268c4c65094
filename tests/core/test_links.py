"""Signed links: good for one answer to one question until a time, and for nothing else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as hs

from flowd.core.links import Link, LinkRefused, make, nonce_of, read
from walk import NOON

KEY = bytes(range(32))
LINK = Link(run="r1", task="deploy", asked=7, answer="approve", expires=NOON, nonce="n", by="ada")
BEFORE = NOON - timedelta(seconds=1)


def refused(token: str, at: Any = BEFORE, key: bytes = KEY) -> str:
    """The code with which a token is refused."""
    with pytest.raises(LinkRefused) as caught:
        read(key, token, at)
    return caught.value.code


def test_a_link_says_what_it_was_made_for() -> None:
    """Up to its time, and not at it."""
    token = make(KEY, LINK)
    assert read(KEY, token, BEFORE) == LINK
    assert refused(token, NOON) == "link_expired"


@given(hs.integers(0, 10_000), hs.characters(max_codepoint=127))
def test_an_altered_link_is_none(place: int, letter: str) -> None:
    """Whichever letter is another; the bits that base64 leaves open at its ends included."""
    token = make(KEY, LINK)
    place %= len(token)
    altered = token[:place] + letter + token[place + 1 :]
    if altered != token:
        assert refused(altered) == "bad_link"


@pytest.mark.parametrize("field", ["run", "task", "asked", "answer", "expires", "nonce", "by"])
def test_a_signature_is_of_all_that_a_link_says(field: str) -> None:
    """The signature of one link under another's text is none."""
    other: dict[str, Any] = {"asked": 8, "answer": "reject", "expires": NOON + timedelta(days=1)}
    changed = msgspec.structs.replace(LINK, **{field: other.get(field, "x")})
    body, signature = make(KEY, changed).split(".")[0], make(KEY, LINK).split(".")[1]
    assert refused(f"{body}.{signature}") == "bad_link"


@pytest.mark.parametrize("token", ["", ".", "a", "a.b", "é.é", "x" * 5_000, "a.b.c", make(KEY, LINK) + "="])
def test_what_is_no_link_is_refused(token: str) -> None:
    """Without a traceback."""
    assert refused(token) == "bad_link"


def test_another_key_makes_other_links() -> None:
    """A short one makes none."""
    assert refused(make(KEY, LINK), key=KEY[::-1]) == "bad_link"
    with pytest.raises(ValueError, match="too short"):
        make(b"short", LINK)
    with pytest.raises(ValueError, match="no answer"):
        make(KEY, msgspec.structs.replace(LINK, answer="delete"))


def test_a_nonce_is_of_the_notice_and_the_answer() -> None:
    """Told twice, it can still be used once."""
    assert nonce_of("a", "approve") == nonce_of("a", "approve")
    assert len({nonce_of("a", "approve"), nonce_of("a", "reject"), nonce_of("b", "approve")}) == 3
