"""Folders with a pipeline in them, flowd run there as real processes, and what they were told."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowd.adapters.results import FileResults
from flowd.core.errors import FlowdError

SHIM = Path(__file__).parent / "shim"
RUN = "r"
PATIENCE = 60.0
TRACEBACK = ("Traceback (most recent call last)", "an error of its own")


class Broken(Exception):
    """A promise was not kept; the message says which."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended; `code` is negative where a signal ended it."""

    words: tuple[str, ...]
    code: int
    out: bytes
    err: str

    def __str__(self) -> str:
        return f"flowd {' '.join(self.words)}: exit {self.code}\n    {self.err.strip()[-1500:]}"

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events it printed, a cut last line left out."""
        lines = self.out.splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith(b"\n") and line.startswith(b'{"seq"')]


class DiskPlace:
    """One pipeline's folder `root`; beside it what no power cut reaches: the ledger and the log of syncs."""

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.root = folder / "root"
        self.root.mkdir()
        self.state = self.root / ".flowd"
        self.log = folder / "syncs"
        self.token = f"{os.getpid()}:{folder}"
        self._ledger = folder / "ledger"
        self.told: dict[int, dict[str, Any]] = {}
        for name, text in files.items():
            (self.root / name).write_text(text, encoding="utf-8")

    def flowd(
        self,
        *words: str,
        plan: Mapping[str, Any] | None = None,
        before: tuple[str, ...] = (),
    ) -> Ended:
        """Run a command to its end and to the end of all that it began; what it told counts as told.

        `before` are words that come before the interpreter.
        """
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "flowd", *words],
            cwd=self.root,
            env=self.environment(plan),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Broken(f"flowd {' '.join(words)} took longer than {PATIENCE:g}s") from None
        finally:
            self.end_all()
        ended = Ended(words, process.returncode, out, err.decode(errors="replace"))
        for event in ended.events:
            self.told[event["seq"]] = event
        if any(text in ended.err for text in TRACEBACK):
            raise Broken(f"a traceback\n{ended}")
        return ended

    def environment(self, plan: Mapping[str, Any] | None = None) -> dict[str, str]:
        """What a command sees: the shim where there is a plan, and the mark that it is found by."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWD_")}
        paths = [str(SHIM)] if plan is not None else []
        paths += filter(None, [os.environ.get("PYTHONPATH")])
        more = {"FAULT_PLAN": json.dumps(plan)} if plan is not None else {}
        return kept | more | {
            "FAULT_LEDGER": str(self._ledger),
            "FAULT_CASE": self.token,
            "FLOWD_STATE_DIR": str(self.state),  # else it is that of the project that the folder is in
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUTF8": "1",
        }  # fmt: skip

    def end_all(self) -> None:
        """Wait for what a command left behind to end, and end it where it does not."""
        patience = time.monotonic() + 5
        while left := list(marked(self.token)):
            if time.monotonic() > patience:
                for pid in left:
                    os.kill(pid, signal.SIGKILL)
                raise Broken(f"processes {left} outlived flowd by 5s")
            time.sleep(0.005)

    def ledger(self) -> list[str]:
        """The names of the tasks whose bodies began, one for each time."""
        try:
            return self._ledger.read_text(encoding="utf-8").split()
        except FileNotFoundError:
            return []

    @property
    def succeeded(self) -> dict[str, dict[str, Any]]:
        """The tasks that were told as succeeded, with what was told."""
        return {event["task"]: event for event in self.told.values() if event["event"] == "task_succeeded"}

    def check_kept(self) -> None:
        """Broken unless outputs and results of all that was told as succeeded are there, whole."""
        for task, event in self.succeeded.items():
            for output in event.get("outputs", ()):
                try:
                    data = (self.root / output["path"]).read_bytes()
                except OSError as error:
                    raise Broken(f"{task} was told as succeeded, its output is gone: {error}") from None
                if hashlib.sha256(data).hexdigest() != output["digest"]:
                    raise Broken(f"{task} was told as succeeded, its output {output['path']} is {data[:60]!r}")
            result = event.get("result")
            if result and result.get("inline") is None:
                try:
                    with closing(FileResults(self.state)) as results:
                        asyncio.run(results.get(result["digest"], result.get("codec", "json")))
                except FlowdError as error:
                    raise Broken(f"{task} was told as succeeded, its result is lost: {error}") from error


def marked(token: str) -> Iterator[int]:
    """The living processes that were started with this mark in their environment."""
    mark = f"FAULT_CASE={token}\0".encode()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    found = mark in file.read()
            except OSError:
                continue
            if found:
                yield int(name)
