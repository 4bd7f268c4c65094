"""Where the state directory is: asked for, named by the environment, or found upwards."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path

STATE_DIR = ".flowd"
VARIABLE = "FLOWD_STATE_DIR"
_ROOT_MARKS = (".git", "pyproject.toml")


def find_state_dir(asked: str | None, start: Path, environment: Mapping[str, str]) -> Path:
    """The state directory for a pipeline file in the folder `start`, existing or not.

    `asked` (`--state-dir`) wins, then `FLOWD_STATE_DIR`; else it is the nearest `.flowd` in `start`
    or a folder above, up to the project's root (with `.git` or `pyproject.toml`); else a new one at
    that root, or in `start` where there is no root.
    """
    if asked:
        return Path(asked).expanduser().absolute()
    if environment.get(VARIABLE):
        return Path(environment[VARIABLE]).expanduser().absolute()
    start = start.absolute()
    root = project_root(start)
    for folder in (start, *start.parents):
        if (folder / STATE_DIR).is_dir():
            return folder / STATE_DIR
        if folder == (root or start):
            break
    return (root or start) / STATE_DIR


def project_root(start: Path) -> Path | None:
    """The nearest folder, `start` or above, that holds `.git` or `pyproject.toml`."""
    for folder in (start, *start.parents):
        if any((folder / mark).exists() for mark in _ROOT_MARKS):
            return folder
    return None


def flags_of(place: Path) -> str:
    """What a command that is typed here needs besides the run so that it finds the state directory `place`."""
    here = Path.cwd()
    if find_state_dir(None, here, os.environ) == place:
        return ""
    return f" --state-dir {shlex.quote(str(place.relative_to(here) if place.is_relative_to(here) else place))}"
