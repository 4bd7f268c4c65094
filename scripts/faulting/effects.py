"""The tasks of a run that is killed: each tells the ledger when its body begins and when its effect has happened.

Copied beside the pipeline of every history: its functions are the tasks `call`, and as a program it is
what shell tasks run.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
FLAWS = {"flaky": 2, "late": 1}
"""How often tasks whose names begin so fail before they succeed: by an error, or by taking too long."""


def tell(sign: str, task: str, attempt: int, word: str = "-") -> None:
    """One line of the ledger, on disk when this returns."""
    line = f"{sign} {os.environ['FAULT_LIFE']} {task} {attempt} {word}\n"
    descriptor = os.open(FOLDER / "ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def effect(task: str, attempt: int) -> str:
    """Let the effect happen; the word that stands for it is the task's result."""
    word = secrets.token_hex(4)
    tell("E", task, attempt, word)
    return word


def fails(task: str, attempt: int) -> bool:
    """Whether a task fails this time; told before it does."""
    flaws = FLAWS.get(task.partition("_")[0], 0)
    rows = (FOLDER / "ledger").read_text().splitlines() if flaws else []
    if sum(row.startswith("F ") and row.split()[2] == task for row in rows) >= flaws:
        return False
    tell("F", task, attempt)
    if task.startswith("late"):
        time.sleep(600)
    return True


def plain(ctx: Any, seconds: float) -> str:
    """A task in a thread or in a process of its own."""
    tell("B", ctx.task, ctx.attempt)
    time.sleep(seconds)
    if fails(ctx.task, ctx.attempt):
        raise ConnectionError("not yet")
    return effect(ctx.task, ctx.attempt)


async def coroutine(ctx: Any, seconds: float) -> str:
    """A task on flowd's own loop."""
    tell("B", ctx.task, ctx.attempt)
    await asyncio.sleep(seconds)
    if fails(ctx.task, ctx.attempt):
        raise ConnectionError("not yet")
    return effect(ctx.task, ctx.attempt)


def main() -> int:
    """A shell task: the seconds it takes, and the file it writes."""
    task, attempt = os.environ["FLOWD_TASK"], int(os.environ["FLOWD_ATTEMPT"])
    tell("B", task, attempt)
    time.sleep(float(sys.argv[1]))
    if fails(task, attempt):
        return 1
    word = effect(task, attempt)
    Path(os.environ["FLOWD_RESULT"]).write_text(json.dumps(word))
    for name in sys.argv[2:]:
        Path(name).write_text(word)
    return 0


if __name__ == "__main__":
    sys.exit(main())
