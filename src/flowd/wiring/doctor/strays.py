"""What was left in the middle of something: half-written files, and requests that nobody waits for."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from flowd.adapters import inbox
from flowd.wiring.doctor.findings import Checked, Finding, note, plural, warning
from flowd.wiring.doctor.patient import Patient, Seen
from flowd.wiring.pruning import REMOVING

_UNDER_WAY_S = 600.0
"""A file that is being written whole is there for moments; one that is so old was left by a death."""
_SHARED = ("*.tmp", "artifacts/*/*.tmp", "pipelines/*/*.tmp", "kept/*.tmp")


def check_strays(patient: Patient) -> Checked:
    """Files that a death in the middle of a write, or of a request, has left."""
    findings: list[Finding] = []
    for seen in patient.runs:
        findings += _of_run(patient, seen)
    before = patient.now.timestamp() - _UNDER_WAY_S
    left = sorted(path for path in _shared(patient) if _is_older(path, before))
    if left:
        sentence = f"{plural(len(left), 'half-written file')} left, such as {left[0].name}"
        file = str(left[0].parent)
        findings.append(note("temporary_left", sentence, _repair(patient), file=file, mend=partial(_remove, left)))
    removing = patient.state_dir / REMOVING
    if removed := sorted(removing.glob("*")):
        sentence = f"{plural(len(removed), 'run')} taken out and not deleted whole, such as {removed[0].name}"
        mend = partial(_delete, removed)
        findings.append(note("removal_left", sentence, _repair(patient), file=str(removing), mend=mend))
    return Checked(name="strays", detail="half-written files and old requests looked for", findings=findings)


def _of_run(patient: Patient, seen: Seen) -> Iterator[Finding]:
    owned = seen.owner is not None
    old = inbox.strays(seen.folder, patient.now.timestamp(), owned=owned)
    requests = [path for path in old if inbox.is_request(path)]
    rest = [path for path in old if path not in requests]
    if not owned:
        rest += seen.folder.glob("*.tmp")  # only an owner writes there
    folder = str(seen.folder)
    if requests:
        sentence = f"run {seen.id}: {plural(len(requests), 'old request')} never taken; its next owner would obey"
        mend = partial(_remove_held, patient, seen.id, requests)
        yield warning("request_left", sentence, _repair(patient), file=f"{folder}/inbox", mend=mend)
    if rest:
        sentence = f"run {seen.id}: {plural(len(rest), 'file')} left that nobody waits for, such as {rest[0].name}"
        mend = partial(_remove, rest) if owned else partial(_remove_held, patient, seen.id, rest)
        yield note("temporary_left", sentence, _repair(patient), file=folder, mend=mend)


def _shared(patient: Patient) -> Iterator[Path]:
    for pattern in _SHARED:
        yield from patient.state_dir.glob(pattern)


def _is_older(path: Path, before: float) -> bool:
    try:
        return path.lstat().st_mtime < before
    except FileNotFoundError:
        return False


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _delete(folders: Iterable[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_held(patient: Patient, run: str, paths: Iterable[Path]) -> None:
    with patient.journal.held(run):
        _remove(paths)


def _repair(patient: Patient) -> str:
    return f"flowd doctor --repair{patient.flags}"
