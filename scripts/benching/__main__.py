"""Measure flowd beside its floors and peers: medians of the rounds, as ratios, with the goals beside them."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from arguments import positive

from benching import peers
from benching.cases import CASES, Case
from benching.goals import FLOWD
from benching.journal import sync_us
from benching.measure import HOME, Measured, Unable, in_a_process, measure

TOP = 40
QUICK_ROUNDS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """0; with --strict 1 where a goal that must be met is missed; 2 where a sample could not be taken."""
    options = _parser().parse_args(arguments)
    # beside the project rather than in the system's temporary folder, which may be memory, where a sync is free
    with tempfile.TemporaryDirectory(dir=options.dir, prefix=".bench-") as name:
        folder = Path(name)
        if options.profile:
            for case, tasks in _chosen(options):
                if case.kind == "graph":
                    _say(f"\n{case.name} {case.title}, {tasks:,}")
                    in_a_process(folder, profile=TOP)(case, tasks, FLOWD)
            return 0
        measured, sync, whole = _measure(options, folder)
    # not sooner: a sample's peak memory begins with its parent's, which rich would make larger
    from benching import report

    report.show(measured, sync)
    if options.json is not None:
        options.json.write_text(json.dumps(report.document(measured, sync), indent=2) + "\n", encoding="utf-8")
    if not whole:
        return 2
    return 1 if options.strict and report.falls_short(measured) else 0


def _measure(options: argparse.Namespace, folder: Path) -> tuple[list[Measured], float, bool]:
    """What could be measured, what a sync costs, and whether all could be."""
    pythons, unable = _peers(options)
    busy = os.getloadavg()[0]
    if busy > 1:
        _say(f"others work here too (load {busy:.1f}): ratios will spread")
    sync = sync_us(folder)
    take = in_a_process(folder, pythons)
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else 5)
    measured: list[Measured] = []
    whole = True
    for case, tasks in _chosen(options):
        _say(f"measuring {case.name} {case.title}, {tasks:,}")
        beside = peers.beside(case.name, tasks, [*pythons, *unable], rounds)

        def taking(case: Case, tasks: int, side: str) -> Mapping[str, object]:
            return {"missing": unable[side]} if side in unable else take(case, tasks, side)

        try:
            measured.append(measure(case, tasks, case.rounds_at(tasks, rounds), taking, beside))
        except Unable as problem:  # what the other cases found is told all the same
            whole = False
            _say(f"scripts/bench: {problem}")
    return measured, sync, whole


def _peers(options: argparse.Namespace) -> tuple[dict[str, Path], dict[str, str]]:
    """The Pythons of the peers that are asked for, and why others have none."""
    pythons, unable = {}, {}
    for name in options.peer or (list(peers.PEERS) if options.peers else []):
        try:
            pythons[name] = peers.python_for(name)
        except peers.CannotPrepare as problem:
            unable[name] = f"it cannot be installed: {problem}"
            _say(f"{name} {unable[name]}")
    return pythons, unable


def _chosen(options: argparse.Namespace) -> Iterator[tuple[Case, int]]:
    for name in options.case or CASES:
        case = CASES[name]
        sizes = (case.quick,) if options.quick else (*case.sizes, *(case.large if options.large else ()))
        another = case.sized(options.tasks)
        for tasks in sizes if another is None else (another,):
            yield case, tasks


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _case(text: str) -> str:
    if text not in CASES:
        raise argparse.ArgumentTypeError(f"{text} is no case; write one of {', '.join(CASES)}")
    return text


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {case.name:<4} {case.title}: {_sizes(case)}" for case in CASES.values()]
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        epilog="\n".join(["cases, with their sizes (those of --large in brackets):", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("case", nargs="*", type=_case, metavar="CASE", help="only these cases (all)")
    parser.add_argument(
        "--quick", action="store_true", help=f"small sizes and {QUICK_ROUNDS} rounds: an impression, no verdict"
    )
    parser.add_argument("--large", action="store_true", help="also the sizes that take minutes a sample")
    parser.add_argument("--peers", action="store_true", help=f"also other programs: {', '.join(peers.PEERS)}")
    parser.add_argument("--peer", action="append", choices=list(peers.PEERS), help="only this one; may be given again")
    parser.add_argument("--rounds", type=positive, metavar="N", help="samples of each side (5; fewer of what is long)")
    parser.add_argument("--tasks", type=positive, metavar="N", help="another size than the case's own")
    parser.add_argument("--strict", action="store_true", help="exit 1 where a goal that must be met is missed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there too, of each sample")
    parser.add_argument(
        "--profile", action="store_true", help="flowd's side of W1 to W4 and W9, and where it takes time"
    )
    parser.add_argument("--python", metavar="X.Y", help="the Python to measure with (that of scripts/bench)")
    parser.add_argument(
        "--dir", type=Path, default=HOME.parent, help="measure on the disk of this folder (the project)"
    )
    return parser


def _sizes(case: Case) -> str:
    return ", ".join([*(f"{size:,}" for size in case.sizes), *(f"[{size:,}]" for size in case.large)])


if __name__ == "__main__":
    sys.exit(main())
