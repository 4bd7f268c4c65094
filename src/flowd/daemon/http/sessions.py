"""Links that are good once, and what a browser is known by afterwards.

House rules of this room. A token is in no link and in no cookie: a link is written to logs and histories, and
a cookie is sent to every port of its host. What is kept of either is a digest; all of it ends with the process.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from flowd.ports.clock import Clock

LINK_FOR: Final = timedelta(minutes=15)
SESSION_FOR: Final = timedelta(days=7)
_MOST: Final = 1_000


class Sessions:
    """Who may come in by a link, and who has: each by the id of a token, which decides what they may."""

    def __init__(self, clock: Clock) -> None:
        self._links = _Keys(clock, LINK_FOR)
        self._sessions = _Keys(clock, SESSION_FOR)

    def invite(self, token: str) -> str:
        """A word for one link, for whoever holds the token with this id."""
        return self._links.new(token)

    def redeem(self, word: str) -> str | None:
        """The id of the token that a link stands for; None where it was used, or is too old. It is used by this."""
        return self._links.take(word)

    def begin(self, token: str) -> str:
        """A word by which a browser is known from now on."""
        return self._sessions.new(token)

    def token_of(self, word: str) -> str | None:
        """The id of the token by which a browser came in; None where it is not known, or no more."""
        return self._sessions.find(word)


class _Keys:
    """Random words, and what each stands for, until it is too old; where they are too many, the oldest goes."""

    def __init__(self, clock: Clock, lasts: timedelta) -> None:
        self._clock = clock
        self._lasts = lasts
        self._known: dict[bytes, tuple[str, datetime]] = {}

    def new(self, what: str) -> str:
        while len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        word = secrets.token_urlsafe(32)
        self._known[_digest(word)] = what, self._clock.now() + self._lasts
        return word

    def find(self, word: str) -> str | None:
        what, until = self._known.get(_digest(word), ("", None))
        return what if until is not None and self._clock.now() < until else None

    def take(self, word: str) -> str | None:
        found = self.find(word)
        self._known.pop(_digest(word), None)
        return found


def _digest(word: str) -> bytes:
    return sha256(word.encode("utf-8", "replace")).digest()
