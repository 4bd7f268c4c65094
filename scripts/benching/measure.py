"""Measuring: the sides of a case alternate, round by round, so that a ratio compares what was taken together."""

from __future__ import annotations

import json
import os
import re
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benching.cases import Case
from benching.goals import CPU, FLOWD, IDEAL, SECONDS

HOME = Path(__file__).resolve().parent.parent
LONGEST_S = 1800

Take = Callable[[Case, int, str], Mapping[str, Any]]
"""Takes one sample: of a case, at a size, of one side."""


@dataclass(frozen=True)
class Value:
    """A figure: the median of the rounds and their range.

    `ours` and `theirs` are the medians of what a ratio is of; `cpu` is the same ratio of the processors'
    time, which others who keep the machine busy change less.
    """

    value: float
    low: float
    high: float
    ours: float
    theirs: float = 0.0
    cpu: float | None = None


@dataclass(frozen=True)
class Measured:
    """The samples of one case at one size, by side; `missing` says of a side why it has none."""

    case: Case
    tasks: int
    rounds: int
    samples: Mapping[str, Sequence[Mapping[str, float]]]
    missing: Mapping[str, str] = field(default_factory=dict)
    peers: tuple[str, ...] = ()

    def ratio(self, over: str, figure: str = SECONDS, side: str = FLOWD) -> Value | None:
        """flowd's figure over that of another side: the median of the rounds' ratios. None where one is missing."""
        ours, theirs = self._all(side, figure), self._all(over, figure)
        pairs = [(one, other) for one, other in zip(ours, theirs, strict=False) if other > 0]
        if not pairs:
            return None
        each = [one / other for one, other in pairs]
        cpu = self.ratio(over, CPU, side) if figure == SECONDS else None
        return Value(
            statistics.median(each),
            min(each),
            max(each),
            statistics.median(ours),
            statistics.median(theirs),
            None if cpu is None else cpu.value,
        )

    def amount(self, figure: str, side: str = FLOWD) -> Value | None:
        """One of flowd's figures by itself. None where it was not measured."""
        each = self._all(side, figure)
        if not each:
            return None
        middle = statistics.median(each)
        return Value(middle, min(each), max(each), middle)

    def _all(self, side: str, figure: str) -> list[float]:
        return [sample[figure] for sample in self.samples.get(side, ()) if figure in sample]


def measure(case: Case, tasks: int, rounds: int, take: Take, peers: Iterable[tuple[str, int]] = ()) -> Measured:
    """Each round takes every side in turn, forwards and backwards, so that none is always first.

    `peers` are other programs' sides, with in how many of the rounds each takes part: some take
    minutes. A sample that says `missing` ends its side.
    """
    part = dict(peers)
    sides = [*case.floors_at(tasks), *part, *case.ours]
    samples: dict[str, list[Mapping[str, float]]] = {side: [] for side in sides}
    missing: dict[str, str] = {}
    for number in range(rounds):
        for side in sides if number % 2 == 0 else sides[::-1]:
            if side in missing or number >= part.get(side, rounds):
                continue
            sample = take(case, tasks, side)
            if "missing" in sample:
                missing[side] = str(sample["missing"])
            else:
                samples[side].append(sample)
    if case.sleep_s:
        samples[IDEAL] = [{SECONDS: case.ideal_s(tasks)}] * rounds
    return Measured(case, tasks, rounds, samples, missing, tuple(part))


def in_a_process(folder: Path, peers: Mapping[str, Path] | None = None, profile: int = 0) -> Take:
    """Takes each sample in a fresh process, its files below `folder`; `peers` are the Pythons of other programs."""
    pythons = peers or {}

    def take(case: Case, tasks: int, side: str) -> Mapping[str, Any]:
        place = folder / f"{case.name}-{tasks}" / re.sub(r"\W+", "-", side)
        place.parent.mkdir(exist_ok=True)
        if side in pythons:
            command = [str(pythons[side]), "-m", f"benching.peers.{side}_side", case.name, str(tasks), str(place)]
        else:
            words = [case.name, str(tasks), side, str(place), str(profile)]
            command = [sys.executable, "-m", "benching.sample", *words]
        try:
            figures: dict[str, Any] = json.loads(_said(command))
        except Unable as problem:
            if side in pythons:  # another program's trouble is told in the table, and ends nothing of ours
                return {"missing": str(problem)}
            raise Unable(f"the sample of {side} in {case.name} at {tasks:,} {problem}") from None
        return figures

    return take


class Unable(Exception):
    """A sample's process did not end well; the message says how."""


def _said(command: list[str]) -> str:
    """The last line that a command prints. A command that takes too long is ended with all that it began."""
    with subprocess.Popen(
        command,
        cwd=HOME,
        stdout=subprocess.PIPE,
        text=True,
        # an installed program has its bytecode; a source tree that may keep none would be compiled at every start
        env={name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        start_new_session=True,
    ) as process:
        try:
            out, _ = process.communicate(timeout=LONGEST_S)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise Unable(f"took over {LONGEST_S} s") from None
            raise
    if process.returncode:
        raise Unable(f"ended with {process.returncode}")
    lines = out.strip().splitlines()
    if not lines:
        raise Unable("printed nothing")
    return lines[-1]
