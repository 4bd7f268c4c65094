"""The families there are; another one is one more entry."""

from __future__ import annotations

from pathlib import Path
from random import Random

from faulting import Skipped, daemons, deaths, disk_families, inputs, kills, owners, processes, tasks
from faulting.family import Family, Order, Report, Violation

DISK_PROMISE = "what was told is on disk; a failing disk is loud, exit 4, and goes on once there is room"


def _of_disk(name: str, per_commit: int, per_release: int, lead: disk_families.Family) -> Family:
    """A family that counts its cases itself and reports what it broke as text."""

    def run(order: Order, report: Report) -> None:
        def broke(text: str) -> None:
            report.broke(Violation(order.seed, text, None))

        try:
            lead(order.size, Random(order.seed), Path(order.folder), broke)
            report.did("cases", order.size)
        except Skipped as reason:
            report.skip(name, str(reason))

    return Family(
        name=name,
        promise=DISK_PROMISE,
        counted="cases",
        per_commit=per_commit,
        per_release=per_release,
        run=run,
    )


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
    Family(
        name="deaths",
        promise="whatever ends or stops flowd from outside, nothing is done twice and the run can be gone on with",
        counted="ends",
        per_commit=len(deaths.SCENES),
        per_release=10 * len(deaths.SCENES),
        run=deaths.run,
    ),
    Family(
        name="tasks",
        promise="whatever a task does, says or returns, it is told truly and harms neither flowd nor the record",
        counted="tasks",
        per_commit=len(tasks.SCENES),
        per_release=10 * len(tasks.SCENES),
        run=tasks.run,
    ),
    Family(
        name="inputs",
        promise="a mistaken file is refused with its place, quickly and in little memory; a near miss is taken",
        counted="files",
        per_commit=inputs.COUNT,
        per_release=2 * inputs.COUNT,
        run=inputs.run,
    ),
    Family(
        name="daemons",
        promise="killed at random instants, a daemon fires each time once or says why not, and leaves nothing stuck",
        counted="kills",
        per_commit=20,
        per_release=100,
        run=daemons.run,
    ),
    *(_of_disk(*family) for family in disk_families.FAMILIES),
)
