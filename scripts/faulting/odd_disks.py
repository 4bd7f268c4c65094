"""Disks that turn read-only, stand still, crawl, lie, or refuse what is asked of them, under runs on a real ext4."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from faulting import living
from faulting.disk_cases import BEGIN, RESUME, Afterlife, Report, lead
from faulting.disk_pipelines import PIPELINES, chain, napping
from faulting.disk_places import RUN, Broken, DiskPlace, Ended, marked
from faulting.disks import STORAGE_FAILING, has_strace
from faulting.ext4 import Image

FROZEN_S = 12.0
"""Longer than flowd waits until it says what it waits for."""
CRAWL = 20
"""Writes per second of a disk that crawls."""
CRAWL_S = 60.0
LATER_BOOT = "11111111-2222-4333-8444-555555555555"
KILLED = -9
NEVER_BEGAN = 2
BEGUN = 1_000
"""Bytes of a journal whose run is well under way."""
JOURNAL = f"runs/{RUN}/journal.0001.jsonl"

Case = Callable[[Path, Random], None]


def run(size: int, random: Random, scratch: Path, report: Report) -> str:
    """Every case in turn, at moments that chance says."""
    (scratch / "mounted").mkdir()
    probe = Image(scratch / "image")
    probe.mount(scratch / "mounted")  # or Skipped
    probe.umount(scratch / "mounted")
    kinds = [case for case in CASES if case not in TRACED or has_strace()]
    cases = [_Drawn(kinds[number % len(kinds)], random.getrandbits(32)) for number in range(size)]
    lead(cases, lambda drawn, folder: drawn.play(folder), scratch, report)
    return f"{size} odd disks"


class _Drawn:
    """A case and its chance."""

    def __init__(self, case: Case, seed: int) -> None:
        self._case = case
        self._seed = seed

    def play(self, folder: Path) -> None:
        self._case(folder, Random(self._seed))

    def __str__(self) -> str:
        return f"{self._case.__name__.strip('_').replace('_', ' ')} (seed {self._seed})"


@contextlib.contextmanager
def _mounted(folder: Path, files: dict[str, str]) -> Iterator[tuple[DiskPlace, Image]]:
    place = DiskPlace(folder, {})
    image = Image(folder / "image")
    image.mount(place.root)
    try:
        for name, text in files.items():
            (place.root / name).write_text(text, encoding="utf-8")
        os.sync()
        yield place, image
    finally:
        image.umount(place.root)


def _aside(*command: str | Path) -> None:
    """Do something to the disk. Broken where the system refuses."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Broken(f"{' '.join(map(str, command))}: {done.stderr.strip()}")


