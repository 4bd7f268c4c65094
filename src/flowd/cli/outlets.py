"""Where one foreground run is told: transcript, live rows, event lines, log lines, and who owns stdout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from flowd.adapters.disk import FileThreads
from flowd.adapters.followers.log import Lines, LogFollower, Sink, append_to, run_in_path
from flowd.cli.screen import Line, Style
from flowd.cli.streams import document_line, is_terminal, put, style
from flowd.cli.watch import EventLines, Watch
from flowd.core.errors import BadRequest
from flowd.core.shape import Shape
from flowd.core.spec import LogSpec, PipelineSpec
from flowd.ports.journal import Journal

if TYPE_CHECKING:
    from flowd.cli.live import LiveRegion


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asked for of a run's output."""

    as_json: bool = False
    events: bool = False
    log_format: str | None = None
    log_file: str | None = None
    no_input: bool = False


class Outlets:
    """The streams of one run of `spec`. stdout belongs to `--json` or `--events` where one was asked for.

    `began` is what the run began with, where that is another specification.
    """

    def __init__(self, spec: PipelineSpec, folder: Path, wishes: Wishes, began: PipelineSpec | None = None) -> None:
        owner = "--json" if wishes.as_json else "--events" if wishes.events else ""
        if owner and spec.log.console == "stdout":
            raise BadRequest(f"{owner} cannot be used here: the pipeline's log.console is stdout, which it would share")
        if wishes.as_json and wishes.events:
            raise BadRequest("--json and --events both want stdout; choose one")
        self.watch: Watch | None = None
        self.region: LiveRegion | None = None
        self.results: TextIO = sys.stdout
        self.lost: OSError | None = None  # why event lines are missing on stdout, if they are
        aside = wishes.as_json or wishes.events or spec.log.console == "stdout"
        self._transcript: TextIO = sys.stderr if aside else sys.stdout
        self._style = style(self._transcript)
        self._spec = spec
        self._began = began or spec
        self._folder = folder
        self._wishes = wishes
        self._threads = FileThreads(1, "flowd-log")
        self._errors: TextIO = sys.stderr  # as it is now: an attempt that speaks has its own
        self._log: TextIO = sys.stdout if spec.log.console == "stdout" else sys.stderr
        if is_terminal(self._transcript) and self._style.colour:
            from flowd.cli.live import LiveRegion

            self.region = LiveRegion(self._transcript, unicode=self._style.unicode, now=_now)

    @property
    def transcript(self) -> TextIO:
        """Where the transcript's lines go."""
        return self._transcript

    @property
    def is_for_a_person(self) -> bool:
        """Whether somebody reads the transcript on a terminal, and no program what is on stdout."""
        return is_terminal(self._transcript) and not (self._wishes.as_json or self._wishes.events)

    def pause(self, paused: bool) -> None:  # passed on as it is
        """Draw nothing for as long as a person is asked something."""
        if self.region is not None:
            self.region.pause(paused=paused)

    @property
    def style(self) -> Style:
        """How the transcript's stream looks."""
        return self._style

    def followers(self, journal: Journal, run: str, run_folder: Path) -> Sequence[Any]:
        """Everyone who follows the run."""
        if self.watch is not None:  # a task of the run that is shown: its own tasks are told in its log
            return (LogFollower(self._sinks(run_folder), report=self._complain),)
        self.watch = Watch(run, self._began, journal, self.write, self.region)
        log = LogFollower(self._sinks(run_folder), order=_order(self._spec), report=self._complain)
        if not self._wishes.events:
            return (log, self.watch)
        return (EventLines(self._write_result), log, self.watch)

    def look(self, journal: Journal, run: str) -> Watch:
        """The watch of a run that goes on no more."""
        if self.watch is None:
            self.watch = Watch(run, self._began, journal, self.write, None)
        return self.watch

    def close(self) -> None:
        """Take no more log lines for files; those that were taken are written."""
        self._threads.close()

    def write(self, lines: Sequence[Line]) -> None:
        """Lines of the transcript."""
        self._put(self._transcript, "\n".join(self._style.line(line) for line in lines))

    def _put(self, stream: TextIO, text: str, *, is_json: bool = False) -> None:
        if self.region is not None and is_terminal(stream):
            self.region.write(text)
        else:
            with suppress(OSError) if stream is not self.results else nullcontext():  # stderr: as `tell` does
                put(stream, f"{text}\n", is_json=is_json)
                stream.flush()

    def write_document(self, document: object) -> None:
        """The document of the run, for `--json`."""
        put(self.results, document_line(document), is_json=True)

    def _write_result(self, text: str) -> None:
        try:
            put(self.results, text, is_json=True)
            self.results.flush()
        except OSError as error:
            self.lost = error
            raise

    def _log_lines(self, lines: Lines) -> None:
        self._put(self._log, "\n".join(line for _, line in lines), is_json=self._log_form == "json")

    @property
    def _log_form(self) -> str:
        return self._wishes.log_format or self._spec.log.format or "console"

    def _complain(self, text: str) -> None:
        self._put(self._errors, text)

    def _sinks(self, run_folder: Path) -> list[Sink]:
        spec, wishes = self._spec.log, self._wishes
        form = self._log_form
        asked = wishes.log_format is not None or spec != LogSpec()
        console = Sink(
            write=self._log_lines,
            name=spec.console,
            form=form,
            level=spec.level,
            events=asked or not is_terminal(self._log),  # on a terminal the transcript says the rest
            colour=style(self._log).colour,
        )
        own = run_folder / "run.log"
        threads = self._threads
        sinks = [Sink(write=append_to(str(own), private=True), name=str(own), level="debug", threads=threads), console]
        named = wishes.log_file or (str(self._folder / spec.file) if spec.file is not None else None)
        if named is not None:
            path = run_in_path(str(Path(named).absolute()), run_folder.name)
            sinks.append(Sink(write=append_to(path), name=path, form=form, level=spec.level, threads=threads))
        return sinks


def _order(spec: PipelineSpec) -> list[str]:
    shape = Shape(spec.tasks)
    return [spec.tasks[number].name for number in shape.order()]


def _now() -> datetime:
    return datetime.now(UTC)
