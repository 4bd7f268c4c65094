"""`flowd logs`: what a run's tasks wrote, attempt by attempt, also while they write it."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import click

from flowd.adapters.journal.file import FileJournal
from flowd.cli.check import refuse_unknown
from flowd.cli.finding import found_run, look, place_of
from flowd.cli.options import JSON, RUN, STATE_DIR
from flowd.cli.streams import is_terminal, put, say_document, tell
from flowd.core.errors import BadRequest
from flowd.core.fanout import base_name
from flowd.core.items import name_of
from flowd.core.printable import printable
from flowd.core.run import RunState
from flowd.ports.executor import log_path
from flowd.wiring.reading import reading

PERIOD = 0.2
"""Seconds between two looks at files that are followed."""

_HARMLESS = re.compile(r"(\r?\n|\t|\x1b\[[0-9;:]*m)")


class AttemptFile:
    """One attempt's file, read from where it was left off."""

    def __init__(self, task: str, attempt: int, path: Path) -> None:
        self.task = task
        self.attempt = attempt
        self.path = path
        self._offset = 0

    def more(self, *, whole_lines: bool) -> str:
        """What was written since the last call; with `whole_lines` an unfinished line waits for its end."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return ""
        if whole_lines:
            data = data[: data.rfind(b"\n") + 1]
        self._offset += len(data)
        return data.decode("utf-8", "backslashreplace")


@click.command()
@RUN
@click.argument("task", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="This attempt alone.")
@STATE_DIR
@JSON
def logs(
    run: str | None, task: str | None, attempt: int | None, state_dir: str | None, *, follow: bool, as_json: bool
) -> int:
    """Print what a run's tasks wrote (RUN: the newest, where left out; TASK: this one alone)."""
    with reading(place_of(state_dir)) as journal:
        name = found_run(journal, run)
        found = anyio.run(look, journal, name)
        if task is not None:
            refuse_unknown((task,), found.state.shape.index, f"run {name}")
        if attempt is not None and not follow:
            _refuse_unbegun(found.state, task, attempt)
        reader = Reader(found.folder, task, attempt)
        if as_json:
            rows = [
                {"task": file.task, "attempt": file.attempt, "path": str(file.path), "text": text}
                for file in reader.files(found.state)
                if (text := file.more(whole_lines=False))
            ]
            say_document({"run": name, "logs": rows})
        elif follow:
            anyio.run(_follow, journal, name, reader)
        else:
            reader.print_all(found.state, whole_lines=False)
            if not reader.printed:
                tell(f"{task or f'run {name}'} has written nothing")
    return 0


def _refuse_unbegun(state: RunState, task: str | None, attempt: int) -> None:
    """BadRequest for an attempt that there never was."""
    most = max((one.attempt for one in (state.tasks if task is None else [state.task(task)])), default=0)
    if attempt > most:
        where = f"task {task} of run {state.id}" if task else f"run {state.id}"
        newest = f"the newest is {most}" if most else "none has begun"
        raise BadRequest(f"{where} has no attempt {attempt}; {newest}")


async def _follow(journal: FileJournal, run: str, reader: Reader) -> None:
    while True:
        owned = journal.is_owned(run) is not None
        state = (await look(journal, run)).state
        reader.print_all(state, whole_lines=owned)
        if not owned:
            return  # this look came after the last owner had gone: there is no more
        await anyio.sleep(PERIOD)


def tame(text: str) -> str:
    """What a task wrote as a terminal may have it: its lines, tabs and colours; nothing else acts."""
    return "".join(part if number % 2 else printable(part) for number, part in enumerate(_HARMLESS.split(text)))


class Reader:
    """Prints the files of a run's attempts, each piece under the name of its attempt."""

    def __init__(self, folder: Path, task: str | None, attempt: int | None) -> None:
        self.printed = False
        self._folder = folder
        self._task = task
        self._attempt = attempt
        self._files: dict[tuple[str, int], AttemptFile] = {}
        self._last: AttemptFile | None = None

    def files(self, state: RunState) -> Sequence[AttemptFile]:
        """The files that are asked for, in the order in which the attempts began."""
        begun = []
        for number, task in enumerate(state.tasks):
            if not task.attempts:
                continue
            name = name_of(state, number)
            if self._task in {None, name, base_name(name)}:
                begun += [(attempt.started_at, name, attempt.n) for attempt in task.attempts]
        for _, name, n in sorted(begun):
            if self._attempt in {None, n} and (name, n) not in self._files:
                self._files[name, n] = AttemptFile(name, n, log_path(self._folder, name, n))
        return list(self._files.values())

    def print_all(self, state: RunState, *, whole_lines: bool) -> None:
        """Print what is new."""
        for file in self.files(state):
            text = file.more(whole_lines=whole_lines)
            if not text:
                continue
            if file is not self._last and len(self._files) > 1:
                gap = "\n" if self.printed else ""
                put(sys.stdout, f"{gap}==> {file.task}, attempt {file.attempt} <==\n")
            text = text if text.endswith("\n") else f"{text}\n"
            put(sys.stdout, tame(text) if is_terminal(sys.stdout) else text)
            self._last, self.printed = file, True
        sys.stdout.flush()
