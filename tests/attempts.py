"""What tests of executors share: attempts to carry out, a channel that remembers, a look at who lives."""

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from flowd.core.events import Ending
from flowd.core.spec import Call, Run, TaskSpec
from flowd.ports.executor import Work


class Recording:
    """A channel that keeps everything it is told."""

    def __init__(self) -> None:
        self.logs: list[tuple[str, str, dict[str, Any]]] = []
        self.metrics: list[tuple[str, float]] = []
        self.steps: list[tuple[float, float | None]] = []
        self.ending: Ending | None = None

    def log(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        self.logs.append((level, event, dict(fields)))

    def metric(self, name: str, value: float) -> None:
        self.metrics.append((name, value))

    def progress(self, done: float, total: float | None) -> None:
        self.steps.append((done, total))

    def ended(self, ending: Ending) -> None:
        self.ending = ending


def command_work(folder: Path, *argv: str, **fields: Any) -> Work:
    """An attempt that runs `argv`."""
    task = TaskSpec(name="task", action=Run(argv=argv), executor="shell")
    return _work(folder, task, argv=argv, **fields)


def call_work(folder: Path, function: Callable[..., Any] | str, executor: str, **fields: Any) -> Work:
    """An attempt that calls `function`, or the one of that name in the folder's module `steps`."""
    if isinstance(function, str):
        task = TaskSpec(name="task", action=Call(module="steps", function=function), executor=executor)
        return _work(folder, task, **fields)
    action = Call(module=function.__module__, function=function.__qualname__)
    return _work(folder, TaskSpec(name="task", action=action, executor=executor), function=function, **fields)


def _work(folder: Path, task: TaskSpec, *, grace: float = 5.0, **fields: Any) -> Work:
    return Work(
        run_id="r1",
        task=task,
        attempt=fields.pop("attempt", 1),
        folder=folder,
        cwd=fields.pop("cwd", folder),
        run_folder=folder,
        grace=timedelta(seconds=grace),
        **fields,
    )


def living(token: str) -> list[str]:
    """The command lines of all processes that mention `token`."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if token in line:
            found.append(line)
    return found