def _during(place: DiskPlace, after_s: float, act: Callable[[], None], words: Sequence[str] = BEGIN) -> Ended:
    """A command, and something that happens to its disk meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        happening = pool.submit(_later, after_s, act)
        ended = place.flowd(*words)
        happening.result()  # Broken, where that was not as it has to be
    return ended


def _later(after_s: float, act: Callable[[], None]) -> None:
    time.sleep(after_s)
    act()


# --- in the midst of a run -------------------------------------------------------------------------------


def _read_only(folder: Path, chance: Random) -> None:
    """The file system gives up after an error of its own, as ext4 does."""
    pipeline = chance.choice(list(PIPELINES))
    with _mounted(folder, PIPELINES[pipeline]()) as (place, image):
        ended = _during(place, chance.uniform(0.2, 0.9), lambda: _aside("mount", "-o", "remount,abort", place.root))
        _check_loud(place, ended, "EROFS", "EIO", "Read-only file system")
        image.umount(place.root)
        image.mount(place.root)
        Afterlife(place, LATER_BOOT, may_fail=True).go_on()


def _stands_still(folder: Path, chance: Random) -> None:
    """Nothing is told while the disk does not answer; after a while that is said, and then it goes on."""
    with _mounted(folder, napping()) as (place, _):
        told = _Frozen(place)
        ended = _during(place, chance.uniform(0.4, 0.8), told.freeze)
        if ended.code:
            raise Broken(f"the disk stood still for {FROZEN_S:g}s: {ended}")
        if told.frozen and told.waited and "waiting_for_disk" not in ended.err:
            raise Broken(f"nothing was said of a disk that stood still for {FROZEN_S:g}s: {ended}")
        Afterlife(place).check_end()


class _Frozen:
    """Freezes a place's file system for a while; whether the run's journal waited for it."""

    def __init__(self, place: DiskPlace) -> None:
        self._place = place
        self.frozen = self.waited = False

    def freeze(self) -> None:
        self.frozen = living.within(10, lambda: self._size() > BEGUN)
        _aside("fsfreeze", "-f", self._place.root)
        try:
            time.sleep(1)
            before = self._size()
            time.sleep(FROZEN_S - 1)
            going = b"run_finished" not in (self._place.state / JOURNAL).read_bytes() if self.frozen else False
            # where it was about to write a log line, it is flowd's own loop that waits, and nothing can be said
            self.waited = going and not any(_waits_for_disk(pid) for pid in marked(self._place.token))
            if self._size() != before:
                raise Broken("a frozen journal grew")
        finally:
            _aside("fsfreeze", "-u", self._place.root)

    def _size(self) -> int:
        try:
            return (self._place.state / JOURNAL).stat().st_size
        except FileNotFoundError:
            return 0


def _waits_for_disk(pid: int) -> bool:
    """Whether the first thread of a process waits in the kernel and hears nothing."""
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] == "D"
    except OSError:
        return False


def _crawls(folder: Path, chance: Random) -> None:
    """Twenty writes in a second: records share syncs, so that many tasks take no time each."""
    group = Path("/sys/fs/cgroup/blkio") / f"faults-{os.getpid()}-{chance.getrandbits(32)}"
    with _mounted(folder, PIPELINES["python"]()) as (place, _):
        throttle = _throttled(group, place.root)
        if throttle is None:
            return
        try:
            began = time.monotonic()
            ended = place.flowd(*BEGIN, before=throttle)
            took = time.monotonic() - began
        finally:
            group.rmdir()
        if ended.code:
            raise Broken(f"on a slow disk: {ended}")
        if took > CRAWL_S:
            raise Broken(f"on a disk of {CRAWL} writes per second it took {took:.0f}s")
        Afterlife(place).check_end()


def _throttled(group: Path, root: Path) -> tuple[str, ...] | None:
    """Words before a command that is to run with a slow disk; None where there is no such throttle."""
    device = os.stat(root).st_dev
    try:
        group.mkdir()
        limit = f"{os.major(device)}:{os.minor(device)} {CRAWL}"
        (group / "blkio.throttle.write_iops_device").write_text(limit)
    except OSError:
        with contextlib.suppress(OSError):
            group.rmdir()
        return None
    return ("sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group))


def _lies(folder: Path, chance: Random) -> None:
    """Syncs that do nothing, and then no power: what is lost is noticed, or all of the run is gone; none is made up."""
    with _mounted(folder, {}) as (place, image):
        for name in ("lower", "upper", "work", "seen"):
            (place.root / name).mkdir()
        seen = DiskPlace(folder / "seen", {})
        layers = f"lowerdir={place.root}/lower,upperdir={place.root}/upper,workdir={place.root}/work,volatile"
        _aside("mount", "-t", "overlay", "-o", layers, "overlay", seen.root)
        try:
            for name, text in chain().items():
                (seen.root / name).write_text(text, encoding="utf-8")
            flushed = threading.Timer(chance.uniform(0.3, 1.5), os.sync)
            flushed.start()
            seen.flowd(*BEGIN)
            flushed.join()
            if chance.random() < 0.3:
                os.sync()  # nothing is lost, and the run is whole
            image.pull(place.root)
        finally:
            _aside("umount", seen.root)
        image.umount(place.root)
        image.mount(place.root)
        shutil.copytree(place.root / "upper", seen.root, dirs_exist_ok=True)
        shown = seen.flowd("show", RUN, "--json")
        if shown.code not in {0, 2, 5}:
            raise Broken(f"after a disk that lied: {shown}")
        # files of what is shown as succeeded may be gone, as if somebody had removed them: the next run finds that
        found = json.loads(shown.out)["tasks"] if shown.code == 0 else {}
        for name in [name for name, task in found.items() if task["state"] == "succeeded"]:
            told, shows = seen.succeeded[name], found[name]
            if [one["digest"] for one in shows["outputs"]] != [one["digest"] for one in told["outputs"]]:
                raise Broken(f"{name} was told as {told}, and is shown as {shows}")


# --- before the next command -----------------------------------------------------------------------------


def _immutable(folder: Path, chance: Random) -> None:
    """`chattr +i` binds even root: refused with the cause, and nothing is begun."""
    _flagged(folder, chance, "i", {STORAGE_FAILING})


def _append_only(folder: Path, chance: Random) -> None:
    """`chattr +a`: it goes on where nothing needs to be cut off, and else is refused with the cause."""
    _flagged(folder, chance, "a", {0, 3, STORAGE_FAILING})


def _flagged(folder: Path, chance: Random, flag: str, codes: set[int]) -> None:
    with _mounted(folder, chain()) as (place, _):
        place.flowd(*BEGIN, plan={"log": str(place.log), "kill": (chance.randint(12, 40), "after")})
        journal = place.state / JOURNAL
        if not journal.exists():
            return
        if torn := chance.random() < 0.5:
            with journal.open("ab") as file:
                file.write(b"torn")
        before = place.ledger(), journal.read_bytes()
        _aside("chattr", f"+{flag}", journal)
        try:
            ended = place.flowd(*RESUME)
        finally:
            _aside("chattr", f"-{flag}", journal)
        if ended.code not in codes and (ended.code != NEVER_BEGAN or place.told):
            raise Broken(f"the journal bears +{flag}{' and a torn tail' if torn else ''}: {ended}")
        if ended.code == STORAGE_FAILING:
            if "EPERM" not in ended.err:
                raise Broken(f"the cause, EPERM, is not named: {ended}")
            if (place.ledger(), journal.read_bytes()) != before:
                raise Broken(f"it was refused, and something has changed: {ended}")
        Afterlife(place).go_on()


# --- system calls ----------------------------------------------------------------------------------------


def _killed_while_it_writes(folder: Path, chance: Random) -> None:
    """Death at any write of the journal or of its mark."""
    place = DiskPlace(folder, PIPELINES[chance.choice(list(PIPELINES))]())
    name, call = chance.choice(((JOURNAL, "write"), (f"runs/{RUN}/mark", "pwrite64")))
    ended = place.flowd(*BEGIN, before=_strace(place, name, f"{call}:signal=KILL:when={chance.randint(1, 20)}"))
    if ended.code not in {0, KILLED}:
        raise Broken(f"it was to die at a write and ended otherwise: {ended}")
    Afterlife(place).go_on()


def _cannot_open(folder: Path, chance: Random) -> None:
    """A stale handle, no descriptor left, a quota: whatever keeps a file of the run from being opened."""
    place = DiskPlace(folder, PIPELINES[chance.choice(list(PIPELINES))]())
    name = chance.choice(
        (JOURNAL, f"runs/{RUN}/mark", f"runs/{RUN}/spec.json", f"runs/{RUN}", f"runs/{RUN}/owner.json")
    )
    error = chance.choice(("ESTALE", "EMFILE", "EDQUOT", "EIO", "EACCES"))
    place.flowd(*BEGIN, plan={"log": str(place.log), "kill": (chance.randint(12, 40), "after")})
    words = chance.choice((RESUME, BEGIN))
    ended = place.flowd(*words, before=_strace(place, name, f"openat:error={error}:when={chance.randint(1, 3)}+"))
    if ended.code not in {0, 2, 3, STORAGE_FAILING, 5}:
        raise Broken(f"{name} cannot be opened ({error}): {ended}")
    if ended.code in {2, STORAGE_FAILING, 5} and RUN not in ended.err:
        raise Broken(f"{name} cannot be opened ({error}), and it is not named: {ended}")
    Afterlife(place, may_fail=True).go_on()


def _interrupted_calls(folder: Path, chance: Random) -> None:
    """EINTR from any call on the journal is no failure."""
    place = DiskPlace(folder, PIPELINES[chance.choice(list(PIPELINES))]())
    call = chance.choice(("openat", "write", "fdatasync", "fsync"))
    ended = place.flowd(*BEGIN, before=_strace(place, JOURNAL, f"{call}:error=EINTR:when={chance.randint(1, 9)}"))
    if ended.code:
        raise Broken(f"{call} was interrupted: {ended}")
    Afterlife(place).check_end()


def _cannot_lock(folder: Path, chance: Random) -> None:
    """A file system without locks: refused, and it is said what to do."""
    place = DiskPlace(folder, chain())
    error = chance.choice(("ENOLCK", "EOPNOTSUPP", "EINVAL"))
    strace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", f"inject=flock:error={error}")
    ended = place.flowd(*BEGIN, before=strace)
    if (
        ended.code != STORAGE_FAILING
        or os.strerror(getattr(errno, error)) not in ended.err
        or "local disk" not in ended.err
    ):
        raise Broken(f"flock fails with {error}: {ended}")
    if place.ledger():
        raise Broken(f"flock fails, and {place.ledger()} began")
    Afterlife(place).go_on(BEGIN)


def _strace(place: DiskPlace, name: str, inject: str) -> tuple[str, ...]:
    call = inject.partition(":")[0]
    path = str(place.state / name)
    return ("strace", "-f", "-qq", "-o", "/dev/null", "-P", path, "-e", f"trace={call}", "-e", f"inject={inject}")


def _check_loud(place: DiskPlace, ended: Ended, *names: str) -> None:
    """A run whose disk has failed ends with 4 and the cause, or had ended before."""
    if ended.code == 0 and any(event["event"] == "run_finished" for event in place.told.values()):
        return
    if ended.code != STORAGE_FAILING or not re.search("|".join(names), ended.err):
        raise Broken(f"exit {STORAGE_FAILING} and the cause were due: {ended}")


TRACED: tuple[Case, ...] = (_killed_while_it_writes, _cannot_open, _interrupted_calls, _cannot_lock)
CASES: tuple[Case, ...] = (
    _stands_still,
    _read_only,
    _crawls,
    _lies,
    _immutable,
    _append_only,
    *TRACED,
    *TRACED[:3],
    _read_only,
)
