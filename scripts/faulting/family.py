"""What a family of faults is, what it is asked for, and what it reports."""

from __future__ import annotations

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path


class Forbidden(Exception):
    """The machine does not let a fault be injected; the message says what is missing."""


class Broken(Exception):
    """A promise was not kept; the message says which, and what was seen."""


@dataclass(frozen=True)
class Violation:
    """A broken promise, the seed of the trial that showed it, and the folder that is kept of it."""

    seed: int
    what: str
    kept: Path | None


@dataclass(frozen=True, kw_only=True)
class Order:
    """How much of a family is wanted, and where: trial n is drawn from seed + n alone."""

    size: int
    seed: int
    folder: Path
    kept: Path
    jobs: int


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of faults. A size counts what `run` counts under the name of `counted`."""

    name: str
    promise: str
    counted: str
    per_commit: int
    per_release: int
    run: Callable[[Order, Report], None]


@dataclass
class Report:
    """What a family did and found; safe from several threads."""

    MOST = 5
    """Broken promises after which a family leads no more trials: one cause breaks many."""

    done: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def did(self, what: str, times: int = 1) -> int:
        """Count something; how often it was done by now."""
        with self._lock:
            self.done[what] += times
            return self.done[what]

    def skip(self, part: str, reason: str) -> None:
        """A part of the family that this machine forbids."""
        with self._lock:
            self.skipped[part] = reason

    def broke(self, violation: Violation) -> None:
        """A promise was broken."""
        with self._lock:
            self.violations.append(violation)

    @property
    def enough(self) -> bool:
        """Whether so much is broken that no more needs to be seen."""
        return len(self.violations) >= self.MOST

    @contextmanager
    def trial(self, order: Order, seed: int) -> Iterator[Path]:
        """A folder for one trial, which stays where the trial raises Broken."""
        folder = order.folder / f"t{seed}"
        folder.mkdir()
        try:
            yield folder
        except Broken as broken:
            kept = order.kept / f"{seed}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(folder, kept, symlinks=True, ignore_dangling_symlinks=True)
            self.broke(Violation(seed, str(broken), kept))
        except Forbidden as forbidden:
            self.skip(f"trial {seed}", str(forbidden))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def lead(order: Order, report: Report, trial: Callable[[int], None], *, counted: str) -> None:
    """Lead trials of the seeds from `order.seed` on, `order.jobs` at a time, until so much was done as is counted."""
    seeds = count(order.seed)
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if report.done[counted] >= order.size or report.enough:
                    return
                seed = next(seeds)
            trial(seed)

    with ThreadPoolExecutor(order.jobs) as pool:
        for future in [pool.submit(work) for _ in range(order.jobs)]:
            future.result()


def lead_each(order: Order, report: Report, trial: Callable[[int], None]) -> None:
    """Lead as many trials as the size says, `order.jobs` at a time."""

    def one(seed: int) -> None:
        if not report.enough:
            trial(seed)

    with ThreadPoolExecutor(order.jobs) as pool:
        for future in [pool.submit(one, order.seed + number) for number in range(order.size)]:
            future.result()
