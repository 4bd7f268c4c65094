"""The families there are; another one is one more entry."""

from __future__ import annotations

from faulting import kills, owners, processes
from faulting.family import Family

FAMILIES = (
    Family(
        name="kills",
        promise="killed at random instants, resumed and answered, a run loses nothing and does nothing twice",
        counted="kills",
        per_commit=200,
        per_release=10_000,
        run=kills.run,
    ),
    Family(
        name="processes",
        promise="no process of a task survives an end, a cancel, a timeout, or flowd's own death",
        counted="ends",
        per_commit=len(processes.COMBINATIONS),
        per_release=12 * len(processes.COMBINATIONS),
        run=processes.run,
    ),
    Family(
        name="owners",
        promise="a run has one owner, who is named to others at once, and none when its owner is dead",
        counted="contests",
        per_commit=len(owners.CONTESTS),
        per_release=25 * len(owners.CONTESTS),
        run=owners.run,
    ),
)
