"""Run families of faults, one after the other; exit 1 where any promise was broken."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from arguments import positive

from faulting.families import FAMILIES
from faulting.family import Family, Forbidden, Order, Report

HOME = Path(__file__).resolve().parent.parent.parent
KEPT = ".faults-kept"
TOLD = 20
"""Broken promises of a family that are told: one cause breaks many."""


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where every promise was kept, or a family was skipped with its reason; 1 where one was broken."""
    options = _parser().parse_args(arguments)
    chosen = [family for family in FAMILIES if not options.family or family.name in options.family]
    if options.list:
        for family in chosen:
            sizes = f"{family.per_commit:>7} / {family.per_release:<7} {family.counted:<9}"
            print(f"{family.name:<12}{sizes} {family.promise}")
        return 0
    codes = [_run(family, options) for family in chosen]
    return max(codes)


def _run(family: Family, options: argparse.Namespace) -> int:
    size = options.size or (family.per_commit if options.per_commit else family.per_release)
    kept = options.dir / KEPT / family.name
    shutil.rmtree(kept, ignore_errors=True)
    report = Report()
    began = time.monotonic()
    # beside the project rather than in the system's temporary folder, which may be memory, where a sync is free
    with tempfile.TemporaryDirectory(dir=options.dir, prefix=".faults-") as name:
        order = Order(size=size, seed=options.seed, folder=Path(name), kept=kept, jobs=options.jobs)
        try:
            family.run(order, report)
        except Forbidden as forbidden:
            print(f"{family.name:<12}skipped: {forbidden}", flush=True)
            return 0
        except Exception as error:  # noqa: BLE001  # the other families run all the same
            print(f"{family.name:<12}FAILED: {type(error).__name__}: {error}", flush=True)
            return 1
    _tell(family, report, time.monotonic() - began)
    return 1 if report.violations else 0


def _tell(family: Family, report: Report, seconds: float) -> None:
    done = ", ".join(f"{times:,} {what}" for what, times in report.done.items())
    found = f"{len(report.violations)} promises broken" if report.violations else "nothing"
    print(f"{family.name:<12}{done}; found {found} in {seconds:.1f}s", flush=True)
    for part, reason in sorted(report.skipped.items()):
        print(f"  skipped    {part}: {reason}")
    for violation in report.violations[:TOLD]:
        print(f"  BROKEN     {violation.what}")
        print(f"             again: scripts/faults --family {family.name} --size 1 --seed {violation.seed}")
        if violation.kept is not None:
            print(f"             kept:  {violation.kept}")
    if len(report.violations) > TOLD:
        print(f"  and {len(report.violations) - TOLD} more")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__, allow_abbrev=False)
    parser.add_argument("--per-commit", action="store_true", help="the small sizes (else those of a release)")
    parser.add_argument(
        "--family",
        action="append",
        choices=[family.name for family in FAMILIES],
        help="only this family; may be given again",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="what the first trial is drawn from (1)")
    parser.add_argument("--size", type=positive, metavar="N", help="another size than the family's own")
    parser.add_argument(
        "--jobs",
        type=positive,
        default=2 * (os.cpu_count() or 1),
        metavar="N",
        help="trials at a time (two for each core)",
    )
    parser.add_argument("--list", action="store_true", help="say which families there are, and their two sizes")
    parser.add_argument("--dir", type=Path, default=HOME, help="work on the disk of this folder (the project)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
