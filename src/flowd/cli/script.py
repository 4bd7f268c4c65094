"""`flowd.main(pipeline)`: a script that holds a pipeline gets the commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowd.authoring.pipeline import Pipeline

_WITH_FILE = frozenset({"run", "plan", "graph", "touch", "forget", "validate", "crashtest"})


def main(pipeline: Pipeline, argv: Sequence[str] | None = None) -> None:
    """Carry out the command that the script was called with, on `pipeline`, and exit with its code.

    `python prices.py run` and `python prices.py plan clean` take no FILE: it is `pipeline`. Without
    a command the pipeline is run.
    """
    from flowd.__main__ import main as command

    arguments = list(sys.argv[1:] if argv is None else argv) or ["run"]
    if arguments[0] in _WITH_FILE:
        arguments.insert(1, sys.argv[0] or "pipeline")
    sys.exit(command(arguments, pipeline))
