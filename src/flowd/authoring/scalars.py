"""What a plain YAML scalar means here: the reading that all versions of YAML share, or none.

`no`, `on`, `014`, `1:30` and `1e3` are one thing in YAML 1.1 and another in 1.2. Such a text
becomes a `Surprise`, which is refused wherever a value is used, with what to write instead.
Dates stay text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][-+][0-9]+)?|[-+]?(?:0|[1-9][0-9]*)\.(?:[eE][-+][0-9]+)?")
_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INFINITE = {f"{sign}.{word}" for sign in ("", "+", "-") for word in ("inf", "Inf", "INF")} | {".nan", ".NaN", ".NAN"}
_YES_NO = {
    **{word: "true" for text in ("yes", "on") for word in (text, text.title(), text.upper())},
    **{word: "false" for text in ("no", "off") for word in (text, text.title(), text.upper())},
}
_STARTS = frozenset("+-.0123456789")
_MOST_DIGITS = 40


class Surprise(msgspec.Struct, frozen=True):
    """A scalar that readers of YAML disagree about: as written, and what some of them make of it."""

    text: str
    reading: str

    @property
    def message(self) -> str:
        """What is wrong with it."""
        return f"`{self.text}` is text to some readers of YAML and {self.reading} to others"

    @property
    def hint(self) -> str:
        """What to write instead."""
        return f'write "{self.text}" in quotes for the text, or {self.reading.split(" (")[0]}'


def _octal(text: str) -> str:
    return f"{int(text.replace('o', ''), 8)} (an octal number)"


def _base_60(text: str) -> str:
    total = 0.0
    for part in text.lstrip("+-").split(":"):
        total = total * 60 + float(part)
    return f"{'-' if text[0] == '-' else ''}{total:g} (a number of base 60)"


def _exponent(text: str) -> str:
    return f"{float(text)!r} (a number)"


def _grouped(text: str) -> str:
    return f"{text.replace('_', '')} (a number)"


_SURPRISES: tuple[tuple[re.Pattern[str], Callable[[str], str]], ...] = (
    (re.compile(r"[-+]?0[0-7]+|0o[0-7]+"), _octal),
    (re.compile(r"[-+]?0[0-9]+"), lambda text: f"{int(text)} (a number)"),
    (re.compile(r"[-+]?[0-9]{1,9}(?::[0-5]?[0-9])+(?:\.[0-9]*)?"), _base_60),
    (re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]{1,4}"), _exponent),
    (re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?"), _grouped),
    (re.compile(r"[-+]?0b[01]{1,64}"), lambda text: f"{int(text, 2)} (a binary number)"),
)


def resolve(text: str) -> Any:
    """The value of a plain scalar: None, bool, int, float, str or `Surprise`."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text in _YES_NO:
        return Surprise(text, _YES_NO[text])
    if text in _INFINITE:
        return float(text.replace(".", "", 1))
    if text[0] not in _STARTS or len(text) > _MOST_DIGITS:
        return text
    if _INT.fullmatch(text):
        return int(text, 16) if text[:2] == "0x" else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    for pattern, reading in _SURPRISES:
        if pattern.fullmatch(text):
            return Surprise(text, reading(text))
    return text
