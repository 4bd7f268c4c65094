"""A daemon with schedules of a second or two, killed at random instants and begun again, in each history many times.

At the end every time at which a schedule was due has to be accounted for once: its run was begun, or it was
skipped on record; no run is stuck, nothing was done twice that may not be, and no process is left.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from faulting import living
from faulting.command import Command, Place
from faulting.family import Broken, Order, Report, lead
from flowd.authoring.loading import load
from flowd.core.declared import Schedule
from flowd.core.occurrences import between

KILLS_IN_A_HISTORY = 10
MODES = ("leader", "leader", "group", "tree", "stop")
LEFT_S = 3.0
"""Seconds that the processes of a dead daemon have to be gone."""

PIPELINES: dict[str, dict[str, Any]] = {
    "tick": {
        "schedule": {"every": "1s", "overlap": "allow", "misfire": "skip"},
        "tasks": {"note": {"run": "echo $FLOWD_RUN_ID >> tick.ledger"}},
    },
    "each": {
        "schedule": {"every": "1s", "overlap": "allow", "misfire": {"all": 100}},
        "tasks": {
            "once": {"run": "echo $FLOWD_RUN_ID >> each.ledger", "idempotent": False},
            "then": {"run": "true", "needs": ["once"]},
        },
    },
    "slow": {
        "schedule": {"every": "1s", "overlap": {"queue": 2}},
        "tasks": {"wait": {"run": "sleep 1.5; echo $FLOWD_RUN_ID >> slow.ledger"}},
    },
    "newest": {
        "schedule": {"every": "2s", "overlap": "cancel_old"},
        "tasks": {"wait": {"run": "sleep 600", "grace": "1s"}},
    },
}


def run(order: Order, report: Report) -> None:
    """Lead histories until there were as many kills as asked for."""

    def history(seed: int) -> None:
        with report.trial(order, seed) as folder:
            _History(folder, seed, report).lead()

    lead(order, report, history, counted="kills")


class _History:
    """One state directory from its first daemon to its last."""

    def __init__(self, folder: Path, seed: int, report: Report) -> None:
        self._place = Place(folder, seed)
        self._random = random.Random(seed)
        self._report = report
        (folder / "flowd.yaml").write_text('listen: "127.0.0.1:0"\nmisfire_grace: 2s\n')
        for name, said in PIPELINES.items():
            (folder / f"{name}.yaml").write_text(json.dumps({"name": name, **said}))

    def lead(self) -> None:
        """Kill, look and begin again; then let the last one end, and look at everything."""
        for _ in range(KILLS_IN_A_HISTORY):
            with self._place.begin("serve") as daemon:
                self._await(daemon)
                time.sleep(self._random.uniform(0.0, 2.5))
                self._kill(daemon)
            self._report.did("kills")
        with self._place.begin("serve") as daemon:
            self._await(daemon)
            time.sleep(3.0)
            for name in PIPELINES:
                self._place.ask("schedule", "pause", name)
            self._settle()
            self._place.ask("daemon", "stop")
            daemon.wait()
            if left := living.of_life(daemon.life):
                raise Broken(f"the daemon has left {living.described(left)}")
        self._check()

    def _await(self, daemon: Command) -> None:
        """Once it serves; it may be killed before that, too."""
        if self._random.random() < 0.2:
            return
        if not living.within(20, lambda: "flowd serves at" in daemon.err.read_text("utf-8", "replace") or daemon.ended):
            raise Broken(f"it does not serve: {daemon.said()}")
        if daemon.ended:
            raise Broken(f"it has ended by itself: {daemon.said()}")

    def _kill(self, daemon: Command) -> None:
        mode = self._random.choice(MODES)
        if mode == "stop":
            os.kill(daemon.pid, signal.SIGTERM)
            time.sleep(self._random.uniform(0, 0.5))
        if mode == "group":
            os.killpg(daemon.pid, signal.SIGKILL)
        elif mode == "tree":
            living.kill_all(lambda: living.of_life(daemon.life))
        else:
            daemon.process.kill()
        daemon.process.wait()
        daemon.check_stderr()
        if not living.within(LEFT_S, lambda: not living.of_life(daemon.life)):
            raise Broken(f"{LEFT_S:g}s after its death there is {living.described(living.of_life(daemon.life))}")

    def _settle(self) -> None:
        """Cancel what goes on for ever, answer what is unknown, and wait until every run has ended."""
        end = time.monotonic() + 40
        while time.monotonic() < end:
            runs = self._place.ask("runs", "--json").document()["runs"]
            going = [row for row in runs if row["state"] not in {"succeeded", "failed", "cancelled", "partial"}]
            if not going:
                return
            for row in going:
                if row["pipeline"] == "newest":
                    self._place.ask("cancel", row["run"], code=None)
                elif row["state"] == "waiting":
                    self._place.ask("resolve", row["run"], "once", "--as", "failed", code=None)
            time.sleep(0.2)
        raise Broken(f"runs are stuck: {[(row['run'], row['state']) for row in going][:5]}")

    def _check(self) -> None:
        facts = self._facts()
        runs = {path.name for path in (self._place.state / "runs").iterdir()}
        named = {fact["run"] for fact in facts if fact["fact"] == "fired"}
        if lost := named - runs:
            raise Broken(f"{len(lost)} firings have no run: {sorted(lost)[:3]}")
        if more := runs - named:
            raise Broken(f"{len(more)} runs are of no firing: {sorted(more)[:3]}")
        for name in PIPELINES:
            self._check_times(name, [fact for fact in facts if fact["source"] == name])
        doubled = [run for run, times in Counter(self._place.lines("each.ledger")).items() if times > 1]
        if doubled:
            raise Broken(f"{len(doubled)} runs did twice what may be done once: {doubled[:3]}")

    def _facts(self) -> list[dict[str, Any]]:
        path = self._place.state / "daemon" / "agenda.jsonl"
        return [json.loads(line.partition(" ")[2]) for line in path.read_text().splitlines()]

    def _check_times(self, name: str, facts: list[dict[str, Any]]) -> None:
        """Every time since the schedule was first seen is fired once or skipped once, and none is both."""
        schedule: Schedule = load(str(self._place.folder / f"{name}.yaml")).definition().spec.schedule[0]
        fired = Counter(_moment(fact["time"]) for fact in facts if fact["fact"] == "fired")
        skips = [fact for fact in facts if fact["fact"] == "skipped"]
        skipped: Counter[datetime] = Counter()
        for fact in skips:
            first, last = _moment(fact["time"]), _moment(fact.get("last", fact["time"]))
            within = [first, *(one.at for one in between(schedule, first, last))]
            if len(within) != fact.get("count", 1):
                raise Broken(f"{name}: {fact} speaks of {len(within)} times")
            skipped.update(within)
        began = _moment(facts[0]["at"])
        paused = next(_moment(fact["at"]) for fact in facts if fact["fact"] == "paused")
        waiting = {_moment(fact["time"]) for fact in facts if fact["fact"] == "queued"}
        for one in between(schedule, began, paused):
            times = fired[one.at] + skipped[one.at]
            if times > 1 or (times == 0 and one.at not in waiting and (paused - one.at).total_seconds() > 1):
                raise Broken(f"{name}: {one.at} was fired {fired[one.at]} and skipped {skipped[one.at]} times")
        if not fired:
            raise Broken(f"{name} has never fired")


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
