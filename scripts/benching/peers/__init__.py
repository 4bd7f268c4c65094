"""Other programs to measure beside flowd, each in an environment of its own outside the checkout.

A peer's side is a module here, `<name>_side`, run by the peer's Python as `CASE SIZE FOLDER`; it
prints `{"seconds": …}` as its last line. The environments are in the user's cache folder, made
when they are first asked for, and made again when the requirement changes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from environment import CannotPrepare as CannotPrepare
from environment import bare, python_of

STAMP = ".made-for"


@dataclass(frozen=True)
class Peer:
    """A program: what pip installs, the cases it takes part in, the largest size, and in how many rounds at most."""

    requirement: str
    cases: tuple[str, ...]
    most: int = 10_000
    rounds: int = 5


PEERS: dict[str, Peer] = {
    "aiodag": Peer("aiodag==0.4", ("W1", "W2", "W3", "W4", "W8")),
    "hamilton": Peer("sf-hamilton==1.90.0", ("W1", "W2", "W3")),
    "dask": Peer("dask==2026.8.0", ("W1", "W2", "W3", "W4", "W8"), rounds=3),
    "doit": Peer("doit==0.37.0", ("W1", "W2", "W3", "W5", "W6")),
    "luigi": Peer("luigi==3.8.1", ("W1", "W2", "W3", "W6"), rounds=3),
    "dbos": Peer("dbos==3.4.0", ("W1", "W2", "W8"), most=1_000, rounds=3),
    "prefect": Peer("prefect==3.9.1", ("W1", "W8"), most=1_000, rounds=2),
    "ninja": Peer("ninja==1.13.0", ()),  # no side of its own: a reference of W5 and W6 where the system has none
    "dagster": Peer("dagster==1.13.28", ("W1",), most=1_000, rounds=2),
}


def cache_folder() -> Path:
    """Where the environments are: `$XDG_CACHE_HOME/flowd-bench`, else `~/.cache/flowd-bench`."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "flowd-bench"


def python_for(name: str) -> Path:
    """The Python that has a peer; installed where it is not yet. Raises CannotPrepare."""
    requirement, folder = PEERS[name].requirement, cache_folder() / name
    python, stamp = python_of(folder), folder / STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == requirement and python.exists():
        return python
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        python = bare(folder, requirement)
    except CannotPrepare:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    stamp.write_text(requirement, encoding="utf-8")
    return python


def beside(case: str, tasks: int, names: Iterable[str], rounds: int) -> Iterator[tuple[str, int]]:
    """Which of the peers take part in a case at a size, each with its rounds."""
    for name in names:
        peer = PEERS[name]
        if case in peer.cases and (tasks <= peer.most or case == "W6"):
            yield name, min(rounds, peer.rounds)
