"""What a task prints: read in chunks, redacted, capped, and written to its file as it comes."""

from __future__ import annotations

import contextlib
import os

from flowd.guardian.redaction import Redaction

_CHUNK = 1 << 16
_MOST_WAITING = 64  # reads after the end: more than any pipe holds
_TAIL = 1 << 14
TAIL_LINES = 50


class Log:
    """The file of an attempt; `tail` is the end of what was said, kept or not.

    A file that cannot be written to does not stop the task: `error` says so once.
    """

    def __init__(self, path: bytes) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            self._file = os.open(path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            self._file = os.open(path, flags, 0o600)
        self.tail = b""
        self.error: str | None = None

    def write(self, data: bytes) -> int:
        """Append; how many bytes were taken."""
        done = 0
        while done < len(data):
            try:
                done += os.write(self._file, data[done:] if done else data)
            except OSError as error:
                self.error = self.error or os.strerror(error.errno or 0)
                break
        return done

    def remember(self, data: bytes) -> None:
        """Keep the end of what was said, for the report."""
        self.tail = last(self.tail, data)

    def close(self) -> None:
        """Close the file; errors that only now come to light are reported as well."""
        try:
            os.close(self._file)
        except OSError as error:
            self.error = self.error or os.strerror(error.errno or 0)


def last(tail: bytes, data: bytes) -> bytes:
    """The end of `tail` followed by `data`."""
    return data[-_TAIL:] if len(data) >= _TAIL else (tail + data)[-_TAIL:]


class Stream:
    """One of a task's two pipes. `dropped` counts the bytes that did not get into the file."""

    def __init__(self, name: str, pipe: int, log: Log, redaction: Redaction, cap: int) -> None:
        self.name = name
        self.pipe = pipe
        self.dropped = 0
        self.tail = b""
        self._log = log
        self._redaction = redaction
        self._cap = self._room = cap

    def read(self) -> bool | None:
        """Take what waits, one chunk of it: True if there was some, False at the end, None if nothing waits."""
        try:
            data = os.read(self.pipe, _CHUNK)
        except (BlockingIOError, InterruptedError):
            return None
        if data:
            self._keep(self._redaction.feed(data))
        return bool(data)

    def finish(self) -> None:
        """Take what is there without waiting for more, and say what is missing in the file."""
        for _ in range(_MOST_WAITING):
            if not self.open or not self.read():
                break
        self._keep(self._redaction.finish())
        self.close()
        if self.dropped:
            self._log.write(f"\n[flowd: {self.dropped} bytes of {self.name} are missing here]\n".encode())

    @property
    def open(self) -> bool:
        """Whether the pipe may still bring something."""
        return self.pipe >= 0

    def close(self) -> None:
        """Let go of the pipe."""
        if self.open:
            with contextlib.suppress(OSError):
                os.close(self.pipe)
            self.pipe = -1

    def _keep(self, data: bytes) -> None:
        if not data:
            return
        self.tail = last(self.tail, data)
        self._log.remember(data)
        if self._room <= 0:
            self.dropped += len(data)
            return
        part = data[: self._room]
        written = self._log.write(part)
        self._room -= len(part)
        self.dropped += len(data) - written
        if self._room <= 0:
            self._log.write(
                f"\n[flowd: {self.name} passed {self._cap} bytes; the rest is counted, not kept]\n".encode()
            )
