"""What black-box tests share: flowd as a process of its own, in a folder of its own, never left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

PATIENCE = 40.0
"""Seconds after which a command hangs."""

FLOWD = (sys.executable, "-m", "flowd")


class Ended(NamedTuple):
    """A command that has ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Both streams, for a failing assertion."""
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        assert self.out.count("\n") == 1, self.said
        value = json.loads(self.out)
        assert isinstance(value, dict), self.said
        return value

    @property
    def events(self) -> list[dict[str, Any]]:
        """stdout as one JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Place:
    """A folder with a pipeline in it, and flowd run there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / ".flowd"
        self._living: list[subprocess.Popen[str]] = []

    # --- files -------------------------------------------------------------------------------------------

    def write(self, name: str, text: str) -> Path:
        """A file of the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def pipeline(self, tasks: Mapping[str, Any], **keys: Any) -> Path:
        """`pipeline.yaml`; JSON is YAML."""
        return self.write("pipeline.yaml", json.dumps({"name": "p", **keys, "tasks": tasks}))

    def lines(self, name: str) -> list[str]:
        """The lines of a file, none where there is no file."""
        try:
            return (self.folder / name).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    def has(self, name: str) -> Callable[[], bool]:
        """Whether a file is there and not empty, asked at each call."""
        return lambda: bool(self.lines(name))

    # --- commands ----------------------------------------------------------------------------------------

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of this process without what would point elsewhere or make Python another than users have."""
        other = ("FLOWD_", "NO_COLOR", "PYTHONUNBUFFERED")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(other)}
        # a limit of file size would cut off bytecode that is written under it, for every later start
        return kept | {"PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1", "TERM": "xterm"} | dict(more or {})

    def begin(self, *words: str, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        """Start a command in a session of its own; ended with the test at the latest."""
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        process = subprocess.Popen(  # type: ignore[call-overload]  # the options are a test's
            [*FLOWD, *words],
            cwd=streams.pop("cwd", self.folder),
            env=self.environment(env),
            encoding="utf-8",
            start_new_session=True,
            **streams,
        )
        self._living.append(process)
        return process  # type: ignore[no-any-return]

    def run(self, *words: str, env: Mapping[str, str] | None = None, **options: Any) -> Ended:
        """A command from its start to its end."""
        return end_of(self.begin(*words, env=env, **options))

    def json(self, *words: str, code: int = 0, **options: Any) -> dict[str, Any]:
        """The object that a command prints with `--json`."""
        ended = self.run(*words, "--json", **options)
        assert ended.code == code, ended.said
        return ended.document

    def ok(self, *words: str, **options: Any) -> Ended:
        """A command that must end with 0."""
        ended = self.run(*words, **options)
        assert ended.code == 0, ended.said
        return ended

    def journal(self, run: str | None = None) -> Path:
        """The first segment of a run's journal: the only run's, where none is named."""
        [found] = self.state.glob(f"runs/{run or '*'}/journal.0001.jsonl")
        return found

    def recorded(self, event: str) -> bool:
        """Whether an event of the newest run is acknowledged: of what is in its journal a kill may leave less."""
        return any(one["event"] == event for one in self.run("events", "--json").events)

    def close(self) -> None:
        """Leave no command behind."""
        for process in self._living:
            if process.poll() is None:
                process.kill()
            process.communicate()


def end_of(process: subprocess.Popen[str], patience: float = PATIENCE) -> Ended:
    """Wait for a command's end; one that hangs is a failure and is killed."""
    try:
        out, err = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"flowd hangs\n{Ended(-1, out, err).said}") from None
    return Ended(process.returncode, out or "", err or "")


@contextmanager
def place(folder: Path) -> Iterator[Place]:
    """A place whose commands all end with it."""
    opened = Place(folder)
    try:
        yield opened
    finally:
        opened.close()


def children(pid: int) -> list[int]:
    """The processes that a process has begun."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(condition: Callable[[], Any], patience: float = 20.0) -> Any:
    """Wait until something holds, and give it."""
    end = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < end, "what was waited for did not happen"
        time.sleep(0.01)
    return found


def interrupt(process: subprocess.Popen[str], number: int = signal.SIGINT) -> Ended:
    """Send a signal and wait for the end."""
    process.send_signal(number)
    return end_of(process)


def states(document: Mapping[str, Any]) -> dict[str, str]:
    """The state of each task."""
    return {name: task["state"] for name, task in document["tasks"].items()}


def span(task: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """When a task began and ended, as recorded."""
    return datetime.fromisoformat(task["started"]), datetime.fromisoformat(task["ended"])


def overlap(tasks: Sequence[Mapping[str, Any]]) -> int:
    """The most tasks that ran at one moment, as recorded."""
    moments = [(moment, change) for task in tasks for moment, change in zip(span(task), (1, -1), strict=True)]
    most = now = 0
    for _, change in sorted(moments):  # an end comes before a start of the same moment
        now += change
        most = max(most, now)
    return most


def alive(token: str) -> list[int]:
    """The processes whose command line holds `token`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if token.encode() in words and state != "Z":
                found.append(int(entry.name))
    return found
