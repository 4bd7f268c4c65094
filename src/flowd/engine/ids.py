"""Ids of runs: they sort by time, and are read aloud without mistakes."""

from __future__ import annotations

import secrets
from datetime import datetime

_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no letters that look alike


def new_run_id(now: datetime) -> str:
    """An id that sorts by time to the millisecond, with 15 random bits behind."""
    millis = now.microsecond // 1000
    tail = _LETTERS[millis // 32] + _LETTERS[millis % 32]
    tail += "".join(secrets.choice(_LETTERS) for _ in range(3))
    return f"{now:%Y%m%d-%H%M%S}-{tail}"
