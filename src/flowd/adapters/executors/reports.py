"""What a command says through two files: metrics, read while it runs, and a result, read at its end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from flowd.adapters.executors.context import finite
from flowd.core.events import Error
from flowd.ports.executor import Channel, CommandFailed, Work

METRICS = "FLOWD_METRICS"
RESULT = "FLOWD_RESULT"
_MOST = 16 << 20
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
_BYTE = re.compile(r"\(byte (\d+)\)")


class BadReport(CommandFailed):
    """A command wrote something into one of its two files that means nothing."""

    def __init__(self, message: str) -> None:
        super().__init__(Error(type=type(self).__name__, message=message))


class Places:
    """Numbers for the files of the attempts of one engine, `incarnation`, that run at once.

    An attempt takes over the files of one that has ended: to make new ones is half of what a command costs.
    """

    def __init__(self, incarnation: str) -> None:
        self._incarnation = incarnation
        self._free: list[int] = []
        self._count = 0

    def take(self) -> int:
        """A number that no other attempt has now."""
        if self._free:
            return self._free.pop()
        self._count += 1
        return self._count

    def give_back(self, number: int) -> None:
        """The processes of the attempt have ended: nobody writes into its files any more."""
        self._free.append(number)

    def paths(self, number: int, work: Work) -> tuple[Path, Path]:
        """The files for metrics and for the result."""
        begun = f"{work.run_folder}/logs/.{self._incarnation}.{number}"
        return Path(f"{begun}.metrics"), Path(f"{begun}.result")


class Reports:
    """The two files of one attempt; its methods read from disk and belong in a thread."""

    def __init__(self, metrics: Path, result: Path, channel: Channel) -> None:
        self.files = (metrics, result)
        self._metrics = metrics
        self._result = result
        self._channel = channel
        self._read = b""
        self._lines = 0
        self._told: dict[str, float] = {}
        self.problem: str | None = None

    @property
    def env(self) -> dict[str, str]:
        """What tells the command of them."""
        return {METRICS: str(self._metrics), RESULT: str(self._result)}

    def look(self, *, at_end: bool = False) -> None:
        """Tell the metrics that are new; the first bad line is remembered as `problem`.

        A line counts once it has its newline, the last one at the end in any case. A file that
        was written anew is read anew.
        """
        if self.problem is not None:
            return
        try:
            with self._metrics.open("rb") as file:
                data = file.read(_MOST + 1)
        except FileNotFoundError:
            return
        except OSError as error:
            self.problem = f"${METRICS} cannot be read: {error}"
            return
        if len(data) > _MOST:
            self.problem = f"${METRICS} is larger than {_MOST} bytes"
            return
        if not data.startswith(self._read):
            self._read, self._lines = b"", 0
        rest = data[len(self._read) :]
        whole = rest if at_end else rest[: rest.rfind(b"\n") + 1]
        self._read += whole
        for line in whole.splitlines():
            self._lines += 1
            self._tell(line.decode("utf-8", "replace").strip())

    def _tell(self, line: str) -> None:
        if not line or self.problem is not None:
            return
        name, equals, text = (part.strip() for part in line.partition("="))
        try:
            if not equals or not _NAME.fullmatch(name) or "_" in text:
                raise ValueError("write name=number")  # noqa: TRY301  # one place words all bad lines
            value = finite(name, text)
        except (TypeError, ValueError) as error:
            self.problem = f"line {self._lines} of ${METRICS} is bad: {line[:100]!r}: {error}"
            return
        if self._told.get(name) != value:
            self._told[name] = value
            self._channel.metric(name, value)

    def remove(self) -> None:
        """Leave neither of the two behind."""
        for path in self.files:
            path.unlink(missing_ok=True)

    def result(self) -> Any:
        """The JSON that the command left, None where it left none; BadReport names the line."""
        try:
            data = self._result.read_bytes()
        except FileNotFoundError:
            return None
        if not data.strip():
            return None
        try:
            return msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            at = _BYTE.search(str(error))
            before = data[: int(at[1])] if at else data.rstrip()
            line = before.count(b"\n") + 1
            raise BadReport(f"line {line} of ${RESULT} is no JSON: {error}") from None
