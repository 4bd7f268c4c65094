"""W6: everything is up to date: a whole process that finds out that nothing is to be done."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benching.cases import Case
from benching.goals import FLOWD, YAML
from benching.kinds import Figures, tool
from benching.kinds.commands import timed
from benching.place import prepared

BYTES = 100
STAT = """
import os
for number in range({tasks}):
    assert os.stat(f"out/{{number}}").st_mtime_ns >= os.stat(f"in/{{number}}").st_mtime_ns
"""
COPY = """
from pathlib import Path

def copy(ctx):
    ctx.outputs[0].write_bytes(ctx.inputs[0].read_bytes())
"""
PIPELINE = """
from flowd import Pipeline
from steps import copy

bench = Pipeline("bench", folder="{folder}")
for number in range({tasks}):
    bench.task(name=f"t{{number}}", inputs=[f"in/{{number}}"], outputs=[f"out/{{number}}"])(copy)
"""
NINJA = "rule cp\n  command = cp $in $out\n"


def take(_case: Case, tasks: int, side: str, place: Path, _profile: int) -> Figures:
    """Seconds of one re-run of tasks that copy a file of 100 bytes each; the first run is not timed."""
    command = _command(side)

    def prepare(folder: Path) -> None:
        make_inputs(folder, tasks)
        _write(folder, side, tasks)
        if side == "python stat":
            (folder / "out").mkdir()
            for number in range(tasks):
                os.link(folder / "in" / str(number), folder / "out" / str(number))
        else:
            timed(command, folder)

    return timed(command, prepared(place, prepare))


def make_inputs(folder: Path, tasks: int) -> None:
    """One small file for each task, in `in/`."""
    (folder / "in").mkdir()
    for number in range(tasks):
        (folder / "in" / str(number)).write_bytes(b"%0100d" % number)


def _command(side: str) -> list[str]:
    return {
        "python stat": lambda: [sys.executable, "stat_only.py"],
        "ninja": lambda: [tool("ninja"), "--quiet"],
        "make": lambda: [tool("make"), "-rs", "-j2", "all"],
        FLOWD: lambda: [tool("flowd"), "run", "pipeline.py"],
        YAML: lambda: [tool("flowd"), "run", "pipeline.yaml"],
    }[side]()


def _write(folder: Path, side: str, tasks: int) -> None:
    numbers = range(tasks)
    outputs = " ".join(f"out/{number}" for number in numbers)
    texts = {
        "python stat": {"stat_only.py": STAT.format(tasks=tasks)},
        "ninja": {"build.ninja": NINJA + "".join(f"build out/{number}: cp in/{number}\n" for number in numbers)},
        "make": {"Makefile": f"all: {outputs}\n{outputs}: out/%: in/%\n\t@mkdir -p out; cp $< $@\n"},
        FLOWD: {"steps.py": COPY, "pipeline.py": PIPELINE.format(folder=folder, tasks=tasks)},
        YAML: {
            "steps.py": COPY,
            "pipeline.yaml": "name: bench\ntasks:\n"
            + "".join(
                f'  t{number}: {{call: "steps:copy", inputs: [in/{number}], outputs: [out/{number}]}}\n'
                for number in numbers
            ),
        },
    }
    for name, text in texts[side].items():
        (folder / name).write_text(text, encoding="utf-8")
