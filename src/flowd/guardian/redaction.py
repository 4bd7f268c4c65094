"""Takes secrets out of a stream of bytes, also where one is cut in two by a read.

A secret is looked for by its first letters, and compared whole only where these stand: there may
be many, and long ones. What may be base64 or hex is found across the ends of lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Protocol

REPLACEMENT = b"***"
_TELLING = 4  # so many first bytes of a secret, alone at the end of the output, are not shown
_HEAD = 4  # letters by which a secret is looked for
_MOST_HEAD = 64  # bytes in which they stand, with ends of lines between them
_CODED = re.compile(rb"[A-Za-z0-9+/_=-]{8,}")
_LINE_ENDS = b"\r\n"


class Finder:
    """Finds each of `secrets`, the longest where several begin at one place."""

    def __init__(self, secrets: Iterable[bytes]) -> None:
        known = sorted({secret.strip(_LINE_ENDS) for secret in secrets} - {b""}, key=len, reverse=True)
        bare = [(secret.translate(None, _LINE_ENDS), secret) for secret in known]
        self._head = min((_HEAD, *(len(letters) for letters, _ in bare)))
        self._by_head: dict[bytes, list[bytes]] = {}
        for letters, secret in bare:
            self._by_head.setdefault(letters[: self._head], []).append(secret)
        self._coded = frozenset(secret for secret in known if _CODED.fullmatch(secret))
        self._heads = re.compile(_any_of(self._by_head))

    def find(self, data: bytes, at: int, *, last: bool) -> tuple[int, int] | None:
        """Where the next secret begins and ends; -1 for an end that has yet to come, unless the data is the `last`."""
        unsure = len(data) if last else self._open_head(data, at)
        while (match := self._heads.search(data, at)) is not None and match.start() < unsure:
            start = at = match.start()
            for secret in self._by_head[match[0].translate(None, _LINE_ENDS)]:
                end = self._end(data, start, secret)
                if end > 0 or (end < 0 and not last):
                    return start, end
            at += 1
        return (unsure, -1) if unsure < len(data) else None

    def hide(self, data: bytes) -> bytes:
        """`data`, which is all there is, without secrets."""
        shown, at = list[bytes](), 0
        while (found := self.find(data, at, last=True)) is not None:
            shown += (data[at : found[0]], REPLACEMENT)
            at = found[1]
        return b"".join((*shown, data[at:])) if shown else data

    def _end(self, data: bytes, start: int, secret: bytes) -> int:
        """Where `secret` ends if it stands at `start`; 0 if not, -1 if that is not known yet."""
        if data.startswith(secret, start):
            return start + len(secret)
        if len(data) - start < len(secret) and secret.startswith(data[start:]):
            return -1
        if secret not in self._coded:
            return 0
        window = data[start : start + 2 * len(secret)]
        joined = window.translate(None, _LINE_ENDS)
        if joined.startswith(secret):
            end = len(secret)
            while len(window[:end].translate(None, _LINE_ENDS)) < len(secret):
                end += len(secret) - len(window[:end].translate(None, _LINE_ENDS))
            return start + end
        return -1 if start + len(window) == len(data) and secret.startswith(joined) else 0

    def _open_head(self, data: bytes, at: int) -> int:
        """Where the first letters of a secret may have begun that the data ends in."""
        for start in range(max(at, len(data) - _MOST_HEAD), len(data)):
            letters = data[start:].translate(None, _LINE_ENDS)
            if data[start] in _LINE_ENDS or len(letters) >= self._head:
                continue
            if any(head.startswith(letters) for head in self._by_head):
                return start
        return len(data)


def _any_of(heads: Iterable[bytes]) -> bytes:
    """A regular expression of all heads, what they share at their beginning written once."""
    after: dict[bytes, set[bytes]] = {}
    for head in heads:
        after.setdefault(head[:1], set()).add(head[1:])
    parts = [
        re.escape(letter) + (rb"[\r\n]*" + _any_of(rest) if rest != {b""} else b"") for letter, rest in after.items()
    ]
    return parts[0] if len(parts) == 1 else b"(?:" + b"|".join(parts) + b")"


class Redaction(Protocol):
    """Bytes in, bytes without secrets out; `finish` gives what was held back."""

    def feed(self, data: bytes) -> bytes:
        """What of `data` and of what was held back can be shown now."""
        ...

    def finish(self) -> bytes:
        """What is left to show at the end."""
        ...


class Nothing:
    """For streams without secrets."""

    def feed(self, data: bytes) -> bytes:
        """All of it."""
        return data

    def finish(self) -> bytes:
        """Nothing was held back."""
        return b""


class Redactor:
    """Replaces what `finder` finds.

    An end of the stream that may be the beginning of a secret is held back until more comes.
    """

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What of `data` and of what was held back can be shown now."""
        data = self._held + data
        shown: list[bytes] = []
        at = 0
        self._held = b""
        while (found := self._finder.find(data, at, last=False)) is not None:
            start, end = found
            shown.append(data[at:start])
            at = start
            if end < 0:
                self._held = data[start:]
                return b"".join(shown)
            shown.append(REPLACEMENT)
            at = end
        return b"".join((*shown, data[at:]))

    def finish(self) -> bytes:
        """What is left to show at the end; the telling beginning of a secret is not."""
        held, self._held = self._finder.hide(self._held), b""
        found = self._finder.find(held, 0, last=False)
        return held[: found[0]] + REPLACEMENT if found is not None and len(held) - found[0] >= _TELLING else held


def redaction(secrets: Sequence[bytes]) -> Redaction:
    """The redaction of a stream in which none of `secrets` may be seen."""
    known = [secret for secret in secrets if secret.strip(_LINE_ENDS)]
    return Redactor(Finder(known)) if known else Nothing()
