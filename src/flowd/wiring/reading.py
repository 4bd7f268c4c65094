"""A state directory as those see it who only look: nothing is made, locked or repaired."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from flowd.adapters.checkpoints import FileCheckpoints, pipeline_key
from flowd.adapters.journal.file import FileJournal
from flowd.engine.saying import say_damage


@contextmanager
def reading(state_dir: Path) -> Iterator[FileJournal]:
    """The journal of a state directory, which need not exist."""
    with closing(FileJournal(state_dir)) as journal:
        yield journal


@contextmanager
def checkpoints_of(state_dir: Path, name: str, folder: Path) -> Iterator[tuple[FileCheckpoints, str]]:
    """The checkpoints of a state directory, and the key of one pipeline among them."""
    with reading(state_dir) as journal, closing(FileCheckpoints(state_dir, journal, report=say_damage)) as checkpoints:
        yield checkpoints, pipeline_key(name, folder, state_dir)
