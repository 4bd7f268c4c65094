"""Damaged journals: each is noticed and named by file and offset, or it was a tail that nobody was promised."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import msgspec

from faulting.damages import DAMAGES, HARMLESS, JOURNAL, TAILS, Damage
from faulting.disk_cases import BEGIN, Report, lead
from faulting.disk_pipelines import chain
from faulting.disk_places import RUN, Broken, DiskPlace
from flowd.adapters.journal import mark as marks
from flowd.core.errors import FlowdError, StateDamaged
from flowd.testing.replay import replay

STATE_DAMAGED = 5
CHUNK = 500
OF_A_HUNDRED = 3
"""How many of a hundred damaged folders are given to the real commands, too."""
PATIENCE_S = 5.0
MEMORY = 1_500_000_000
NAMED = re.compile(r"runs/r/(journal\.\d+\.jsonl|spec\.json|mark): (.*offset \d+|not a regular file|.*missing|.*newer)")
COMMANDS = (("show", RUN), ("events", RUN), ("runs",), ("resume", RUN))
DYING = range(40, 60)
"""The syncs at which the run may die that is not finished: after one that leaves no record unacknowledged."""


@dataclass(frozen=True)
class Case:
    """One damage of the finished run, or of the one that died; `command` is None where it is only read back."""

    finished: bool
    seed: int
    command: tuple[str, ...] | None = None


def run(size: int, random: Random, scratch: Path, report: Report) -> str:
    """Damage `size` copies of a run's folder and read each back, and a part of them by the real commands."""
    bases = {finished: base(finished, scratch) for finished in (True, False)}
    chunks = [[random.getrandbits(48) for _ in range(min(CHUNK, size - start))] for start in range(0, size, CHUNK)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        work = [(number % 2 == 0, seeds) for number, seeds in enumerate(chunks)]
        for broken in pool.map(partial(read_back, bases, scratch), range(len(work)), work):
            for text in broken:
                report(text)
    spoken = [
        Case(number // len(COMMANDS) % 2 == 0, random.getrandbits(48), COMMANDS[number % len(COMMANDS)])
        for number in range(size * OF_A_HUNDRED // 100)
    ]
    lead(spoken, partial(command, bases), scratch, report)
    return f"{size} damaged folders read back in process, {len(spoken)} by {', '.join(words[0] for words in COMMANDS)}"


def base(finished: bool, scratch: Path) -> Path:
    """The folder of a pipeline with a run `r`, finished or dead in its midst."""
    if finished:
        place = DiskPlace(scratch / "finished", chain())
        place.flowd(*BEGIN, plan={})
        return _in_state(place, "succeeded")
    for sync in DYING:
        place = DiskPlace(scratch / f"dead-{sync}", chain())
        place.flowd(*BEGIN, plan={"log": str(place.log), "kill": (sync, "after")})
        mark = marks.load(run_folder(place.root) / "mark")
        if mark is not None and mark.offset == (run_folder(place.root) / JOURNAL).stat().st_size:
            return _in_state(place, "interrupted")
    raise Broken("no death leaves a run of which all was acknowledged")


def _in_state(place: DiskPlace, state: str) -> Path:
    if (found := replay(run_folder(place.root))["state"]) != state:
        raise Broken(f"the run to be damaged is {found}, not {state}")
    return place.root


def run_folder(root: Path) -> Path:
    """Where its run is kept."""
    return root / ".flowd" / "runs" / RUN


def damaged(root: Path, seed: int) -> tuple[Damage, str]:
    """Damage a copy; with what, and how it went."""
    chance = Random(seed)
    kind = chance.choices([kind for kind, _ in DAMAGES], [share for _, share in DAMAGES])[0]
    return kind, kind(run_folder(root), chance)


def read_back(bases: dict[bool, Path], scratch: Path, number: int, work: tuple[bool, list[int]]) -> list[str]:
    """Damage copies and read each back; what was believed that must not be, with its seed."""
    finished, seeds = work
    root = scratch / f"chunk-{number}" / "root"
    shutil.copytree(bases[finished], root)
    folder = run_folder(root)
    for needless in ("logs", "inbox"):  # no reader of the journal looks there
        shutil.rmtree(folder / needless)
    kept = {path: path.read_bytes() for path in folder.iterdir()}
    whole = document(folder)
    broken = []
    for seed in seeds:
        try:
            kind, how = damaged(root, seed)
            judge(kind, how, folder, whole)
        except Exception as error:  # noqa: BLE001  # whatever reading a damaged folder raises is the finding
            broken.append(f"{Case(finished, seed)}: {error!r}")
        put_back(folder, kept)
    shutil.rmtree(root.parent)
    return broken


def put_back(folder: Path, kept: dict[Path, bytes]) -> None:
    """Make the files of a folder what they were: to copy all of them for each damage took most of the time."""
    found = {Path(entry.path): entry.is_file(follow_symlinks=False) for entry in os.scandir(folder)}
    for path, is_file in found.items():
        if path not in kept or not is_file:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    for path, data in kept.items():
        if not found.get(path) or path.read_bytes() != data:
            path.write_bytes(data)


def document(folder: Path) -> bytes:
    """The run as it is read back."""
    return msgspec.json.encode(replay(folder))


def judge(kind: Damage, how: str, folder: Path, whole: bytes) -> bool:
    """Whether the damage was noticed. Broken where it was believed, or not named, or took long."""
    began = time.monotonic()
    try:
        found = document(folder)
    except StateDamaged as error:
        if kind in HARMLESS:
            raise Broken(f"{how}: harmless, and refused: {error}") from error
        if not NAMED.search(str(error)):
            raise Broken(f"{how}: no file and offset: {error}") from error
        return True
    except FlowdError as error:
        if how == "spec.json: missing":
            return True  # a folder without one was never a run
        raise Broken(f"{how}: {error!r}") from error
    finally:
        if time.monotonic() - began > PATIENCE_S:
            raise Broken(f"{how}: it took {time.monotonic() - began:.1f}s")
    if found != whole:
        raise Broken(f"{how}: another run was believed: {found[:300]!r}")
    if kind not in HARMLESS | TAILS and how not in {"nothing", "mark: missing"}:
        raise Broken(f"{how}: it was not noticed")
    return False


def command(bases: dict[bool, Path], case: Case, folder: Path) -> None:
    """One damaged copy under one real command. Raises Broken."""
    assert case.command is not None
    place = DiskPlace(folder, {})
    shutil.copytree(bases[case.finished], place.root, dirs_exist_ok=True)
    runs = run_folder(place.root)
    whole = document(runs)
    kind, how = damaged(place.root, case.seed)
    noticed = judge(kind, how, runs, whole)
    before = journal_bytes(runs)
    began = time.monotonic()
    ended = place.flowd(*case.command, before=("prlimit", f"--as={MEMORY}"))
    if time.monotonic() - began > 2 * PATIENCE_S:
        raise Broken(f"{how}: {ended} took {time.monotonic() - began:.1f}s")
    if case.command[0] == "runs":
        expected = {0}
    elif case.command[0] == "events" and how.startswith("spec.json"):
        expected = {0, STATE_DAMAGED}  # events are told without it
    else:
        expected = {STATE_DAMAGED} if noticed else {0}
    if ended.code not in expected:
        raise Broken(f"{how}: {sorted(expected)} was due: {ended}")
    if noticed and journal_bytes(runs) != before:
        raise Broken(f"{how}: the damaged journal was changed: {ended}")
    if case.command[0] == "resume" and kind in TAILS and not case.finished and "set aside" not in ended.err:
        raise Broken(f"{how}: it was repaired without a word: {ended}")


def journal_bytes(folder: Path) -> bytes | None:
    """What stands in the journal's place, if that is a file."""
    path = folder / JOURNAL
    return path.read_bytes() if path.is_file() and not path.is_symlink() else None
