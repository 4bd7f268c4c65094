"""Which files a daemon's pipelines are in."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from flowd.authoring.loading import discover
from flowd.core.settings import Settings


def pipeline_files(settings: Settings) -> Sequence[str]:
    """The files of the settings' globs, absolute and sorted; all that look like pipelines where there are no globs."""
    folder = Path(settings.folder)
    if not settings.pipelines:
        return [str(folder / path) for path in discover(folder)]
    found: set[str] = set()
    for pattern in settings.pipelines:
        text, _, name = pattern.partition(".py:")
        named = f"{text}.py" if name else pattern
        for path in glob.glob(str(folder / Path(named).expanduser()), recursive=True):
            if Path(path).is_file() and str(Path(path).absolute()) != settings.file:
                found.add(f"{Path(path).absolute()}:{name}" if name else str(Path(path).absolute()))
    return sorted(found)
