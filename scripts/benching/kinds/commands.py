"""W5: commands that do nothing, two at a time: what beginning and ending a process costs."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from benching.cases import Case
from benching.clock import Clock
from benching.goals import FLOWD, RUN, TEXT
from benching.kinds import Figures, tool
from benching.place import emptied, prepared

if TYPE_CHECKING:
    from flowd import Pipeline

COMMAND = "true"
WARM_UP = 4


def take(case: Case, tasks: int, side: str, place: Path, _profile: int) -> Figures:
    """Seconds of all commands: in an open engine, or as a whole process of `flowd run`, make, ninja or xargs."""
    if side in {FLOWD, TEXT}:
        command: str | list[str] = [COMMAND] if side == FLOWD else COMMAND
        return asyncio.run(_embedded(tasks, command, case.width, emptied(place)))
    if side == RUN:
        place = prepared(place, lambda folder: _write_pipeline(folder, tasks))
        flowd = tool("flowd")
        return timed([flowd, "run", "pipeline.yaml", "--max-concurrency", "2"], place)
    if side == "xargs -P2":
        words = "\n".join("x" * tasks).encode()
        return timed([tool("xargs"), "-P2", "-n1", COMMAND], emptied(place), words)
    if side == "make -j2":
        lines = [f"t{number}:\n\t@{COMMAND}\n" for number in range(tasks)]
        text = f".PHONY: all {_names(tasks)}\nall: {_names(tasks)}\n" + "".join(lines)
        (emptied(place) / "Makefile").write_text(text, encoding="utf-8")
        return timed([tool("make"), "-s", "-j2", "all"], place)
    rules = [f"build t{number}: x\n" for number in range(tasks)]
    (emptied(place) / "build.ninja").write_text(f"rule x\n  command = {COMMAND}\n" + "".join(rules), encoding="utf-8")
    return timed([tool("ninja"), "-j2", "--quiet"], place)


def timed(command: list[str], folder: Path, given: bytes = b"") -> dict[str, float]:
    """The time that a command takes in `folder`; RuntimeError where it fails, with what it said."""
    clock = Clock()
    done = subprocess.run(command, cwd=folder, input=given, capture_output=True, check=False)
    taken = clock.read()
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {said}")
    return taken


async def _embedded(tasks: int, command: str | list[str], width: int | None, folder: Path) -> Figures:
    from benching import ours
    from flowd import Pipeline

    def commands(number: int) -> Pipeline:
        made = Pipeline("bench", folder=folder)
        for task in range(number):
            made.shell(f"t{task}", command, retry=ours.RETRY)
        made.definition()
        return made

    async with ours.engine(folder, [f"t{number}" for number in range(tasks)], width) as engine:
        await ours.timed_run(engine, commands(WARM_UP))
        return await ours.timed_run(engine, commands(tasks))


def _write_pipeline(folder: Path, tasks: int) -> None:
    lines = [f"  t{number}: {{run: [{COMMAND!r}]}}\n" for number in range(tasks)]
    (folder / "pipeline.yaml").write_text("name: bench\ntasks:\n" + "".join(lines), encoding="utf-8")


def _names(tasks: int) -> str:
    return " ".join(f"t{number}" for number in range(tasks))
