"""The parts that events are made of: reasons, errors, results, outputs, and how attempts ended."""

from __future__ import annotations

from datetime import datetime

import msgspec


class Reason(msgspec.Struct, frozen=True, gc=False):
    """Why something is as it is: a stable code for programs, a sentence for people."""

    code: str
    sentence: str


class Error(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What went wrong in an attempt, in words that outlive the process it happened in.

    `type` is the exception's class name (`CommandFailed` for a command that ended badly),
    `where` the innermost `file:line` of the user's own code, `traceback` its text.
    """

    type: str
    message: str
    where: str | None = None
    traceback: str | None = None
    exit_code: int | None = None
    signal: str | None = None


class Stored(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A task's result: inline JSON where small, else the content address of a file.

    `codec` is `json` or `pickle`; `size` is in bytes; `digest` is sha256 of the encoded
    bytes in hex, and stands for the value where freshness is decided.
    """

    codec: str = "json"
    digest: str
    size: int
    inline: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Artifact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A declared output as it was left: path as written, bytes, sha256 in hex.

    `unchanged` marks an output that was there before and was not written.
    """

    path: str
    size: int
    digest: str
    mtime_ns: int = 0
    checkpoint: bool = True
    unchanged: bool = False


class Ending(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How an attempt came to its end: a receipt where it was stopped, a death certificate where it was a process.

    `stopped_by` is what it stopped at, `stop_s` seconds after it was asked: `cancellation` (a
    coroutine), `return` (a function that was told), `SIGTERM` or `SIGKILL`; then none of its
    processes is left. A process has an `exit_code` or a `signal`, whose `sender` is `flowd`, the
    `oom_killer` where the kernel says so, or `unknown`; user and system time in `cpu_s`,
    `peak_rss` in bytes, how many `leftovers` outlived it and were ended, and, where it ended
    badly, the last lines it said.
    """

    stopped_by: str | None = None
    stop_s: float | None = None
    exit_code: int | None = None
    signal: str | None = None
    sender: str | None = None
    cpu_s: float | None = None
    peak_rss: int | None = None
    leftovers: int = 0
    tail: tuple[str, ...] = ()


class SentBack(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Why a task runs again: a person rejected what `task` asked about, with a comment, and sent it back to here."""

    task: str
    by: str = ""
    comment: str = ""
    at: datetime
