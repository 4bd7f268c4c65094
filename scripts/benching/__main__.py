"""Measure flowd beside its floors: median of the rounds, as ratios, with the goals beside them."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from arguments import positive

from benching.cases import CASES, FLOWD, LARGE, Case
from benching.journal import sync_us
from benching.measure import HOME, Measured, in_a_process, measure

TOP = 40


def main(arguments: Sequence[str] | None = None) -> int:
    """0; with --gate 1 where a goal that must be met is missed."""
    options = _parser().parse_args(arguments)
    # beside the project rather than in the system's temporary folder, which may be memory, where a sync is free
    with tempfile.TemporaryDirectory(dir=options.dir, prefix=".bench-") as name:
        folder = Path(name)
        if options.profile:
            for case, tasks in _chosen(options):
                print(f"\n{case.name} {case.title}, {tasks:,}", file=sys.stderr, flush=True)
                in_a_process(folder, TOP)(case, tasks, FLOWD)
            return 0
        busy = os.getloadavg()[0]
        if busy > 1:
            print(f"others work here too (load {busy:.1f}): ratios will spread", file=sys.stderr, flush=True)
        sync = sync_us(folder)
        measured: list[Measured] = []
        for case, tasks in _chosen(options):
            print(f"measuring {case.name} {case.title}, {tasks:,}", file=sys.stderr, flush=True)
            measured.append(measure(case, tasks, options.rounds, in_a_process(folder)))
    return _tell(measured, sync, options.json, gate=options.gate)


def _tell(measured: list[Measured], sync: float, file: Path | None, *, gate: bool) -> int:
    # not sooner: a sample's peak memory begins with its parent's, which rich would make larger
    from benching import report

    report.show(measured, sync)
    if file is not None:
        file.write_text(json.dumps(report.document(measured, sync), indent=2) + "\n", encoding="utf-8")
    return 1 if gate and report.falls_short(measured) else 0


def _chosen(options: argparse.Namespace) -> Iterator[tuple[Case, int]]:
    for name in options.case or CASES:
        case = CASES[name]
        large = (LARGE,) if options.large and name == "W1" else ()
        for tasks in (options.tasks,) if options.tasks else (*case.sizes, *large):
            yield case, tasks


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("--case", action="append", choices=list(CASES), help="only this case; may be given again")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="samples of each side (5)")
    parser.add_argument("--tasks", type=positive, metavar="N", help="another size than the case's own")
    parser.add_argument("--large", action="store_true", help=f"also the fan-out of {LARGE:,}")
    parser.add_argument("--profile", action="store_true", help="flowd's side alone, and where its time goes")
    parser.add_argument("--gate", action="store_true", help="exit 1 where a goal that must be met is missed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument(
        "--dir", type=Path, default=HOME.parent, help="measure on the disk of this folder (the project)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
