"""Libraries that log what they are asked to fetch are told to keep still about what flowd sends, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

_LOGGERS = (
    "httpx2",
    "httpcore2.connection",
    "httpcore2.http11",
    "httpcore2.http2",
    "httpcore2.proxy",
    "httpcore2.socks",
)
_delivering: ContextVar[bool] = ContextVar("flowd_delivering", default=False)


@contextmanager
def quietly() -> Iterator[None]:
    """Keep addresses, which may be keys, out of the logs of the libraries that are used within."""
    _listen()
    token = _delivering.set(True)
    try:
        yield
    finally:
        _delivering.reset(token)


@cache
def _listen() -> None:
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(lambda _record: not _delivering.get())
