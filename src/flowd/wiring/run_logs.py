"""Where the log lines of a run go that no terminal shows: to its own file, and where its pipeline has them go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from flowd.adapters.disk import FileThreads
from flowd.adapters.followers.log import LogFollower, Sink, append_to, run_in_path
from flowd.core.shape import Shape
from flowd.core.spec import Definition


def run_log(
    run_folder: Path,
    definition: Definition,
    threads: FileThreads,
    report: Callable[[str], None],
    also: Sequence[Sink] = (),
) -> LogFollower:
    """What writes the lines of a run, by these threads; `also` are sinks besides, `report` hears of what fails."""
    own, log = run_folder / "run.log", definition.spec.log
    sinks = [Sink(write=append_to(str(own), private=True), name=str(own), level="debug", threads=threads), *also]
    if log.file is not None:
        path = run_in_path(str(Path(definition.folder, log.file)), run_folder.name)
        form, level = log.format or "console", log.level
        sinks.append(Sink(write=append_to(path), name=path, form=form, level=level, threads=threads))
    order = [definition.spec.tasks[number].name for number in Shape(definition.spec.tasks).order()]
    return LogFollower(sinks, order=order, report=report)
