"""Other runs of a pipeline that wait for an answer, or that were left unfinished: said before one more is begun."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from flowd.cli.streams import style_of, tell
from flowd.core.views import INTERRUPTED, WAITING

if TYPE_CHECKING:
    from flowd.core.spec import Definition

MOST, MANY = 5, 20
_PAUSED = "paused"
_WORDS = {WAITING: "waits for an answer", INTERRUPTED: "was left unfinished", _PAUSED: "is paused"}


def tell_left_open(place: Path, definition: Definition, besides: str | None = None, flags: str = "") -> None:
    """Say of each such run how it stands and what to type; nothing where there is none."""
    style = style_of("stderr")
    for line in lines(place, definition, besides):
        tell(style.text(f"{line}{flags}"))


def lines(place: Path, definition: Definition, besides: str | None = None) -> list[str]:
    """A line for each run that nobody goes on with, the newest first; one that cannot be read is left to others.

    Runs that may leave checkpoints are on a list until they have ended; of other pipelines only the
    newest few runs are looked at, since a start must not take longer with every run.
    """
    from flowd.adapters.checkpoints import pipeline_key
    from flowd.engine.checkpointing import keeps

    if keeps(definition.spec):
        key = pipeline_key(definition.spec.name, Path(definition.folder), place)
        folder, most = place / "pipelines" / key / "open", MANY
    else:
        folder, most = place / "runs", MOST
    try:
        names = sorted(os.listdir(folder), reverse=True)[:most]
    except FileNotFoundError:
        return []
    names = [name for name in names if name != besides]
    return _told(place, definition, names) if names else []


def _told(place: Path, definition: Definition, names: list[str]) -> list[str]:
    import anyio

    from flowd.cli.finding import look
    from flowd.cli.summary import following
    from flowd.core.errors import FlowdError
    from flowd.wiring.reading import reading

    found: list[str] = []
    with reading(place) as journal:
        for name in names:
            try:
                seen = anyio.run(look, journal, name)
            except FlowdError:
                continue
            same = (seen.definition.spec.name, seen.definition.folder) == (definition.spec.name, definition.folder)
            if same and seen.owner is None and seen.status in _WORDS and len(found) < MOST:
                command = next(iter(following(seen.state, seen.status)), f"flowd resume {name}")
                found.append(f"run {name} {_WORDS[seen.status]}: {command}")
    return found
