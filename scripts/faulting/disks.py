"""Disks that are full, and disks that fail: nothing is told that is not there, and what comes after goes on."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from random import Random

from faulting import Skipped
from faulting.disk_cases import BEGIN, RESUME, RETRY, Afterlife, Report, lead
from faulting.disk_model import Disk
from faulting.disk_pipelines import PIPELINES, chatty, moving
from faulting.disk_places import RUN, Broken, DiskPlace, Ended

STORAGE_FAILING = 4
MOST_COMMANDS = 2
PAGE = 4096
PAGES = 96
"""More pages than any of the pipelines fills."""
INODES = 130
BALLAST = "ballast"
FILLING = PIPELINES | {"chatty": chatty}
FOR_EVER = 1_000_000


# --- a disk that is full ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Full:
    """A disk with so many pages, or inodes, left when the run begins."""

    pipeline: str
    pages: int | None
    inodes: int | None


def full_disk(size: int, random: Random, scratch: Path, report: Report) -> str:
    """Run on file systems of a few pages, four in five, or of a few inodes; then make room and go on."""
    with mounted(scratch, "size=64k"):
        pass  # or Skipped
    cases = []
    for number in range(size):
        pipeline = list(FILLING)[number % len(FILLING)]
        level = (number // len(FILLING)) / max(size // len(FILLING), 1) + random.random() / size
        without_inodes = number % 5 == 4
        cases.append(
            Full(
                pipeline,
                None if without_inodes else int(level * PAGES),
                int(level * INODES) + 4 if without_inodes else None,
            )
        )
    lead(cases, fill_and_go_on, scratch, report)
    return f"{size} fill levels of a small disk"


def fill_and_go_on(case: Full, folder: Path) -> None:
    """One fill level, from the first command to the end. Raises Broken."""
    place = DiskPlace(folder, {})
    options = f"size={4 * PAGES * PAGE}" + (f",nr_inodes={INODES * 2}" if case.inodes else "")
    with mounted(place.root, options):
        for name, text in FILLING[case.pipeline]().items():
            (place.root / name).write_text(text, encoding="utf-8")
        fill(place.root, case)
        ended = place.flowd(*BEGIN)
        shutil.rmtree(place.root / BALLAST)
        well_again(place, ended, errno.ENOSPC)


def fill(root: Path, case: Full) -> None:
    """Leave no more room than the case says."""
    ballast = root / BALLAST
    ballast.mkdir()
    room = os.statvfs(root)
    if case.inodes is not None:
        for number in range(max(room.f_ffree - case.inodes, 0)):
            (ballast / str(number)).touch()
    if case.pages is not None:
        (ballast / "bytes").write_bytes(b"\0" * max((room.f_bfree - case.pages) * room.f_bsize, 0))


@contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    """A small file system of its own at `place`. Skipped where that is not allowed."""
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True, check=False
    )
    if mount.returncode:
        raise Skipped(f"no file system can be mounted here: {mount.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


# --- a disk that fails -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failing:
    """What fails in the course of a run: the n-th `what`, once or from there on, with an error; or a happening.

    `what` is sync (what was not synced is dropped, as Linux does), a system call (by strace), size, or moved.
    """

    pipeline: str
    what: str
    number: int
    ever: bool
    error: int


ERRORS = (errno.EIO, errno.EDQUOT, errno.EROFS, errno.ENOSPC)
CALLS = ("fdatasync", "fsync", "write")
SHARES = {"sync": 10, "size": 3, "moved": 3, "fdatasync": 1, "fsync": 1, "write": 2}


def failing_disk(size: int, random: Random, scratch: Path, report: Report) -> str:
    """Let syncs and writes of the journal fail, files grow too large, and folders be moved away, in a run."""
    traced = has_strace()
    kinds = [what for what, share in SHARES.items() if traced or what not in CALLS for _ in range(share)]
    happenings = cycle(range(len(HAPPENINGS))).__next__
    cases = []
    for number in range(size):
        what = kinds[number % len(kinds)]
        pipeline = random.choice(list(PIPELINES))
        at = {"sync": 70, "size": 12_000, "write": 20}.get(what, 9)
        nth = happenings() if what == "moved" else random.randint(1, at)
        cases.append(Failing(pipeline, what, nth, random.random() < 0.5, random.choice(ERRORS)))
    lead(cases, fail_and_go_on, scratch, report)
    missing = "" if traced else " (no strace: its share of them was left out)"
    return f"{size} failures of syncs, writes and places{missing}"


def has_strace() -> bool:
    """Whether strace can be used."""
    return (
        shutil.which("strace") is not None
        and subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0
    )


def fail_and_go_on(case: Failing, folder: Path) -> None:
    """One failure, from the first command to the end. Raises Broken."""
    if case.what == "moved":
        move_and_go_on(HAPPENINGS[case.number], folder)
        return
    place = DiskPlace(folder, PIPELINES[case.pipeline]())
    if case.what == "sync":
        with closing(Disk(place.root, place.log)) as disk:
            last = FOR_EVER if case.ever else case.number
            ended = place.flowd(*BEGIN, plan={"log": str(place.log), "fail": (case.number, last, case.error)})
            disk.cut_power("names", Random(case.number))  # what could not be synced leaves the memory unseen
            well_again(place, ended, case.error)
    elif case.what == "size":
        well_again(place, place.flowd(*BEGIN, before=("prlimit", f"--fsize={case.number}:{case.number}")), errno.EFBIG)
    else:
        name = errno.errorcode[case.error]
        path = ("-P", str(place.state / "runs" / RUN / "journal.0001.jsonl")) if case.what == "write" else ()
        inject = f"inject={case.what}:error={name}:when={case.number}{'+' if case.ever else ''}"
        strace = ("strace", "-f", "-qq", "-o", "/dev/null", *path, "-e", f"trace={case.what}", "-e", inject)
        well_again(place, place.flowd(*BEGIN, before=strace), case.error)


def well_again(place: DiskPlace, ended: Ended, error: int) -> None:
    """The disk is well after a command that ended so. Raises Broken."""
    afterlife = Afterlife(place, may_fail=True)
    if ended.code == 0:
        afterlife.check_end()
        return
    said = ended.err + ended.out.decode(errors="replace")
    if errno.errorcode[error] not in said and os.strerror(error) not in said:
        raise Broken(f"the cause, {errno.errorcode[error]}, is not named: {ended}")
    if ended.code == 1 and any(event["event"] == "task_failed" for event in place.told.values()):
        afterlife.go_on(RETRY, MOST_COMMANDS)  # the command of the task itself found no room
        return
    if ended.code != STORAGE_FAILING:
        raise Broken(f"the disk failed with {errno.errorcode[error]}: {ended}")
    afterlife.go_on(RESUME, MOST_COMMANDS)


# --- places that do not stay -----------------------------------------------------------------------------

_JOURNAL = f".flowd/runs/{RUN}/journal.0001.jsonl"


@dataclass(frozen=True)
class Happening:
    """What a task of the run does to its own state directory, and how a person puts that right (empty: cannot)."""

    does: str
    mends: str


HAPPENINGS = (
    Happening("mv .flowd aside", "rm -rf .flowd && mv aside .flowd"),
    Happening("mv .flowd aside && mkdir .flowd", "rm -rf .flowd && mv aside .flowd"),
    Happening("cp -a .flowd aside && mv .flowd old && mv aside .flowd", "rm -rf .flowd && mv old .flowd"),
    Happening(
        f"mv .flowd/runs/{RUN} aside && mkdir .flowd/runs/{RUN}",
        f"rm -rf .flowd/runs/{RUN} && mv aside .flowd/runs/{RUN}",
    ),
    Happening(f"mv {_JOURNAL} aside", f"mv aside {_JOURNAL}"),
    Happening(f"cp {_JOURNAL} new && mv {_JOURNAL} old && mv new {_JOURNAL}", f"mv old {_JOURNAL}"),
    Happening(f"rm {_JOURNAL}", ""),
    Happening(f"rm -rf .flowd/runs/{RUN}", ""),
    Happening("rm -rf .flowd", ""),
)


def move_and_go_on(case: Happening, folder: Path) -> None:
    """One happening, from the first command to the end. Raises Broken."""
    place = DiskPlace(folder, moving(case.does))
    ended = place.flowd(*BEGIN)
    if ended.code != STORAGE_FAILING or ".flowd" not in ended.err:
        raise Broken(f"{case.does}: no exit {STORAGE_FAILING} that says what became of the place: {ended}")
    last = max(place.told)
    if case.mends:
        subprocess.run(["sh", "-c", case.mends], cwd=place.root, check=True)
        Afterlife(place).go_on(RESUME, MOST_COMMANDS)
        return
    ended = place.flowd(*RESUME)
    if ended.code not in {2, 5} or last != max(place.told):
        raise Broken(f"{case.does}: the run is gone, and it goes on: {ended}")
