"""The plug is pulled on a real ext4: a loop-mounted image is shut down while a run goes on there, and mounted again."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from faulting import Skipped
from faulting.disk_cases import BEGIN, Afterlife, Report, lead
from faulting.disk_pipelines import PIPELINES
from faulting.disk_places import Broken, DiskPlace

SHUTDOWN = 0x8004587D
NO_FLUSH = struct.pack("=I", 2)
IMAGE_BYTES = 32 << 20
LONGEST_S = 1.2
"""A little more than the slowest of the pipelines takes here."""


@dataclass(frozen=True)
class Case:
    """One pulled plug: so long after the run began."""

    pipeline: str
    after_s: float
    seed: int


def run(size: int, random: Random, scratch: Path, report: Report) -> str:
    """Pull the plug `size` times at random instants of a run, mount the image again, and go on."""
    (scratch / "mounted").mkdir()
    probe = Image(scratch / "image")
    probe.mount(scratch / "mounted")  # or Skipped
    probe.umount(scratch / "mounted")
    pipelines = list(PIPELINES)
    cases = [
        Case(pipelines[number % len(pipelines)], random.uniform(0.2, LONGEST_S), random.getrandbits(32))
        for number in range(size)
    ]
    lead(cases, pull_and_go_on, scratch, report)
    return f"{size} plugs pulled on a real ext4"


def pull_and_go_on(case: Case, folder: Path) -> None:
    """One plug, from the first command to the end. Raises Broken."""
    place = DiskPlace(folder, {})
    disk = Image(folder / "image")
    disk.mount(place.root)
    try:
        for name, text in PIPELINES[case.pipeline]().items():
            (place.root / name).write_text(text, encoding="utf-8")
        os.sync()
        pulled = threading.Timer(case.after_s, disk.pull, (place.root,))
        pulled.start()
        try:
            ended = place.flowd(*BEGIN)
        finally:
            pulled.join()
        if ended.code == 0 and not ends(place):
            raise Broken(f"exit 0 without the end of the run: {ended}")
        disk.umount(place.root)
        disk.mount(place.root)
        Afterlife(place, "11111111-2222-4333-8444-555555555555").go_on()
    finally:
        disk.umount(place.root)


def ends(place: DiskPlace) -> bool:
    """Whether the run was told as finished."""
    return any(event["event"] == "run_finished" for event in place.told.values())


class Image:
    """A file with an ext4 in it. Skipped where none can be made."""

    def __init__(self, file: Path) -> None:
        self._file = file
        if shutil.which("mkfs.ext4") is None:
            raise Skipped("there is no mkfs.ext4 here")
        with file.open("wb") as made:
            made.truncate(IMAGE_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-F", file], check=True, capture_output=True)

    def mount(self, place: Path) -> None:
        """Mount it, with commits so rare that only syncs bring anything to disk. Skipped where that is not allowed."""
        command = ["mount", "-o", "loop,commit=600", str(self._file), str(place)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Skipped(f"an ext4 image cannot be mounted here: {done.stderr.strip()}")

    def umount(self, place: Path) -> None:
        """Unmount it, if it is mounted; whoever uses it still is waited for, and so is its loop device.

        A kernel that is busy lets go of that a little later: who mounted the image meanwhile would get
        the same device, and errors as soon as it is gone.
        """
        patience = time.monotonic() + 5
        while os.path.ismount(place):
            done = subprocess.run(["umount", place], capture_output=True, text=True, check=False)
            if done.returncode and time.monotonic() > patience:
                raise Broken(f"it cannot be unmounted: {done.stderr.strip()}")
            time.sleep(0.01)
        while subprocess.run(["losetup", "-j", self._file], capture_output=True, check=True).stdout:
            if time.monotonic() > patience + 5:
                raise Broken(f"{self._file} stays attached to a loop device")
            time.sleep(0.01)

    def pull(self, place: Path) -> None:
        """Shut it down as a pulled plug would; nothing more reaches it from this moment."""
        with suppress(OSError):
            descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.ioctl(descriptor, SHUTDOWN, NO_FLUSH)
            finally:
                os.close(descriptor)
