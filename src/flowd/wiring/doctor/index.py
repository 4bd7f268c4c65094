"""What is kept of each pipeline against the journals: its checkpoints, and which runs may hold more."""

from __future__ import annotations

from functools import partial

import anyio

from flowd.adapters.checkpoints import Corrupt
from flowd.core import states as s
from flowd.core.errors import StateDamaged
from flowd.ports.stores import Checkpoint
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
    findings += [_gone(patient, key, run) for key in keys for run in sorted(listed[key] - known)]
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
        mend = partial(anyio.run, patient.checkpoints.load, key)
        return [warning("checkpoints_damaged", sentence, _repair(patient), mend=mend, **where)]
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
    mend = partial(_merge, patient, seen, dict(seen.newer))
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
        if seen.owner is not None:
            sentence = f"run {seen.id} goes on and is not listed: what it has finished ({some}) counts for no other run"
            mend = partial(_announce, patient, seen)
            findings.append(warning("index_missing", sentence, _repair(patient), file=file, mend=mend))
        else:
            sentence = f"the checkpoints of {seen.key} lack what run {seen.id} has finished: {some}"
            mend = partial(_merge, patient, seen, {task: seen.newer[task] for task in tasks})
            findings.append(warning("checkpoints_behind", sentence, _repair(patient), file=file, mend=mend))
    return findings


def _gone(patient: Patient, key: str, run: str) -> Finding:
    file = str(patient.state_dir / "pipelines" / key / "open" / run)
    mend = partial(anyio.run, patient.checkpoints.merge, key, run, {})
    sentence = f"{key} lists run {run}, which is not there any more"
    return note("index_gone", sentence, _repair(patient), file=file, mend=mend)


def _announce(patient: Patient, seen: Seen) -> None:
    with patient.journal.held(seen.id):
        anyio.run(patient.checkpoints.announce, seen.key, seen.id)


def _merge(patient: Patient, seen: Seen, found: dict[str, Checkpoint]) -> None:
    with patient.journal.held(seen.id):
        anyio.run(patient.checkpoints.merge, seen.key, seen.id, found)


def _repair(patient: Patient) -> str:
    return f"flowd doctor --repair{patient.flags}"
