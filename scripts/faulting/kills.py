"""A run killed at random instants, resumed and answered, killed again, until it is done.

The tasks of every kind tell a ledger of their own what they did. Who is killed (the leader, its process group,
all of it, the leader and its guardian, a leader that is just stopping), when (after a time, at a row of the
ledger, at an event printed) and how the run is gone on with are drawn from the history's seed; the instants
themselves are the machine's.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from faulting import effects, living
from faulting import looking as l
from faulting.command import RUN, Command, Place
from faulting.family import Broken, Order, Report, lead

DEATH_S = 2.0
"""Seconds that the processes of a dead leader have to be gone."""

MODES = ("leader", "group", "tree", "pair", "stop")
MOMENTS = ("time", "row", "event")
VERDICTS = ("rerun", "rerun", "rerun", "succeeded", "succeeded", "failed")
MOST_COMMANDS = 120


class Fault(NamedTuple):
    """Who is killed, and when: `delay` seconds after the start, or after the `nth`-th row or event."""

    mode: str
    moment: str
    nth: int
    delay: float


@dataclass(frozen=True)
class Dead:
    """A life that was ended, whose processes must be gone by `due`."""

    life: str
    due: float


def run(order: Order, report: Report) -> None:
    """Lead histories until there were as many kills as asked for; the last one is led to its end."""

    def history(seed: int) -> None:
        with report.trial(order, seed) as folder:
            History(folder, seed, report).lead()

    lead(order, report, history, counted="kills")


class History:
    """One run from its start to its end, with all its deaths."""

    def __init__(self, folder: Path, seed: int, report: Report) -> None:
        self.place = Place(folder, seed)
        self.chance = random.Random(seed)
        self.report = report
        self.left = self.chance.randint(4, 16)
        self.retried = 0
        self.now = l.Look()
        self.rows: list[l.Row] = []
        self.once: list[str] = []
        self.dead: list[Dead] = []
        self.commands: list[str] = []
        self.cut_off: tuple[str, ...] = ()
        self._prepare()

    def _prepare(self) -> None:
        shutil.copy(effects.__file__, self.place.folder / "effects.py")
        tasks = _tasks(self.chance)
        self.once = [name for name, task in tasks.items() if not task.get("idempotent", True)]
        self.place.pipeline(tasks, limits={"gate": 1}, max_concurrency=self.chance.randint(2, 8))

    def lead(self) -> None:
        """Until the run is finished and nobody wants more of it. Broken where a promise is."""
        self.report.did("histories")
        try:
            self._lead()
            l.check_end(self.now, self.rows, self.place)
            l.check_limit(self.rows, "limited")
        except Broken:
            (self.place.folder / "commands").write_text("".join(f"{line}\n" for line in self.commands))
            raise
        finally:
            living.kill_all(lambda: living.bearing(self.place.token))

    def _lead(self) -> None:
        with contextlib.ExitStack() as commands:
            for _ in range(MOST_COMMANDS):
                words = self._next()
                if words is None:
                    break
                self._live(commands, words, self._fault())
            else:
                raise Broken(f"after {MOST_COMMANDS} commands the run is still {self.now.state}")
            if not living.within(DEATH_S, lambda: not living.bearing(self.place.token)):
                found = living.described(living.bearing(self.place.token))
                raise Broken(f"after the run's end there live {found}")

    # --- what comes next ---------------------------------------------------------------------------------

    def _next(self) -> list[str] | None:
        """The words of the next command; None where the run is finished."""
        state = self.now.state
        if not state:
            return ["run", "pipeline.yaml", "--run-id", RUN, "--no-input"]
        if state == "succeeded":
            return None
        if state == "failed":
            if self.retried < 2 and self.left > 0:
                self.retried += 1
                return ["retry", RUN]
            return None
        uncertain = self.now.tasks("uncertain")
        if uncertain and (self.left <= 0 or self.chance.random() < 0.75):
            words = ["resolve", RUN, self.chance.choice(uncertain), "--as", self.chance.choice(VERDICTS)]
            return [*words, "--no-run"] if self.chance.random() < 0.2 else words
        if self.chance.random() < 0.3:
            return ["run", "pipeline.yaml", "--run-id", RUN, "--no-input"]
        return ["resume", RUN]

    def _fault(self) -> Fault | None:
        if self.left <= 0:
            return None
        moment = self.chance.choice(MOMENTS)
        delay = self.chance.uniform(0.02, 1.2) if moment == "time" else self.chance.uniform(0, 0.03)
        return Fault(self.chance.choice(MODES), moment, self.chance.randint(1, 6), delay)

    # --- one command -------------------------------------------------------------------------------------

    def _live(self, commands: contextlib.ExitStack, words: list[str], fault: Fault | None) -> None:
        if self.chance.random() < 0.6 and "--no-run" not in words:
            words = [*words, "--events"]
        command = commands.enter_context(self.place.begin(*words))
        killed = False
        if fault is None:
            command.wait()
        else:
            self._await(command, fault)
            killed = self._kill(command, fault)
        end = str(fault) if killed else f"ended with {command.process.returncode}"
        self.commands.append(f"{command.life}: {command}; {end}")
        command.check_stderr()
        self._look(command)
        if not killed and not self._answered_before(command):
            self._check_code(command, stopped=fault is not None and fault.mode == "stop")
        self.cut_off = tuple(words[:3]) if killed else ()

    def _await(self, command: Command, fault: Fault) -> None:
        rows = len(self.rows) + fault.nth
        reached: dict[str, Callable[[], bool]] = {
            "time": lambda: True,
            "row": lambda: len(self.place.lines("ledger")) >= rows,
            "event": lambda: command.out.read_bytes().count(b"\n") >= fault.nth,
        }
        end = time.monotonic() + 10
        while not command.ended and not reached[fault.moment]() and time.monotonic() < end:
            self._check_dead()
            time.sleep(0.003)
        end = time.monotonic() + fault.delay
        while not command.ended and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.003))

    def _kill(self, command: Command, fault: Fault) -> bool:
        """Kill it that way; whether it was still there to be killed."""
        guardians = living.guardians(command.pid) if fault.mode == "pair" else set()
        if command.ended:
            return False
        if fault.mode == "stop":
            command.process.terminate()
            with contextlib.suppress(Exception):
                command.process.wait(self.chance.uniform(0, 0.3))
            if command.ended:
                return False
        if fault.mode == "group":
            os.killpg(command.pid, signal.SIGKILL)
        else:
            command.process.kill()
        living.kill(guardians)
        if fault.mode == "tree":
            living.kill_all(lambda: living.of_life(command.life))
        if command.process.wait() != -signal.SIGKILL:
            return False  # it ended in that very moment
        self.left -= 1
        self.report.did("kills")
        if fault.mode != "pair":  # what a leader and its guardian leave is the next owner's to end
            self.dead.append(Dead(command.life, time.monotonic() + DEATH_S))
            if self.chance.random() < 0.5 and not living.within(DEATH_S, lambda: not living.of_life(command.life)):
                self._outlived(command.life)
        return True

    # --- judging -----------------------------------------------------------------------------------------

    def _look(self, command: Command) -> None:
        before, rows_before = self.now, self.rows
        self.rows = l.ledger(self.place)
        self.now = l.look(self.place)
        l.check_look(before, self.now, rows_before, self.rows, self.once)
        l.check_told(command.out, self.now)
        l.check_lives(self.rows)
        l.check_once(self.now, self.rows, self.once)
        self._check_dead()

    def _check_code(self, command: Command, *, stopped: bool) -> None:
        code, state = command.process.returncode, self.now.document
        if stopped and code in {130, -signal.SIGTERM}:  # before flowd's own handlers are there, the signal's default
            return
        expected = 0 if "--no-run" in command.words else state.get("exit_code")
        if code != expected:
            raise Broken(f"`{command}` ended with {code}; the run is {self.now.state}: {command.said()}")

    def _answered_before(self, command: Command) -> bool:
        """Whether an answer was refused since the one before it, of which only a new owner could tell, stands.

        The command that gave that one was killed when it had written it down and nobody had been told; what
        is not yet known to be on disk is shown to nobody.
        """
        again = command.words[0] == "resolve" and tuple(command.words[:3]) == self.cut_off
        return again and command.process.returncode == 2 and "nothing to resolve" in command.said()

    def _check_dead(self) -> None:
        now = time.monotonic()
        for dead in [dead for dead in self.dead if dead.due < now]:
            if living.of_life(dead.life):
                self._outlived(dead.life)
            self.dead.remove(dead)

    def _outlived(self, life: str) -> None:
        raise Broken(f"{DEATH_S:g}s after the death of {life} there live {living.described(living.of_life(life))}")


def _tasks(chance: random.Random) -> dict[str, Any]:
    """Tasks of every kind, in an order and with needs drawn by chance; the last needs all others."""
    seconds = {name: round(chance.uniform(0.02, 0.2), 3) for name in (*_KINDS, "last")}
    order = list(_KINDS)
    chance.shuffle(order)
    tasks: dict[str, Any] = {}
    for number, name in enumerate(order):
        needs = chance.sample(order[:number], min(number, chance.choice((0, 1, 1, 2))))
        tasks[name] = {**_action(_KINDS[name], seconds[name]), **_policies(name), "needs": sorted(needs)}
    tasks["last"] = {**_action("thread", seconds["last"]), "needs": order}
    return tasks


_KINDS = {
    "coroutine": "async",
    "thread": "thread",
    "process": "process",
    "shell": "shell",
    "once_async": "async",
    "once_thread": "thread",
    "once_process": "process",
    "once_shell": "shell",
    "flaky_thread": "thread",
    "flaky_shell": "shell",
    "flaky_once": "async",
    "late_shell": "shell",
    "limited_async": "async",
    "limited_thread": "thread",
    "limited_shell": "shell",
}


def _action(kind: str, seconds: float) -> dict[str, Any]:
    if kind == "shell":
        return {"run": f"python -S -E effects.py {seconds} {{{{ outputs }}}}"}
    function = "coroutine" if kind == "async" else "plain"
    return {"call": f"effects:{function}", "executor": kind, "with": {"seconds": seconds}}


def _policies(name: str) -> dict[str, Any]:
    policies: dict[str, Any] = {"grace": "300ms"}
    if "once" in name:
        policies["idempotent"] = False
    if name.startswith(tuple(effects.FLAWS)):
        policies["retry"] = {"attempts": 3, "backoff": "constant", "delay": "100ms"}
    if name.startswith("late"):
        policies["timeout"] = "1200ms"
        policies["retry"]["attempts"] = 8  # on a busy machine a start alone may take longer than that, a few times
    if name.startswith("limited"):
        policies["uses"] = {"gate": 1}
    if name == "shell":
        policies["outputs"] = ["shell.txt"]
    return policies
