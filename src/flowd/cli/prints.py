"""Where `print` goes while this process runs tasks: into the file of the attempt that prints.

Secrets are taken out on the way. Only a command does so; the library leaves its host's streams
alone. What processes of tasks print
that are begun in here (`subprocess`, `asyncio`) goes where the command's own streams lead.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TextIO

from flowd.adapters import disk
from flowd.guardian.redaction import redaction
from flowd.ports.executor import Work, attempt_at_work


class _Redacted:
    """What one attempt prints to one stream, on its way to its file without secrets."""

    def __init__(self, work: Work) -> None:
        self._work = work  # kept: its id is its name
        self._redaction = redaction([form.encode() for form in work.redactions])
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        """Write what can be shown by now."""
        self._put(lambda: self._redaction.feed(data))

    def finish(self) -> None:
        """Write what was held back, since it could have become a secret."""
        self._put(self._redaction.finish)

    def _put(self, shown: Callable[[], bytes]) -> None:
        with self._lock:
            if data := shown():
                disk.append(self._work.log, data)


class Routed:
    """A stream that is `stream` for everyone but for attempts; those write into their own files."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._pieces: dict[int, _Redacted] = {}

    def write(self, text: str) -> int:
        """Write where it belongs; a file is opened for each piece, so that it can be read at once."""
        work = attempt_at_work.get()
        if work is None:
            return self._stream.write(text)
        data = text.encode("utf-8", "backslashreplace")
        if work.redactions:
            self._piece(work).write(data)
        else:
            disk.append(work.log, data)
        return len(text)

    def _piece(self, work: Work) -> _Redacted:
        """What carries this stream's words of one attempt until it has ended, and of an abandoned one for ever."""
        with self._lock:
            piece = self._pieces.get(id(work))
            if piece is None:
                piece = self._pieces[id(work)] = _Redacted(work)
                work.closing = (*work.closing, partial(self._close, id(work)))
            return piece

    def _close(self, attempt: int) -> None:
        with self._lock:
            piece = self._pieces.pop(attempt, None)
        if piece is not None:
            piece.finish()

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several pieces."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Nothing of an attempt waits here."""
        if attempt_at_work.get() is None:
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        """Whatever else a stream has is the stream's."""
        return getattr(self._stream, name)


@contextmanager
def routed(*, aside: bool) -> Iterator[None]:
    """Route both streams for a while; `aside`: what no attempt writes to stdout goes to stderr."""
    before = sys.stdout, sys.stderr
    sys.stdout = Routed(before[1] if aside else before[0])
    sys.stderr = Routed(before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


@contextmanager
def kept_stdout(*, aside: bool) -> Iterator[TextIO]:
    """stdout for documents alone; `aside`: whatever else writes to descriptor 1, as children do, reaches stderr."""
    stream = sys.stdout
    if not aside or _number(stream) != 1:
        yield stream
        return
    stream.flush()
    kept = open(os.dup(1), "w", encoding=stream.encoding, errors=stream.errors)  # noqa: SIM115  # closed below, both ways
    os.dup2(2, 1)
    try:
        yield kept
    except BaseException:
        with suppress(OSError):  # the first reason counts
            kept.flush()
        raise
    else:
        kept.flush()
    finally:
        os.dup2(kept.fileno(), 1)
        with suppress(OSError):  # what could not be written was said by then
            kept.close()


def _number(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):  # a stream of a test, or closed
        return None
