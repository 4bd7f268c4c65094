"""Secrets in streams of bytes: found however the bytes come."""

from __future__ import annotations

import base64
import itertools
import random

import pytest

from flowd.guardian.redaction import redaction

CODE = base64.b64encode(
    b"a rather long secret, which base64 breaks into lines as it prints it, at the 76th letter"
).decode()
WRAPPED = f"{CODE[:76]}\n{CODE[76:]}"
SECRETS = [CODE.encode(), b"two\nlines", b"s3cret value", b"s3cr"]
TEXT = f"begin {WRAPPED} s3cret value, s3cr s3cret\n two\nlines two\n{CODE[:9]}\r\n{CODE[9:]} end tw".encode()
SHOWN = b"begin *** ***, *** ***et\n *** two\n*** end tw"


def through(text: bytes, cuts: list[int]) -> bytes:
    """What is shown of a text that comes in pieces."""
    stream = redaction(SECRETS)
    bounds = [0, *sorted(cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(bounds)]
    return b"".join(map(stream.feed, pieces)) + stream.finish()


def test_wherever_the_text_is_cut() -> None:
    """One cut at every place, and every byte by itself."""
    assert through(TEXT, []) == SHOWN
    for cut in range(len(TEXT)):
        assert through(TEXT, [cut]) == SHOWN, cut
    assert through(TEXT, list(range(len(TEXT)))) == SHOWN


@pytest.mark.parametrize("seed", range(20))
def test_cut_at_random(seed: int) -> None:
    """Several cuts at once."""
    chance = random.Random(seed)
    assert through(TEXT, [chance.randrange(len(TEXT)) for _ in range(chance.randrange(9))]) == SHOWN


def test_the_beginning_of_one_is_not_shown_at_the_end() -> None:
    """Where enough of it stands there to tell."""
    assert through(b"x " + CODE[:40].encode(), []) == b"x ***"
    assert through(f"x {CODE[:20]}\n{CODE[20:40]}".encode(), [9]) == b"x ***"
    assert through(b"x s3", []) == b"x s3"


@pytest.mark.parametrize("seed", range(300))
def test_any_secrets_in_any_pieces(seed: int) -> None:
    """What is shown does not depend on where the stream is cut, and holds none of them."""
    chance = random.Random(seed)
    secrets = [bytes(chance.choices(b"ab\n", k=chance.randint(1, 12))).strip() or b"a" for _ in range(3)]
    text = b"".join(chance.choices([*secrets, b"b", b"ab\nb", b"\n"], k=6))

    def shown(cuts: list[int]) -> bytes:
        stream, bounds = redaction(secrets), [0, *sorted(cuts), len(text)]
        return b"".join(stream.feed(text[start:end]) for start, end in itertools.pairwise(bounds)) + stream.finish()

    whole = shown([])
    assert not [secret for secret in secrets if secret in whole]
    for _ in range(5):
        assert shown([chance.randrange(len(text) + 1) for _ in range(3)]) == whole
