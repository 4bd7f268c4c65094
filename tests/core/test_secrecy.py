"""Secrets in texts: every form in which programs print one is found, wherever it begins."""

from __future__ import annotations

import base64
import json
import random
import shlex
import time
from datetime import UTC, datetime
from urllib.parse import quote, quote_plus

import pytest

from flowd.core.secrecy import HIDDEN, SHORTEST, Secrecy, forms_of

SECRETS = ["Sw0rd-fish/77+x=", 'it\'s a "quoted" $ecret\\with <all> & more', "žluťoučký kůň", "abcd"]
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG\n\nAAAA+/bbbbCCCCdddd==\n}\n-----END KEY-----\n"


def known(*values: str) -> Secrecy:
    """What hides `values`."""
    secrecy = Secrecy()
    for value in values:
        secrecy.learn(value)
    return secrecy


@pytest.mark.parametrize("value", SECRETS)
def test_each_way_to_print_one_is_hidden(value: str) -> None:
    """As it is, escaped for JSON, Python, URLs and shells, and in hex."""
    ways = {
        "raw": value,
        "json": json.dumps({"v": value}),
        "json in utf-8": json.dumps({"v": value}, ensure_ascii=False),
        "twice in json": json.dumps({"v": f"{value} and {value}"}),
        "repr": repr([value]),
        "ascii": ascii([value]),
        "url": quote(value, safe=""),
        "path": quote(value),
        "query": quote_plus(value),
        "small url": quote(value, safe="").replace("%2F", "%2f").replace("%2B", "%2b").replace("%3D", "%3d"),
        "shell": shlex.quote(value),
        "hex": value.encode().hex(),
        "HEX": value.encode().hex().upper(),
    }
    secrecy = known(value)
    for way, text in ways.items():
        shown = secrecy.hide(f"before {text} after")
        assert HIDDEN in shown, way
        assert text.strip("'\"{}[]") not in shown, way
        assert shown.startswith("before "), way
        assert shown.endswith(" after"), way


@pytest.mark.parametrize("value", SECRETS)
def test_base64_is_hidden_wherever_the_value_begins(value: str) -> None:
    """In a longer text, at each of the three alignments, in both alphabets, no three bytes of it can be read."""
    secrecy = known(value)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(9):
            for after in range(4):
                text = encode(b"u" * before + value.encode() + b"p" * after).decode()
                left, found, right = secrecy.hide(text).partition(HIDDEN)
                assert found, (encode.__name__, before, after)
                assert len(left) <= (before * 8 + 5) // 6 + 1
                assert len(right.rstrip("=")) <= (after * 8 + 5) // 6 + 2


def test_a_long_one_is_hidden_in_lines_of_base64() -> None:
    """As `base64` and `openssl base64` print it."""
    value = "".join(random.Random(7).choices("abcdefghijkl0123456789", k=200))
    code = base64.b64encode(value.encode()).decode()
    for width in (76, 64):
        lines = [code[at : at + width] for at in range(0, len(code), width)]
        shown = known(value).hide("\n".join(lines))
        assert not [line for line in lines if line[:8] in shown]


def test_lines_of_one_that_has_several_are_hidden() -> None:
    """Each by itself, but for what is no more than punctuation."""
    secrecy = known(KEY)
    for line in KEY.strip().splitlines():
        assert secrecy.hide(f"> {line} <") == (f"> {HIDDEN} <" if any(map(str.isalnum, line)) else f"> {line} <")
    assert "MIIE" not in secrecy.hide(KEY.replace("\n", "\r\n"))


def test_the_longest_form_wins() -> None:
    """A secret that begins with another one is hidden whole."""
    assert known("hunter", "hunter-and-more").hide("a hunter-and-more b") == f"a {HIDDEN} b"


def test_data_is_searched_however_deep() -> None:
    """Keys, numbers and values of other types; what holds no secret stays what it is."""
    secrecy = known("s3cr3t-w0rd", "12345678")
    value = {"n": 5, "ok": True, "none": None, "s3cr3t-w0rd": [1.5, {"x": "a s3cr3t-w0rd"}], "pin": 12345678}
    assert secrecy.hide_in(value) == {
        "n": 5,
        "ok": True,
        "none": None,
        HIDDEN: [1.5, {"x": f"a {HIDDEN}"}],
        "pin": HIDDEN,
    }
    said = {"raw": b"x s3cr3t-w0rd", "error": ValueError("s3cr3t-w0rd"), "at": datetime(2026, 1, 1, tzinfo=UTC)}
    assert secrecy.hide_said(said) == {"raw": f"x {HIDDEN}", "error": HIDDEN, "at": "2026-01-01T00:00:00Z"}


def test_without_secrets_everything_is_left_as_it_is() -> None:
    """The very same objects: most runs have none."""
    secrecy, fields = Secrecy(), {"error": ValueError()}
    assert not secrecy
    assert secrecy.hide_said(fields) is fields
    assert secrecy.hide_in(fields) is fields
    assert secrecy.hide("text") == "text"


def test_many_long_ones_are_found_at_once() -> None:
    """A key of hundreds of lines is no burden: what looks for it is made at once, and reads a megabyte in a moment."""
    lines = [base64.b64encode(random.Random(number).randbytes(45)).decode() for number in range(250)]
    secrecy = known("\n".join(lines))
    text = "2026-11-22 some ordinary log line with words and 12345 numbers, rows=203\n" * 10_000
    began = time.process_time()
    assert secrecy.hide(text) is text
    assert secrecy.hide(f"{text}{lines[249]}") == f"{text}{HIDDEN}"
    assert time.process_time() - began < 5  # it takes some 0.05 s; a minute where each secret is sought by itself


def test_what_is_too_short_is_no_form() -> None:
    """No form has fewer characters than a secret must have."""
    assert all(len(form) >= SHORTEST for value in [*SECRETS, KEY, "ab"] for form in forms_of(value))
    secrecy = known("abc")
    assert not secrecy
