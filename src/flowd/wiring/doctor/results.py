"""Results that are files of their own: those that journals and checkpoints refer to, and those that nothing does."""

from __future__ import annotations

from flowd.core.errors import StateDamaged, StorageFailing
from flowd.wiring.doctor.findings import NOT_READABLE, Checked, Finding, damaged, failing, note, plural
from flowd.wiring.doctor.patient import Patient
from flowd.wiring.doctor.place import amount

_SETTLED_S = 3600.0
"""A result is on disk a moment before the record that refers to it; after so long there is none."""
_SIGNED = "pickle"


def check_results(patient: Patient) -> Checked:
    """That each is there and is what was kept; and what takes room for nobody."""
    findings: list[Finding] = []
    signed = [of for (_, codec), of in patient.stored.items() if codec == _SIGNED]
    if signed:
        try:
            patient.results.check_key()
        except StateDamaged as error:
            run, task = signed[0]
            sentence = (
                f"{error}; {len(signed)} pickles cannot be trusted without it, such as that of {task} in run {run}"
            )
            fix = "restore it from a backup, or run those tasks again: flowd run FILE --force"
            findings.append(damaged("key_missing", sentence, fix, file=str(patient.results.key_path)))
    no_key = bool(findings)
    for (digest, codec), (run, task) in patient.stored.items():
        if no_key and codec == _SIGNED:
            continue
        where = {"file": str(patient.results.path(digest))}
        try:
            patient.results.check(digest, codec)
        except StateDamaged as error:
            code = "result_missing" if str(error).endswith("gone") else "result_damaged"
            sentence = f"the result of {task} in run {run}: {error}"
            findings.append(damaged(code, sentence, f"flowd retry {run} {task}{patient.flags}", **where))
        except StorageFailing as error:
            findings.append(failing(NOT_READABLE, str(error), "make it readable for this user", **where))
    count, size = _unreferenced(patient)
    if count and len(patient.intact) == len(patient.runs):
        sentence = f"{plural(count, 'result')} that no run refers to, of {amount(size)}"
        fix = "nothing needs to be done: they take room, and no more"
        findings.append(note("results_unreferenced", sentence, fix, file=str(patient.state_dir / "artifacts")))
    detail = f"{plural(len(patient.stored), 'file')} that runs refer to"
    return Checked(name="results", detail=detail, findings=findings)


def _unreferenced(patient: Patient) -> tuple[int, int]:
    digests = {digest for digest, _ in patient.stored}
    before = patient.now.timestamp() - _SETTLED_S
    sizes = [
        found.st_size for digest, found in patient.results.kept() if digest not in digests and found.st_mtime < before
    ]
    return len(sizes), sum(sizes)
