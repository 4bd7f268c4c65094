"""What is on record of a run while nobody owns it, what its tasks told the ledger, and whether the two agree."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from faulting.command import RUN, Place
from faulting.family import Broken
from flowd.adapters.journal.file import FileJournal
from flowd.core.codec import public
from flowd.core.errors import FlowdError, NoSuchRun
from flowd.testing import replay

ALLOWS = {"task_retry_scheduled", "task_reset"}
"""Events after which a body may begin again, beside a task resolved to run again."""


class Row(NamedTuple):
    """One line of the ledger: B(egun), F(ailed by design) or E(ffect) of an attempt, told in one life."""

    sign: str
    life: str
    task: str
    attempt: int
    word: str


@dataclass(frozen=True)
class Look:
    """A run as it stands on disk: its durable events as users see them, and the document of `show --json`."""

    lines: tuple[bytes, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events, decoded."""
        return [json.loads(line) for line in self.lines]

    @property
    def state(self) -> str:
        """The run's state; empty where it has not begun."""
        return str(self.document.get("state", "")) if self.lines else ""

    def tasks(self, state: str) -> list[str]:
        """The tasks in a state."""
        return [name for name, task in self.document.get("tasks", {}).items() if task["state"] == state]


def ledger(place: Place) -> list[Row]:
    """All rows so far."""
    rows = []
    for line in place.lines("ledger"):
        sign, life, task, attempt, word = line.split()
        rows.append(Row(sign, life, task, int(attempt), word))
    return rows


def look(place: Place) -> Look:
    """Read the run with nobody owning it. Broken where it cannot be read, or reading changes it."""
    if not place.run_folder.exists():
        return Look()
    before = _digest(place.run_folder)
    try:
        with closing(FileJournal(place.state)) as journal:
            lines = tuple(public(envelope) for envelope in journal.records(RUN))
        document = replay(place.run_folder)
    except NoSuchRun:
        return Look()
    except FlowdError as error:
        raise Broken(f"the journal does not replay: {error}") from None
    if _digest(place.run_folder) != before:
        raise Broken("looking at the run changed it")
    return Look(lines, document)


def check_look(before: Look, now: Look, rows_before: Sequence[Row], rows: Sequence[Row], once: Iterable[str]) -> None:
    """What must hold from one look to the next. `once` are the tasks that are not idempotent."""
    if now.lines[: len(before.lines)] != before.lines:
        raise Broken(f"of {len(before.lines)} durable events the journal has lost or changed some")
    events = now.events
    reset = {event["task"] for event in events[len(before.lines) :] if event["event"] == "task_reset"}
    for task in set(before.tasks("succeeded")) - reset:
        if begun(rows, task) != begun(rows_before, task):
            raise Broken(f"{task} had durably succeeded and began again")
    started = {(event["task"], event["attempt"]) for event in events if event["event"] == "task_started"}
    for row in rows:
        if row.sign == "B" and row.task in once and (row.task, row.attempt) not in started:
            raise Broken(f"{row.task} is not idempotent and began attempt {row.attempt}, whose start is not durable")


def begun(rows: Iterable[Row], task: str) -> list[int]:
    """The attempts of a task whose bodies began, in order."""
    return [row.attempt for row in rows if row.sign == "B" and row.task == task]


def check_told(told: Path, now: Look) -> None:
    """Every event that a command printed is on record, word for word; every success it wrote down is one."""
    known = set(now.lines)
    succeeded = {event["task"] for event in now.events if event["event"] == "task_succeeded"}
    succeeded |= {event["task"] for event in now.events if event.get("verdict") == "succeeded"}
    for line in told.read_bytes().split(b"\n")[:-1]:
        if line.startswith(b"{"):
            if line not in known:
                raise Broken(f"printed and not on record: {line.decode()}")
        elif line.startswith("  ✓ ".encode()):
            task = line.split()[1].decode()
            if task not in succeeded:
                raise Broken(f"printed as succeeded and not on record as such: {task}")


def check_lives(rows: Sequence[Row]) -> None:
    """The tasks of a dead owner act no more once the next owner has begun any."""
    seen: list[str] = []
    for row in rows:
        if row.life not in seen:
            seen.append(row.life)
        elif row.life != seen[-1]:
            raise Broken(f"{row.task} of a dead owner ({row.life}) still acted after a task of the next one had begun")


def check_once(now: Look, rows: Sequence[Row], once: Iterable[str]) -> None:
    """A task that is not idempotent began once, and again only after a recorded answer or retry."""
    events = now.events
    for task in once:
        attempts = begun(rows, task)
        doubled = [attempt for attempt, times in Counter(attempts).items() if times > 1]
        if doubled:
            raise Broken(f"{task} is not idempotent and began attempt {doubled[0]} twice")
        may = True
        for event in events:
            if event.get("task") != task:
                continue
            if event["event"] in ALLOWS or event.get("verdict") == "rerun":
                may = True
            elif event["event"] == "task_started":
                if not may:
                    raise Broken(f"{task} is not idempotent and started attempt {event['attempt']} unasked")
                may = False


def check_limit(rows: Sequence[Row], prefix: str) -> None:
    """Of the tasks that share a limit of 1 two never ran at a time in one life."""
    running: dict[str, str] = {}
    for row in rows:
        if row.task.startswith(prefix):
            if row.sign == "B" and row.life in running:
                raise Broken(f"{row.task} began while {running[row.life]} held their limit of 1")
            if row.sign == "B":
                running[row.life] = row.task
            else:
                running.pop(row.life, None)


def check_end(now: Look, rows: Sequence[Row], place: Place) -> None:
    """The run is finished: each task's end is one that it may have, and the effects are there."""
    resolved = {(event["task"], event["verdict"]) for event in now.events if event["event"] == "task_resolved"}
    tasks = now.document["tasks"]
    for name, task in tasks.items():
        state = task["state"]
        if state == "succeeded":
            _check_effect(name, task, rows, resolved)
            gone = [output["path"] for output in task["outputs"] if not (place.folder / output["path"]).is_file()]
            if gone:
                raise Broken(f"{name} succeeded and its output {gone[0]} is not there")
        elif state == "failed" and (name, "failed") not in resolved:
            raise Broken(f"{name} failed, though it fails twice at most and has three attempts: {task['error']}")
        elif state not in {"failed", "upstream_failed"}:
            raise Broken(f"the run is finished, and {name} is {state}")
    ended_well = all(task["state"] == "succeeded" for task in tasks.values())
    if ended_well != (now.state == "succeeded"):
        raise Broken(f"the run ended {now.state}, and its tasks {Counter(task['state'] for task in tasks.values())}")


def _check_effect(name: str, task: Mapping[str, Any], rows: Sequence[Row], resolved: set[tuple[str, str]]) -> None:
    words = [row.word for row in rows if row.sign == "E" and row.task == name and row.attempt == task["attempts"]]
    if task["result"] is None and (name, "succeeded") in resolved:
        return
    if not words:
        raise Broken(f"{name} succeeded in attempt {task['attempts']}, whose effect did not happen")
    if task["result"] not in words:
        raise Broken(f"{name} succeeded with the result {task['result']}, and its effect was {words}")


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        if path.name != "logs" and path.suffix != ".log":  # a guardian may still write what tasks said last
            content = path.read_bytes() if path.is_file() else b" ".join(sorted(bytes(one) for one in path.iterdir()))
            digest.update(path.name.encode() + b"\0" + content)
    return digest.hexdigest()
