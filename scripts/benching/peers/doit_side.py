"""doit: tasks that know what is up to date; its state is written at the end of a run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from doit.cmd_base import ModuleTaskLoader
from doit.doit_cmd import DoitMain

from benching.clock import Clock
from benching.graphs import Graph
from benching.kinds.commands import COMMAND, timed
from benching.kinds.rerun import make_inputs
from benching.peers.telling import Asked, asked, tell, tell_figures

DODO = """
DOIT_CONFIG = {{"verbosity": 0, "reporter": "zero"}}

def copy(number):
    with open(f"in/{{number}}", "rb") as source, open(f"out/{{number}}", "wb") as target:
        target.write(source.read())

def task_copy():
    for number in range({tasks}):
        yield {{"name": str(number), "file_dep": [f"in/{{number}}"], "targets": [f"out/{{number}}"],
               "actions": [(copy, [number])]}}
"""


def nothing() -> None:
    """What a measured task does."""


def run(graph: Graph, what: Asked, name: str) -> None:
    """The graph in this process, state in the folder."""

    def task_t() -> Iterator[dict[str, Any]]:
        for number, needs in enumerate(graph.needs):
            yield {"name": str(number), "actions": [nothing], "task_dep": [f"t:{need}" for need in needs]}

    config = {"dep_file": str(what.place / name), "reporter": "zero", "verbosity": 0}
    code = DoitMain(ModuleTaskLoader({"task_t": task_t, "DOIT_CONFIG": config})).run(["run"])
    if code:
        raise RuntimeError(f"doit ended with {code}")


def main() -> None:
    """Warm up, then time; W5 and W6 are whole processes."""
    what = asked()
    command = [sys.executable, "-m", "doit"]
    if what.case.name == "W5":
        words = (
            f'    for number in range({what.tasks}):\n        yield {{"name": str(number), "actions": [["{COMMAND}"]]}}'
        )
        (what.place / "dodo.py").write_text(f"def task_t():\n{words}\n", encoding="utf-8")
        tell_figures(timed([*command, "-n", "2"], what.place))
        return
    if what.case.name == "W6":
        if not (what.place / "dodo.py").exists():
            make_inputs(what.place, what.tasks)
            (what.place / "out").mkdir()
            (what.place / "dodo.py").write_text(DODO.format(tasks=what.tasks), encoding="utf-8")
            timed(command, what.place)
        tell_figures(timed(command, what.place))
        return
    run(what.small, what, "small")
    graph = what.graph
    clock = Clock()
    run(graph, what, "whole")
    tell(clock)


if __name__ == "__main__":
    main()
