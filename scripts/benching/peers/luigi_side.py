"""Luigi with its local scheduler: a task is done where its target is there."""

from __future__ import annotations

import logging
import sys
from typing import Any

import luigi

from benching.clock import Clock
from benching.graphs import Graph
from benching.kinds.commands import timed
from benching.kinds.rerun import make_inputs
from benching.peers.telling import asked, tell, tell_figures

COPIES = """
import logging, luigi
logging.disable(logging.CRITICAL)

class Copy(luigi.Task):
    number = luigi.IntParameter()

    def output(self):
        return luigi.LocalTarget(f"out/{{self.number}}")

    def run(self):
        with open(f"in/{{self.number}}") as source, self.output().open("w") as target:
            target.write(source.read())

assert luigi.build([Copy(number) for number in range({tasks})], local_scheduler=True, log_level="CRITICAL")
"""


class Nothing(luigi.Task):  # type: ignore[misc, unused-ignore]  # untyped
    """A task that leaves a mark in memory."""

    number = luigi.IntParameter()
    name = luigi.Parameter()
    graphs: dict[str, Graph] = {}
    done: set[tuple[str, int]] = set()

    def requires(self) -> list[Any]:
        """The tasks that it needs."""
        return [Nothing(need, self.name) for need in self.graphs[self.name].needs[self.number]]

    def complete(self) -> bool:
        """Whether it has run."""
        return (self.name, self.number) in self.done

    def run(self) -> None:
        """Run."""
        self.done.add((self.name, self.number))


def run(graph: Graph, name: str) -> None:
    """The graph in this process."""
    Nothing.graphs[name] = graph
    tasks = [Nothing(number, name) for number in range(len(graph))]
    if not luigi.build(tasks, local_scheduler=True, log_level="CRITICAL"):
        raise RuntimeError("luigi did not succeed")


def main() -> None:
    """Warm up, then time; W6 is a whole process."""
    what = asked()
    if what.case.name == "W6":
        command = [sys.executable, "copies.py"]
        if not (what.place / "copies.py").exists():
            make_inputs(what.place, what.tasks)
            (what.place / "copies.py").write_text(COPIES.format(tasks=what.tasks), encoding="utf-8")
            timed(command, what.place)
        tell_figures(timed(command, what.place))
        return
    logging.disable(logging.CRITICAL)
    run(what.small, "small")
    graph = what.graph
    clock = Clock()
    run(graph, "whole")
    tell(clock)


if __name__ == "__main__":
    sys.setrecursionlimit(100_000)  # it walks a chain by recursion
    main()
