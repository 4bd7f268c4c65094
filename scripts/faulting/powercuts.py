"""Death before and after every sync of a run's life, with and without a cut of the power at that moment."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random

from faulting.disk_cases import BEGIN, RESUME, Afterlife, check_told, lead
from faulting.disk_model import WAYS, Disk, syncs
from faulting.disk_pipelines import PIPELINES
from faulting.disk_places import Broken, DiskPlace

KILLED = -9
BOOTS = ("11111111-2222-4333-8444-555555555555", "66666666-7777-4888-8999-000000000000")
DYING_TWICE = 0.25
"""The part of the power cuts after which the resume dies, too, at one of its first syncs."""
MOST_AGAIN = 30


@dataclass(frozen=True)
class Point:
    """Where a run dies: at its n-th sync."""

    pipeline: str
    sync: int
    when: str


@dataclass(frozen=True)
class Case:
    """One death: the power stays (way None) or is cut; `again`: the resume dies, too, at this sync of its own."""

    point: Point
    way: str | None
    seed: int
    again: int = 0


def run(size: int, random: Random, scratch: Path, report: Callable[[str], None]) -> str:
    """Lead `size` cases: three in five are kills alone (no point twice before each was met), the rest are cuts."""
    counted = {name: whole(name, scratch) for name in PIPELINES}
    points = [
        Point(name, sync, when) for name, count in counted.items() for sync in range(1, count + 1)
        for when in ("before", "after")
    ]  # fmt: skip
    kills = min(len(points), size * 3 // 5)
    chosen = [Case(point, None, random.getrandbits(32)) for point in random.sample(points, kills)]
    ways = list(product(points, WAYS))
    while len(chosen) < size:
        for point, way in random.sample(ways, min(len(ways), size - len(chosen))):
            second = random.randint(1, MOST_AGAIN) if random.random() < DYING_TWICE else 0
            chosen.append(Case(point, way, random.getrandbits(32), second))
    lead(chosen, die_and_go_on, scratch, report)
    syncs_of = ", ".join(f"{count} syncs of {name}" for name, count in counted.items())
    return f"{kills} kill points and {size - kills} power cuts ({syncs_of}: {len(points)} points)"


def whole(name: str, scratch: Path) -> int:
    """How many syncs a whole run of a pipeline has; it has to end well."""
    place = DiskPlace(scratch / f"whole-{name}", PIPELINES[name]())
    ended = place.flowd(*BEGIN, plan={"log": str(place.log)})
    if ended.code != 0:
        raise Broken(f"{name} does not even succeed in peace: {ended}")
    check_told(place)
    place.check_kept()
    return len(syncs(place.log))


def die_and_go_on(case: Case, folder: Path) -> None:
    """One case, from its first command to its end and a last cut. Raises Broken."""
    chance = Random(case.seed)
    place = DiskPlace(folder, PIPELINES[case.point.pipeline]())
    with closing(Disk(place.root, place.log)) as disk:
        boot = ""
        first = None if case.again and chance.random() < 0.5 else case.way
        die(place, BEGIN, (case.point.sync, case.point.when), boot)
        if first is not None:
            boot = BOOTS[0]
            disk.cut_power(first, chance)
        if case.again:
            disk.hold()
            die(place, RESUME, (case.again, chance.choice(("before", "after"))), boot)
            if case.way is not None:
                boot = BOOTS[1]
                disk.cut_power(case.way, chance)
        disk.hold()
        afterlife = Afterlife(place, boot)
        afterlife.go_on()
        disk.cut_power("cut", chance)
        afterlife.check_end()


def die(place: DiskPlace, words: tuple[str, ...], kill: tuple[int, str], boot: str) -> None:
    """Run a command that dies at a sync, if it comes so far."""
    plan = {"log": str(place.log), "kill": kill} | ({"boot": boot} if boot else {})
    ended = place.flowd(*words, plan=plan)
    if ended.code not in {KILLED, 0, 3} and not (ended.code == 2 and not place.told):
        raise Broken(f"it was to die at sync {kill} and ended otherwise: {ended}")
