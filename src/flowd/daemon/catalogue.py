"""The pipelines that a daemon knows: found, loaded, and loaded anew where anything that they are made of has changed.

House rules of this room. A file that cannot be loaded keeps its last good pipeline, and says so. Files
are looked at by one `stat` each; nothing is read that has not changed. Loading runs users' modules, and
is kept off the loop.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import anyio.to_thread
import msgspec

from flowd.authoring.findings import did_you_mean, listed
from flowd.authoring.importing import forget, imported_files
from flowd.authoring.pipeline import Pipeline
from flowd.core.errors import BadPipeline, BadRequest, FlowdError, Problem
from flowd.core.firing import source_key

_TAKEN: Final = "duplicate_name"

Stamp = tuple[int, int, int] | None
"""Size, time and inode of a file; None where it is not there."""


class Entry(msgspec.Struct, kw_only=True, eq=False):
    """One file: its last good pipeline, if it ever had one, and what is wrong with it now.

    `stamps` are of all files that it was made of when it was last looked into.
    """

    file: str
    pipeline: Pipeline | None = None
    problems: tuple[Problem, ...] = ()
    stamps: Mapping[Path, Stamp] = {}
    loaded_at: datetime | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a look has found: `what` is loaded, changed, refused or gone."""

    what: str
    file: str
    name: str = ""
    problems: tuple[Problem, ...] = ()


class Catalogue:
    """The pipelines of the files that `find` names; `load` makes a pipeline of a name."""

    def __init__(self, find: Callable[[], Sequence[str]], load: Callable[[str], Pipeline]) -> None:
        self._find = find
        self._load = load
        self._entries: dict[str, Entry] = {}
        self._by_name: dict[str, Pipeline] = {}

    async def look(self, now: datetime) -> list[Change]:
        """Find what is new, changed or gone since the last look."""
        return await anyio.to_thread.run_sync(self._look, now)

    def names(self) -> list[str]:
        """The pipelines that can be run, by name."""
        return sorted(self._by_name)

    def pipelines(self) -> Mapping[str, Pipeline]:
        """The pipelines that can be run."""
        return self._by_name

    def get(self, name: str) -> Pipeline:
        """The pipeline of this name. BadRequest with what comes close."""
        found = self._by_name.get(name)
        if found is None:
            known = listed(self.names()) or "none"
            raise BadRequest(f"there is no pipeline {name}; {did_you_mean(name, self._by_name, f'there is {known}')}")
        return found

    def documents(self) -> list[dict[str, Any]]:
        """Every file as JSON: its pipeline, when it was loaded, and what is wrong with it."""
        return [
            {
                "name": entry.pipeline.name if entry.pipeline is not None else None,
                "description": entry.pipeline.definition().spec.description if entry.pipeline is not None else None,
                "file": entry.file,
                "loaded": entry.loaded_at,
                "problems": msgspec.to_builtins(entry.problems),
            }
            for entry in sorted(self._entries.values(), key=lambda entry: entry.file)
        ]

    def _look(self, now: datetime) -> list[Change]:
        found = self._find()
        changes = [self._gone(file) for file in self._entries.keys() - set(found)]
        stale = [file for file in found if self._is_stale(file) or (changes and self._had_to_stand_back(file))]
        for folder in {_folder(file) for file in stale if self._code_changed(file)}:
            forget(folder)
            stale += [file for file in found if _folder(file) == folder and file not in stale]
        changes += [self._take(file, now) for file in stale]
        self._by_name = {
            entry.pipeline.name: entry.pipeline for entry in self._entries.values() if entry.pipeline is not None
        }
        return changes

    def _gone(self, file: str) -> Change:
        entry = self._entries.pop(file)
        return Change(what="gone", file=file, name=entry.pipeline.name if entry.pipeline is not None else "")

    def _is_stale(self, file: str) -> bool:
        entry = self._entries.get(file)
        return entry is None or any(_stamp(path) != stamp for path, stamp in entry.stamps.items())

    def _had_to_stand_back(self, file: str) -> bool:
        """Whether another file had its pipeline's name, which may be free by now."""
        entry = self._entries.get(file)
        return entry is not None and any(problem.code == _TAKEN for problem in entry.problems)

    def _code_changed(self, file: str) -> bool:
        entry = self._entries.get(file)
        stamps = {} if entry is None else entry.stamps
        return any(path.suffix == ".py" and _stamp(path) != stamp for path, stamp in stamps.items())

    def _take(self, file: str, now: datetime) -> Change:
        entry = self._entries.setdefault(file, Entry(file=file))
        before = stamps_of([Path(file.partition(":")[0])])  # a change while it is read is found by the next look
        problems, loaded = self._loaded(file)
        entry.problems = problems
        if loaded is None:
            entry.stamps = before | {path: _stamp(path) for path in entry.stamps}
            if entry.pipeline is None:  # what it imports may be what is wrong
                entry.stamps = {**entry.stamps, **stamps_of(_folder(file).glob("*.py"))}
            name = entry.pipeline.name if entry.pipeline is not None else ""
            return Change(what="refused", file=file, name=name, problems=problems)
        what = "loaded" if entry.pipeline is None else "changed"
        entry.pipeline, entry.loaded_at = loaded, now
        entry.stamps = {**stamps_of(sources(loaded)), **before}
        return Change(what=what, file=file, name=loaded.name)

    def _loaded(self, file: str) -> tuple[tuple[Problem, ...], Pipeline | None]:
        try:
            pipeline = self._load(file)
            pipeline.definition()
        except BadPipeline as refused:
            return refused.problems, None
        except FlowdError as refused:
            return (Problem(file=file, code="cannot_load", message=str(refused)),), None
        own = _schedules(pipeline)
        for other in self._entries.values():
            if other.file == file or other.pipeline is None:
                continue
            if other.pipeline.name == pipeline.name:
                message = f"there is a pipeline {pipeline.name} in {other.file} already"
                hint = "give it another name: runs and schedules are found by it"
                return (Problem(file=file, key="name", code=_TAKEN, message=message, hint=hint),), None
            if same := own & _schedules(other.pipeline):
                message = f"a schedule of {other.file} is called {min(same)} already, with its pipeline's name"
                hint = "give this one another `name`, or its pipeline one: schedules are paused and resumed by it"
                return (Problem(file=file, key="schedule", code=_TAKEN, message=message, hint=hint),), None
        return (), pipeline


def _schedules(pipeline: Pipeline) -> set[str]:
    """What its schedules are called: `a.b` may be one of pipeline a, and all that pipeline a.b has."""
    spec = pipeline.definition().spec
    return {source_key(spec.name, schedule.name) for schedule in spec.schedule}


def sources(pipeline: Pipeline) -> list[Path]:
    """The files that a pipeline is made of: its own, those that it includes, its modules, and those of its tasks."""
    definition = pipeline.definition()
    folder = Path(definition.folder)
    own = [Path(pipeline.file), *(folder / name for name in pipeline.includes), *imported_files(folder)]
    return [*own, *(path for inner in pipeline.inner.values() for path in sources(inner))]


def stamps_of(paths: Iterable[Path]) -> dict[Path, Stamp]:
    """How files are now."""
    return {path.absolute(): _stamp(path) for path in paths}


def _stamp(path: Path) -> Stamp:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _folder(file: str) -> Path:
    return Path(file.partition(":")[0]).absolute().parent
