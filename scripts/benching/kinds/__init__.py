"""How a sample of each kind of case is taken: a module for each, named by `Case.kind`.

Each has `take(case, tasks, side, place, profile)`: one side of the case, once, in this process, with
its files in `place`. It returns figures, `seconds` among them where time is compared. `place` stays
for the rounds to come, so what is prepared once is prepared there; NotHere says what a side lacks.
"""

from __future__ import annotations

import gc
import os
import resource
import shutil
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from environment import python_of

from benching.cases import Case
from benching.peers import cache_folder

MB = 1_000_000
Figures = Mapping[str, float]
Take = Callable[[Case, int, str, Path, int], Figures]


class NotHere(Exception):
    """What a side needs is not installed here; the message says what."""


def taker(case: Case) -> Take:
    """What takes the samples of a case."""
    take: Take = import_module(f"benching.kinds.{case.kind}").take
    return take


def tool(name: str) -> str:
    """Where a program is: beside this Python, on PATH, or where --peers has installed it. Raises NotHere."""
    folders = [Path(sys.executable).parent, os.environ.get("PATH", ""), python_of(cache_folder() / name).parent]
    found = shutil.which(name, path=os.pathsep.join(map(str, folders)))
    if found is None:
        raise NotHere(f"{name} is not installed here")
    return found


def peak_bytes() -> int:
    """The most memory that this process has held."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def held_bytes() -> int:
    """The memory that this process holds now, garbage excluded. Raises NotHere off Linux."""
    gc.collect()
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError as error:
        raise NotHere("this system does not tell what a process holds (/proc/self/statm)") from error
    return pages * resource.getpagesize()
