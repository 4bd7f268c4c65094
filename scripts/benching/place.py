"""Where a side keeps its files: its own folder, which outlives a sample so that what is prepared stays."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

READY = ".ready"


def emptied(place: Path) -> Path:
    """`place`, new and empty."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place


def prepared(place: Path, prepare: Callable[[Path], None]) -> Path:
    """`place` with what `prepare` puts there; done once."""
    if not (place / READY).exists():
        prepare(emptied(place))
        (place / READY).touch()
    return place
