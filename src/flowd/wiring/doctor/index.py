"""What is kept of each pipeline against the journals: its checkpoints, and which runs may hold more."""

from __future__ import annotations

import os
from functools import partial

import anyio

from flowd.adapters.checkpoints import Corrupt
from flowd.core import states as s
from flowd.core.errors import StateDamaged
from flowd.wiring.doctor.findings import Checked, Finding, damaged, note, plural, warning
from flowd.wiring.doctor.patient import Patient, Seen


def check_index(patient: Patient) -> Checked:
    """`pipelines/*/open` and `checkpoints.json` against what the journals say."""
    keys = patient.checkpoints.pipelines()
    # in this order: a living run that is merged in between is then found in both
    listed = {key: set(patient.checkpoints.announced(key)) for key in keys}
    findings = [finding for key in keys for finding in _file_findings(patient, key)]
    everywhere = set[str]().union(*listed.values())
    judged = [seen for seen in patient.intact if seen.keeps and seen.key and seen.status != s.RUN_NEW]
    findings += [_listed(patient, seen) for seen in judged if seen.id in everywhere and seen.ended and not seen.owner]
    unhealed = {key for key in keys if key not in patient.summaries}
    findings += _behind(patient, [seen for seen in judged if seen.id not in everywhere and seen.key not in unhealed])
    known = {seen.id for seen in patient.runs}
    findings += [
        _gone(patient, key, run) for key in keys for run in sorted(listed[key] - known) if not _exists(patient, run)
    ]
    tasks = sum(len(summary.checkpoints) for summary in patient.summaries.values())
    detail = (
        f"{plural(len(keys), 'pipeline')}, {plural(tasks, 'checkpoint')}, {plural(len(everywhere), 'run')} not merged"
    )
    return Checked(name="index", detail=detail, findings=findings)


def _file_findings(patient: Patient, key: str) -> list[Finding]:
    path = patient.checkpoints.path(key)
    where = {"file": str(path)}
    try:
        summary = patient.checkpoints.summary(key)
    except Corrupt as corrupt:
        sentence = f"the checkpoints of {key} are damaged: {corrupt}; they can be made anew from the journals"
        if corrupt.forgotten is None:
            sentence += ", but what was forgotten before may be fresh again"
        finding = warning("checkpoints_damaged", sentence, _repair(patient), **where)
        finding.mend = partial(_load, patient, key, finding)
        return [finding]
    except StateDamaged as error:
        return [damaged("checkpoints_newer", str(error), "upgrade flowd, or use another --state-dir", **where)]
    patient.summaries[key] = summary  # as it is by now: a living run may have merged its checkpoints meanwhile
    runs = patient.state_dir / "runs"
    alone = sorted(
        task for task, kept in summary.checkpoints.items() if not kept.touched and not (runs / kept.run).exists()
    )
    if not alone:
        return []
    some = ", ".join(alone[:5]) + (" and more" if len(alone) > 5 else "")
    sentence = f"{key}: the runs that made the checkpoints of {some} are gone; they still count"
    fix = f"nothing needs to be done; flowd forget FILE {alone[0]} makes it run again"
    return [note("checkpoint_run_gone", sentence, fix, **where)]


def _listed(patient: Patient, seen: Seen) -> Finding:
    file = str(patient.state_dir / "pipelines" / seen.key / "open" / seen.id)
    sentence = f"run {seen.id} has ended and is still listed as one whose checkpoints have to be looked for"
    mend = partial(_settle, patient, seen)
    return note("index_ended", sentence, _repair(patient), file=file, mend=mend)


def _behind(patient: Patient, unlisted: list[Seen]) -> list[Finding]:
    """What runs have finished that neither the pipeline's file nor its list of runs tells of."""
    latest: dict[tuple[str, str], Seen] = {}
    for seen in unlisted:
        for task, checkpoint in patient.missing(seen.key, seen.newer).items():
            other = latest.get((seen.key, task))
            if other is None or other.newer[task].at < checkpoint.at:
                latest[seen.key, task] = seen
    findings = []
    for seen in unlisted:
        tasks = sorted(task for (_, task), of in latest.items() if of is seen)
        if not tasks:
            continue
        some = ", ".join(tasks[:5]) + (" and more" if len(tasks) > 5 else "")
        file = str(patient.checkpoints.path(seen.key))
        mend = partial(_settle, patient, seen)
        if seen.owner is not None:
            sentence = f"run {seen.id} goes on and is not listed: what it has finished ({some}) counts for no other run"
            findings.append(warning("index_missing", sentence, _repair(patient), file=file, mend=mend))
        else:
            sentence = f"the checkpoints of {seen.key} lack what run {seen.id} has finished: {some}"
            findings.append(warning("checkpoints_behind", sentence, _repair(patient), file=file, mend=mend))
    return findings


def _gone(patient: Patient, key: str, run: str) -> Finding:
    file = str(patient.state_dir / "pipelines" / key / "open" / run)
    mend = partial(_withdraw, patient, key, run)
    sentence = f"{key} lists run {run}, which is not there any more"
    return note("index_gone", sentence, _repair(patient), file=file, mend=mend)


def _load(patient: Patient, key: str, finding: Finding) -> None:
    """Make the checkpoints anew; what was done, and what could not be found again, is said in the finding."""
    reports = patient.checkpoints.reports
    known = len(reports)
    anyio.run(patient.checkpoints.load, key)
    finding.sentence = "; ".join(reports[known:]) or finding.sentence


def _settle(patient: Patient, seen: Seen) -> None:
    """List a run that has not ended, and take in one that has: as it is by now, whatever it was at the look."""
    with patient.journal.held(seen.id):
        now = patient.again(seen)
        if not now.keeps:
            return
        if now.ended:
            anyio.run(patient.checkpoints.merge, seen.key, seen.id, now.newer)
        elif seen.id not in patient.checkpoints.announced(seen.key):
            anyio.run(patient.checkpoints.announce, seen.key, seen.id)


def _withdraw(patient: Patient, key: str, run: str) -> None:
    if not _exists(patient, run):
        anyio.run(patient.checkpoints.merge, key, run, {})


def _exists(patient: Patient, run: str) -> bool:
    return os.path.lexists(patient.state_dir / "runs" / run)


def _repair(patient: Patient) -> str:
    return f"flowd doctor --repair{patient.flags}"
