"""How a case goes on after its fault, and how many cases are led side by side."""

from __future__ import annotations

import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from faulting.disk_pipelines import ONCE
from faulting.disk_places import RUN, Broken, DiskPlace, Ended
from flowd.adapters import disk
from flowd.adapters.journal.file import FileJournal
from flowd.core.errors import FlowdError
from flowd.testing.replay import replay

Report = Callable[[str], None]
T = TypeVar("T")

BEGIN = ("run", "pipeline.yaml", "--run-id", RUN, "--events", "--no-input")
RESUME = ("resume", RUN, "--events")
RETRY = ("retry", RUN, "--events")
MOST_COMMANDS = 12
KEPT = 5
JOBS = 2 * (os.cpu_count() or 1)
"""Cases at a time: each waits for disks and processes about as long as it computes."""
LATER_BOOT = "99999999-aaaa-4bbb-8ccc-dddddddddddd"


class Afterlife:
    """A run gone on with after a fault, to its end, as a person would; what was promised is asked for again.

    `may_fail`: a task may have failed of the same fault, and is then asked for again.
    """

    def __init__(self, place: DiskPlace, boot: str = "", *, may_fail: bool = False) -> None:
        self.place = place
        self._may_fail = may_fail
        self._commands = 0
        self._plan = {"log": str(place.log)} | ({"boot": boot} if boot else {})
        self._asked: Counter[str] = Counter()

    def go_on(self, words: tuple[str, ...] = RESUME, most: int = MOST_COMMANDS) -> None:
        """Type `words`, and what they lead to, until the run has succeeded. Raises Broken.

        It may take `most` commands, answers of a person not counted.
        """
        place = self.place
        place.check_kept()
        done = {name: place.ledger().count(name) for name in place.succeeded}
        while (ended := self._type(words)).code != 0:
            words = self._next(ended)
            self._commands += words[0] != "resolve"
            if self._commands >= most:
                raise Broken(f"{most} commands did not finish it; the last: {ended}")
        self._check(done)

    def _type(self, words: tuple[str, ...]) -> Ended:
        """A command of a person's; what it asks for may run once more."""
        if words[0] == "resolve":
            self._asked[words[2]] += 1
        elif words == RETRY:
            self._asked.update(self._in_state("failed"))
        return self.place.flowd(*words, plan=self._plan)

    def _in_state(self, state: str) -> list[str]:
        return [name for name, task in self.document()["tasks"].items() if task["state"] == state]

    def _next(self, ended: Ended) -> tuple[str, ...]:
        """What a person types after this end."""
        if ended.code == 2 and not self.place.told:
            return BEGIN  # it never began, and nobody was told that it had
        if ended.code == 1 and self._may_fail and ended.words != RETRY:
            return RETRY
        if ended.code != 3:
            raise Broken(f"it does not go on: {ended}")
        uncertain = self._in_state("uncertain")
        if not uncertain or not ONCE.issuperset(uncertain):
            raise Broken(f"exit 3 while these are uncertain: {uncertain}: {ended}")
        return ("resolve", RUN, uncertain[0], "--as", "rerun", "--events")

    def document(self) -> dict[str, Any]:
        """The run as its journal alone tells it."""
        try:
            return replay(self.place.state / "runs" / RUN)
        except FlowdError as error:
            raise Broken(f"the journal does not replay: {error}") from error

    def _check(self, done: dict[str, int]) -> None:
        place = self.place
        document = self.check_end()
        ledger = place.ledger()
        for name in document["tasks"]:
            count = ledger.count(name)
            if not count:
                raise Broken(f"{name} succeeded and never ran")
            if name in done and count != done[name]:
                raise Broken(f"{name} was told as succeeded and ran again")
            if name in ONCE and count > 1 + self._asked[name]:
                raise Broken(f"{name} is not idempotent and ran again by itself: {ledger}, asked for: {self._asked}")

    def check_end(self) -> dict[str, Any]:
        """The run's document. Broken unless it succeeded and all that was told of it is there."""
        place = self.place
        place.check_kept()
        document = self.document()
        if document["state"] != "succeeded" or {task["state"] for task in document["tasks"].values()} != {"succeeded"}:
            raise Broken(f"exit 0, and the run is {document['state']}")
        check_told(place)
        return document


def check_told(place: DiskPlace) -> None:
    """Broken unless every event that was told stands in the journal as it was told."""
    journal = FileJournal(place.state)
    try:
        kept = {envelope.seq: (type(envelope.event).__name__, envelope) for envelope in journal.records(RUN)}
    except FlowdError as error:
        raise Broken(f"the journal cannot be read: {error}") from error
    finally:
        journal.close()
    for seq, event in place.told.items():
        if seq not in kept:
            raise Broken(f"event {seq}, {event['event']} of {event.get('task')}, was told and is lost")
        name = kept[seq][0]
        if name.lower() != event["event"].replace("_", "") or getattr(kept[seq][1].event, "task", None) != event.get(
            "task"
        ):
            raise Broken(f"event {seq} was told as {event}, and is now {kept[seq][1]}")


def lead(cases: Sequence[T], one: Callable[[T, Path], None], scratch: Path, report: Report) -> int:
    """Lead every case in a folder of its own, a few at once; what is Broken is reported with its case.

    The folders of the first few broken ones are kept. Returns how many broke.
    """
    order = threading.Lock()
    broken = 0

    def carry_out(numbered: tuple[int, T]) -> None:
        nonlocal broken
        number, case = numbered
        folder = scratch / f"case-{number}"
        kept = False
        try:
            one(case, folder)
        except Broken as promise:
            with order:
                broken += 1
                kept = broken <= KEPT
                report(f"{case}: {promise}" + (f"\n    kept in {folder}" if kept else ""))
        except Exception as error:  # noqa: BLE001  # no case keeps the others from being led
            with order:
                broken += 1
                kept = broken <= KEPT
                report(f"{case}: the check itself failed: {error!r}" + (f"\n    kept in {folder}" if kept else ""))
        finally:
            if not kept:
                shutil.rmtree(folder, ignore_errors=True)

    # whoever checks sees the folder in a later start of the machine than any that wrote there
    with patch.object(disk, "boot_id", lambda: LATER_BOOT), ThreadPoolExecutor(JOBS) as pool:
        for _ in pool.map(carry_out, enumerate(cases)):
            pass
    return broken
