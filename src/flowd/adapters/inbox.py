"""Requests between processes as files: `runs/<run>/inbox/<id>.json`, answered beside it.

A request appears whole by a rename. Whoever asked takes the answer away, or withdraws the
request by removing it; the owner takes it by renaming it, so it is done once or not at all.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import anyio
import msgspec

from flowd.adapters import disk
from flowd.ports.inbox import Answer, Request

_REQUEST, _TAKEN, _ANSWER = ".json", ".taken", ".answer"
_FORGOTTEN = 60.0
"""Seconds after which nobody waits for an answer: whoever asks withdraws what is not answered in ten."""


class FileInbox:
    """The inboxes of the runs below `state_dir`; or those of whatever stands in another folder of it."""

    def __init__(self, state_dir: Path, below: str = "runs") -> None:
        self._runs = state_dir / below
        self._threads = disk.FileThreads(1, "flowd-inbox")

    async def take(self, runs: Collection[str]) -> list[tuple[str, Request]]:
        """The requests that wait, oldest first; an unreadable one is answered with what is wrong."""
        return await self._threads.run(self._take, runs) if runs else []

    async def answer(self, run: str, request: str, answer: Answer) -> None:
        """Tell whoever asked; nobody may be there any more."""
        path = self._runs / run / "inbox" / f"{request}{_ANSWER}"
        await self._threads.run(disk.write_atomic, path, msgspec.json.encode(answer), synced=False)

    def close(self) -> None:
        """Let the thread go."""
        self._threads.close()

    def _take(self, runs: Collection[str]) -> list[tuple[str, Request]]:
        found = []
        for run in runs:
            folder = self._runs / run / "inbox"
            try:
                names = sorted(name for name in os.listdir(folder) if name.endswith(_REQUEST))
            except FileNotFoundError:
                continue
            for name in names:
                taken = folder / (name.removesuffix(_REQUEST) + _TAKEN)
                try:
                    (folder / name).rename(taken)
                    data = taken.read_bytes()
                except FileNotFoundError:
                    continue  # withdrawn in this very moment
                taken.unlink(missing_ok=True)
                try:
                    found.append((run, msgspec.json.decode(data, type=Request)))
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    answer = Answer(error=f"the request cannot be read: {error}")
                    disk.write_atomic(taken.with_suffix(_ANSWER), msgspec.json.encode(answer), synced=False)
        return found


async def ask(run_folder: Path, request: Request, *, patience: float = 10.0) -> Answer | None:
    """Ask a run's owner and wait for its answer; None, and withdrawn, if none came in time."""
    folder = run_folder / "inbox"
    folder.mkdir(mode=0o700, exist_ok=True)
    asked, answered = folder / f"{request.id}{_REQUEST}", folder / f"{request.id}{_ANSWER}"
    disk.write_atomic(asked, msgspec.json.encode(request), synced=False)
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        await anyio.sleep(0.05)
        try:
            answer = msgspec.json.decode(answered.read_bytes(), type=Answer)
        except FileNotFoundError:
            continue
        answered.unlink()
        return answer
    asked.unlink(missing_ok=True)
    return None


def strays(run_folder: Path, now: float, *, owned: bool) -> list[Path]:
    """The files of a run's inbox that nobody waits for any more at `now`, in seconds since 1970.

    They are answers, what is half written, and requests, unless the run's owner will take them.
    """
    found = []
    with suppress(FileNotFoundError):
        for entry in os.scandir(run_folder / "inbox"):
            if owned and is_request(Path(entry.path)):
                continue
            with suppress(FileNotFoundError):  # taken in this very moment
                if entry.stat(follow_symlinks=False).st_mtime < now - _FORGOTTEN:
                    found.append(Path(entry.path))
    return sorted(found)


def is_request(path: Path) -> bool:
    """Whether a file of an inbox is a request that the run's next owner would carry out."""
    return path.name.endswith(_REQUEST) and not path.name.startswith(".")


def new_request_id() -> str:
    """An id that sorts by time."""
    return f"{time.time_ns():020d}-{secrets.token_hex(4)}"
