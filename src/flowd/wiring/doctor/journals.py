"""Each run's journal, whole: what is damaged, what is torn, and whether its mark says how far it goes."""

from __future__ import annotations

import os
import re
import shlex
from functools import partial
from pathlib import Path

from flowd.adapters import disk
from flowd.adapters.journal.layout import segment_path
from flowd.wiring.doctor.findings import NOT_READABLE, Checked, Finding, damaged, failing, note, plural, warning
from flowd.wiring.doctor.patient import Patient, Seen

_PLACED = re.compile(r"(?P<file>/.*?): damaged at offset (?P<offset>\d+)")
_NAMED = re.compile(r"(?P<file>/.*?): ")


def check_journals(patient: Patient) -> Checked:
    """Every record of every run."""
    findings: list[Finding] = []
    for seen in patient.runs:
        findings += _run_findings(patient, seen)
    findings += _without_definition(patient)
    records = sum(seen.records for seen in patient.runs)
    detail = f"{plural(len(patient.runs), 'run')}, {plural(records, 'record')} read"
    return Checked(name="journals", detail=detail, findings=findings)


def _run_findings(patient: Patient, seen: Seen) -> list[Finding]:
    if seen.failure is not None:
        fix = "make it readable for this user, or look at its disk"
        return [failing(NOT_READABLE, f"run {seen.id}: {seen.failure}", fix, file=str(seen.folder))]
    if seen.damage is not None:
        return [_damage(patient, seen, seen.damage)]
    if seen.owner is not None:
        return []  # its owner keeps both right
    mend = partial(patient.journal.heal, seen.id)
    repair = f"flowd doctor --repair{patient.flags}"
    if seen.torn is not None:
        torn = seen.torn
        sentence = (
            f"run {seen.id}: its last write was cut short ({torn.reason}): {torn.bytes} bytes, to be kept aside as "
            f"{Path(torn.kept).name}; the {plural(seen.records, 'record')} before them stand"
        )
        return [warning("journal_torn", sentence, repair, file=torn.file, offset=torn.offset, mend=mend)]
    mark = seen.mark
    where = {"file": str(seen.folder / "mark"), "mend": mend}
    if mark is None:
        sentence = f"run {seen.id}: its mark is gone or cannot be read: records cut off its end would not be noticed"
        return [warning("mark_missing", sentence, repair, **where)]
    segment = segment_path(seen.folder, mark.segment)
    behind = _beyond(seen.folder, mark.segment, mark.offset)
    if behind and mark.boot == disk.boot_id():
        sentence = (
            f"run {seen.id}: {behind} bytes stand after the last record that was acknowledged, so they may not be on "
            "disk; the next owner writes them once more"
        )
        return [note("mark_behind", sentence, repair, **where | {"file": str(segment), "offset": mark.offset})]
    return []


def _beyond(folder: Path, segment: int, offset: int) -> int:
    """The bytes after a mark, in its segment and those that follow."""
    size = segment_path(folder, segment).stat().st_size - offset
    while (path := segment_path(folder, segment := segment + 1)).exists():
        size += path.stat().st_size
    return size


def _damage(patient: Patient, seen: Seen, said: str) -> Finding:
    placed = _PLACED.match(said) or _NAMED.match(said)
    file = placed["file"] if placed else str(segment_path(seen.folder, 1))
    offset = int(placed["offset"]) if placed and "offset" in placed.groupdict() else None
    stands = (
        f"the {plural(seen.records, 'record')} before it stand" if seen.records else "no record before it can be read"
    )
    aside = shlex.quote(f"{patient.state_dir}/damaged-{seen.id}")
    fix = (
        f"restore {shlex.quote(file)} from a backup, or set the run aside: mv {shlex.quote(str(seen.folder))} {aside}; "
        "flowd never changes what is damaged"
    )
    return damaged("journal_damaged", f"run {seen.id}: {said}; {stands}", fix, file=file, offset=offset)


def _without_definition(patient: Patient) -> list[Finding]:
    """Folders that are no run: half-made ones, and those whose definition somebody took away."""
    known = {seen.id for seen in patient.runs}
    findings = []
    try:
        entries = sorted(os.scandir(patient.state_dir / "runs"), key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    for entry in entries:
        folder = Path(entry.path)
        if entry.name in known or os.path.lexists(folder / "spec.json"):
            continue
        where = {"file": str(folder)}
        remove = f"rm -r {shlex.quote(str(folder))}"
        journal = segment_path(folder, 1)
        if not entry.is_dir(follow_symlinks=False):
            findings.append(note("not_a_run", f"{folder} is no run's folder; nobody looks at it", remove, **where))
        elif journal.is_file() and journal.stat().st_size:
            sentence = f"run {entry.name}: {folder / 'spec.json'} is gone, so its journal cannot be understood"
            fix = f"restore it from a backup, or forget the run: {remove}"
            findings.append(damaged("definition_missing", sentence, fix, file=str(folder / "spec.json")))
        else:
            sentence = f"run {entry.name} was cut off while it was made, and is none; it takes no harm to leave it"
            findings.append(note("run_half_made", sentence, remove, **where))
    return findings
