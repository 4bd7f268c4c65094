"""`flowd doctor`: the words in which a state directory's health is told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import click

from flowd.cli.finding import place_of
from flowd.cli.options import JSON, STATE_DIR
from flowd.cli.screen import Line
from flowd.cli.state_dir import flags_of
from flowd.cli.streams import say, say_document, style_of
from flowd.wiring.doctor.examination import examine
from flowd.wiring.doctor.findings import RANK, Finding, Report

_MARKS = {None: ("✓", "good"), "note": ("·", "quiet"), "warning": ("!", "warn"), "error": ("✗", "bad")}
_WIDTH = 12


@click.command()
@click.option("--repair", is_flag=True, help="Make the repairs that are safe; runs that somebody holds are left alone.")
@STATE_DIR
@JSON
def doctor(state_dir: str | None, *, repair: bool, as_json: bool) -> int:
    """Look the state directory over, and say what is wrong and what to do about it.

    Nothing is changed without --repair, and what is damaged is never changed. Notes and warnings
    end with exit code 0; 5 says that state is damaged, 4 that its storage is failing.
    """
    place = place_of(state_dir)
    report = examine(place, datetime.now(UTC), flags=flags_of(place), repair=repair)
    if as_json:
        say_document(report.document())
    else:
        style = style_of("stdout")
        for line in report_lines(report, flags_of(place)):
            say(style.line(line))
    return report.exit_code


def report_lines(report: Report, flags: str = "") -> Iterator[Line]:
    """A line for each check, then each finding with its fix, the gravest first, then what to type next."""
    yield Line(str(report.state_dir))
    for checked in report.checks:
        mark, mood = _MARKS[checked.worst]
        yield Line(f"  {mark} {checked.name:<{_WIDTH}} {checked.detail}".rstrip(), mood)
    for finding in sorted(report.findings, key=lambda finding: -RANK[finding.severity]):
        yield Line("")
        yield from _finding_lines(finding)
    yield Line("")
    yield from _closing(report, flags)


def _finding_lines(finding: Finding) -> Iterator[Line]:
    mark, mood = _MARKS[None if finding.repaired else finding.severity]
    yield Line(f"  {mark} {finding.sentence} [{finding.code}]", mood)
    if finding.file is not None:
        place = f", offset {finding.offset}" if finding.offset is not None else ""
        yield Line(f"      {finding.file}{place}")
    yield Line("      repaired" if finding.repaired else f"      fix: {finding.fix}")


def _closing(report: Report, flags: str) -> Iterator[Line]:
    repaired = sum(finding.repaired for finding in report.findings)
    left = [finding for finding in report.findings if not finding.repaired]
    words = [f"{repaired} repaired"] if repaired else []
    for severity in sorted(RANK, key=lambda name: -RANK[name]):
        count = sum(finding.severity == severity for finding in left)
        if count:
            words.append(f"{count} {severity}{'s' if count > 1 else ''}")
    yield Line(", ".join(words) if words else "all is well")
    if mendable := sum(finding.mend is not None for finding in left):
        yield Line(f"flowd doctor --repair{flags} repairs {mendable} of them")
