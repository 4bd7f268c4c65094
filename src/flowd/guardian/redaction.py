"""Takes secrets out of a stream of bytes, also where one is cut in two by a read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

REPLACEMENT = b"***"
_TELLING = 4  # so many first bytes of a secret, alone at the end of the output, are not shown


_CODED = re.compile(rb"[A-Za-z0-9+/_=-]{8,}")
_LINE_ENDS = b"\r\n"


def source_of(secret: bytes) -> bytes:
    """The regular expression of a secret; what may be base64 or hex is found across the ends of lines."""
    if _CODED.fullmatch(secret) is None:
        return re.escape(secret)
    return rb"[\r\n]*".join(re.escape(secret[at : at + 1]) for at in range(len(secret)))


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
    """Replaces each of `secrets`, the longest where several begin at one place.

    An end of the stream that may be the beginning of a secret is held back until more comes.
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = sorted(secrets, key=len, reverse=True)
        self._longest = len(self._secrets[0])
        self._first = frozenset(secret[0] for secret in self._secrets)
        self._pattern = re.compile(b"|".join(map(source_of, self._secrets)))
        self._coded = [secret for secret in self._secrets if _CODED.fullmatch(secret)]
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What of `data` and of what was held back can be shown now."""
        data = self._held + data
        shown: list[bytes] = []
        at = 0
        while True:
            hold = self._open_end(data, at)
            match = self._pattern.search(data, at)
            if match is None or match.start() >= hold:
                break
            shown += (data[at : match.start()], REPLACEMENT)
            at = match.end()
        shown.append(data[at:hold])
        self._held = data[hold:]
        return b"".join(shown)

    def finish(self) -> bytes:
        """What is left to show at the end; the telling beginning of a secret is not."""
        held, self._held = self._pattern.sub(REPLACEMENT, self._held), b""
        start = self._open_end(held, 0)
        return held[:start] + REPLACEMENT if len(held) - start >= _TELLING else held

    def _open_end(self, data: bytes, at: int) -> int:
        """Where the longest end of `data` begins that a secret could begin with."""
        for start in range(max(at, len(data) - 2 * self._longest), len(data)):  # twice: room for the ends of lines
            if data[start] not in self._first:
                continue
            rest = data[start:]
            if any(secret.startswith(rest) for secret in self._secrets if len(secret) > len(rest)):
                return start
            joined = rest.translate(None, _LINE_ENDS)
            if len(joined) < len(rest) and any(secret.startswith(joined) for secret in self._coded if secret != joined):
                return start
        return len(data)


def redaction(secrets: Sequence[bytes]) -> Redaction:
    """The redaction of a stream in which none of `secrets` may be seen."""
    known = [secret for secret in secrets if secret]
    return Redactor(known) if known else Nothing()
