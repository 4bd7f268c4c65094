"""One sample in a process of its own: warm up, then time one side of one case once.

A fresh process for each sample is the fairest: no side pays for what another has imported or left
to the garbage collector, a floor does not even import flowd, and peak memory means something.
What a first run costs (imports, opening the engine, code not yet specialised) is paid by a small
warm-up run of the same shape; starting is W7's subject. The sides alternate, process by process,
within seconds, so that a drifting machine drifts for all of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benching.cases import CASES
from benching.kinds import NotHere, taker


def main() -> int:
    """Take the sample that the arguments name; its figures go to stdout as JSON."""
    name, tasks, side, place, profile = sys.argv[1:6]
    case = CASES[name]
    figures: Mapping[str, Any]
    try:
        figures = taker(case)(case, int(tasks), side, Path(place), int(profile))
    except NotHere as reason:
        figures = {"missing": str(reason)}
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
