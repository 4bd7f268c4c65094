"""Where a daemon's lines go: its own, and those of all its runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flowd.adapters.disk import FileThreads
from flowd.adapters.followers.daemon_lines import DaemonLines
from flowd.adapters.followers.log import Lines, LogFollower, Sink
from flowd.adapters.rotation import append_and_rotate
from flowd.core.settings import DaemonLog
from flowd.core.spec import Definition
from flowd.wiring.run_logs import run_log


class Outlet:
    """The daemon's own sinks, shared by its runs: stderr, and the file of its settings."""

    def __init__(self, log: DaemonLog, form: str | None = None) -> None:
        self._threads = FileThreads(1, "flowd-log")
        self._sinks = [Sink(write=_to_stderr, name="stderr", form=form or log.format, level=log.level)]
        if log.file is not None:
            write = append_and_rotate(Path(log.file), log.size, log.keep)
            file = Sink(write=write, name=log.file, form=log.format, level=log.level, threads=self._threads)
            self._sinks.append(file)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Within, what flowd says of itself in this process goes there."""
        logger, handler = logging.getLogger("flowd"), DaemonLines(self._sinks)
        before = logger.propagate, logger.level
        logger.addHandler(handler)
        logger.propagate = False
        logger.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.propagate = before[0]
            logger.setLevel(before[1])
            self._threads.close()

    def of_run(self, run_folder: Path, definition: Definition) -> LogFollower:
        """What writes the lines of a run: to its own file, here, and where its pipeline has them go."""
        return run_log(run_folder, definition, self._threads, _complain, self._sinks)


def _to_stderr(lines: Lines) -> None:
    with suppress(OSError):  # nobody reads them there: the files say the same
        sys.stderr.write("".join(f"{line}\n" for _, line in lines))
        sys.stderr.flush()


def _complain(text: str) -> None:
    logging.getLogger("flowd").error(text)
