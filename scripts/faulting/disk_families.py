"""The families of faults of the disk, with how many cases each has for a commit and for a release."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

from faulting import damage, disks, ext4, odd_disks, powercuts

Family = Callable[[int, Random, Path, Callable[[str], None]], str]

FAMILIES: list[tuple[str, int, int, Family]] = [
    ("powercuts", 250, 2_500, powercuts.run),
    ("full_disk", 24, 300, disks.full_disk),
    ("failing_disk", 60, 1_000, disks.failing_disk),
    ("odd_disks", 2 * len(odd_disks.CASES), 40 * len(odd_disks.CASES), odd_disks.run),
    ("ext4", 20, 500, ext4.run),
    ("damage", 8_000, 1_000_000, damage.run),
]
