"""From what a person names on the command line to a pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowd.core.errors import BadRequest

if TYPE_CHECKING:
    from flowd.authoring.loading import ShelfOf
    from flowd.authoring.pipeline import Pipeline

DEFAULT_FILE = "pipeline.yaml"

FILE: Callable[[Any], Any] = click.argument("file", required=False)
"""The pipeline: a YAML file, `file.py[:name]` or `module:name`; `pipeline.yaml` where it is left out."""


def load(file: str | None, shelf_of: ShelfOf | None = None) -> Pipeline:
    """The pipeline that is meant, `pipeline.yaml` where none is named.

    With a shelf, a file that was checked before is not parsed again. Raises BadPipeline, and
    BadRequest where none can be meant.
    """
    from flowd.authoring import loading

    given: Pipeline | None = click.get_current_context().find_root().obj
    if given is not None:
        return given  # a script that runs its own pipeline
    return loading.load(named(file), shelf_of)


def named(file: str | None) -> str:
    """What names the pipeline that is meant. BadRequest where none can be."""
    return file if file is not None else _default()


def _default() -> str:
    if Path(DEFAULT_FILE).is_file():
        return DEFAULT_FILE
    from flowd.authoring.loading import discover

    found = [str(path) for path in discover(Path.cwd())]
    if not found:
        raise BadRequest(f"there is no {DEFAULT_FILE} here, and no other pipeline below; name one: flowd run FILE")
    listed = "".join(f"\n  flowd run {path}" for path in found[:20])
    raise BadRequest(f"there is no {DEFAULT_FILE} here; these pipelines are:{listed}")
