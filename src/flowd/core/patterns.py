"""Paths as texts: the globs that name them, and the folders above them.

In a glob `*`, `?` and `[…]` stay within one folder, and `**` goes through any number of them. It
means what `glob.glob(…, recursive=True)` makes of it: what begins with a dot is found only where
the glob says the dot. One way from a text to its meaning, for inputs, outputs and code alike.
"""

from __future__ import annotations

import fnmatch
import glob
import re
from collections.abc import Iterator
from functools import lru_cache

from flowd.core.expressions import ExpressionError, spans

_SIGNS = re.compile(r"[*?\[]")
_ESCAPED = re.compile(r"\[([*?\[])\]")
_SIGN = re.compile(r"\[!?+\]?+[^\]]*+\]|\*+|.", re.DOTALL)
_NAME = r"(?!\.)[^/]+"


class Glob(str):
    """The name of many files, its expressions resolved; a `str` that is none names one file, whatever is in it.

    As a text it is as people see it; in `pattern` the signs that came from values are escaped.
    """

    __slots__ = ("pattern",)
    pattern: str

    def __new__(cls, shown: str, pattern: str | None = None) -> Glob:
        """`pattern` is what is shown where it is not given."""
        made = super().__new__(cls, shown)
        made.pattern = shown if pattern is None else pattern
        return made


def is_pattern(written: str) -> bool:
    """Whether a path as it is written is a glob; an expression in it is none, whatever its value."""
    if _SIGNS.search(written) is None:
        return False
    if "{{" not in written:
        return True
    try:
        return any(_SIGNS.search(part) for part in spans(written) if isinstance(part, str))
    except ExpressionError:
        return False  # it is said where expressions are checked


def named(written: str) -> str:
    """What a path without an expression names: a Glob, or one file; `a[[]1].txt` is the file `a[1].txt`."""
    if _SIGNS.search(written) is None:
        return written
    return Glob(written) if _SIGNS.search(_ESCAPED.sub("", written)) else _ESCAPED.sub(r"\1", written)


def folder_of(pattern: str) -> str:
    """The folder in which a glob begins to look: all before the first name that has a sign in it."""
    names = pattern.split("/")[:-1]
    sure = next((n for n, name in enumerate(names) if _SIGNS.search(_ESCAPED.sub("", name))), len(names))
    return _ESCAPED.sub(r"\1", "/".join(names[:sure])) or ("/" if pattern.startswith("/") else "")


def finds(pattern: str, path: str) -> bool:
    """Whether a glob finds a path, as `glob` would where it is there."""
    return _regex(pattern).fullmatch(path) is not None


@lru_cache(maxsize=4_096)
def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile("".join(_parts(pattern.split("/"))), re.DOTALL)


def _parts(names: list[str]) -> Iterator[str]:
    for number, name in enumerate(names, 1):
        last = number == len(names)
        if name == "**":
            yield rf"{_NAME}(?:/{_NAME})*" if last else f"(?:{_NAME}/)*"
            continue
        if not glob.has_magic(name):
            yield re.escape(name)
        else:
            yield "" if name.startswith(".") else r"(?!\.)"
            yield from map(_meaning, _SIGN.findall(name))
        yield "" if last else "/"


def _meaning(sign: str) -> str:
    if sign.startswith("*"):
        return "[^/]*"
    if sign == "?":
        return "[^/]"
    return re.escape(sign) if len(sign) == 1 else f"(?!/){fnmatch.translate(sign)[4:-3]}"


def folders_above(path: str) -> list[str]:
    """The folders that hold a path, the nearest first; the root, which holds all, is left out."""
    parts = path.split("/")
    return [above for end in range(len(parts) - 1, 0, -1) if (above := "/".join(parts[:end]))]
