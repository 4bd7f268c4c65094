"""Who owns which run, what is unfinished and owned by nobody, and what dead owners have left running."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from flowd.adapters import disk
from flowd.adapters.executors import leftovers
from flowd.adapters.journal.lock import Owner
from flowd.core import states as s
from flowd.core.errors import StateLocked, StorageFailing
from flowd.guardian import processes
from flowd.wiring.doctor.findings import Checked, Finding, note, warning
from flowd.wiring.doctor.patient import Patient, Seen


def check_runs(patient: Patient) -> Checked:
    """The lock of each run, and the end of each that nobody holds."""
    findings = [_held(seen, seen.owner) for seen in patient.runs if seen.owner is not None]
    left = [seen for seen in patient.intact if seen.owner is None and not seen.ended]
    findings += [_unfinished(patient, seen) for seen in left]
    held = sum(seen.owner is not None for seen in patient.runs)
    detail = f"{held} held by a living owner, {len(left)} unfinished and held by nobody"
    return Checked(name="runs", detail=detail, findings=findings)


def _held(seen: Seen, owner: Owner) -> Finding:
    where = {"file": str(seen.folder / "owner.json")}
    here = owner.boot_id == disk.boot_id() and owner.host == socket.gethostname()
    state = processes.engine_state(owner.incarnation) if here else ""
    if here and state in {"T", "t"}:
        sentence = f"run {seen.id} is held by {owner}, which is stopped: nothing of it goes on"
        return warning("owner_stopped", sentence, f"kill -CONT {owner.pid}", **where)
    if here and processes.is_elsewhere(owner.incarnation):
        sentence = f"run {seen.id} goes on in another container: it is held by {owner}, as ids are there"
        return note("run_held", sentence, f"nothing needs to be done; flowd show {seen.id}", **where)
    if here and not state:
        sentence = (
            f"run {seen.id} is locked, but its owner, {owner}, does not run here: a process that it began has kept the "
            "lock, or it runs in another container"
        )
        return warning("owner_unclear", sentence, f"fuser -v {shlex.quote(str(seen.folder))}", **where)
    sentence = f"run {seen.id} goes on: it is held by {owner}"
    return note("run_held", sentence, f"nothing needs to be done; flowd show {seen.id}", **where)


def _unfinished(patient: Patient, seen: Seen) -> Finding:
    where = {"file": str(seen.folder)}
    flags = patient.flags
    if seen.status == s.RUN_NEW:
        sentence = f"run {seen.id} was cut off before its first record: nothing of it is on record"
        return note("run_never_began", sentence, f"run it anew, or: rm -r {shlex.quote(str(seen.folder))}", **where)
    if seen.uncertain:
        task = seen.uncertain[0]
        sentence = f"run {seen.id} waits for a person: how {', '.join(seen.uncertain)} ended is unknown"
        there = " --no-run" if seen.bound else ""
        fix = f"flowd resolve {seen.id} {task} --as succeeded{there}{flags}, or: --as failed, or: --as rerun"
        if seen.bound:
            fix += f"; then {_in_its_program(seen)}"
        return warning("run_waiting", sentence, fix, **where)
    sentence = f"run {seen.id} is {seen.status}, and nobody goes on with it"
    resume = _in_its_program(seen) if seen.bound else f"flowd resume {seen.id}{flags}"
    fix = f"{resume}, or: flowd cancel {seen.id}{flags}"
    return warning("run_unfinished", sentence, fix, **where)


def _in_its_program(seen: Seen) -> str:
    """How to go on with a run that `flowd resume` would refuse, since it could not import what is called."""
    return (
        f"go on with engine.resume({seen.id!r}, pipeline) in the program that started it, whose functions live only "
        "there, or move them into a module"
    )


def check_orphans(patient: Patient) -> Checked:
    """Processes that tasks of dead owners have left behind."""
    # who holds another run lives, whatever is to be seen of it
    living = {seen.owner.incarnation for seen in patient.runs if seen.owner is not None}
    left_of = [(seen, set(patient.journal.left_by(seen.id)) - living) for seen in patient.runs if seen.owner is None]
    everyone = set[str]().union(*(names for _, names in left_of))
    survivors, elsewhere = leftovers.survivors(everyone), leftovers.elsewhere(everyone)
    findings: list[Finding] = []
    for seen, names in left_of:
        run, where = seen.id, {"file": str(seen.folder / "owner.json")}
        if pids := _of(names, survivors):
            sentence = f"run {run}: its owner is dead, and {_listed(pids)} of its tasks still run"
            mend = partial(_end, patient, run)
            findings.append(warning("orphans", sentence, f"flowd doctor --repair{patient.flags}", mend=mend, **where))
        if pids := _of(names, elsewhere):
            sentence = (
                f"run {run}: its owner runs, or ran, in another container, and {_listed(pids)} of its tasks still run; "
                "whether it is dead is not to be seen from here, so they are left alone"
            )
            fix = f"if it is dead, in that container: flowd doctor --repair{patient.flags}"
            findings.append(warning("orphans_elsewhere", sentence, fix, **where))
    return Checked(name="orphans", detail="some are left" if findings else "no process left", findings=findings)


def _of(names: Iterable[str], left: Mapping[str, set[int]]) -> list[int]:
    return sorted(set[int]().union(*(left.get(name, set()) for name in names)))


def _listed(pids: Sequence[int]) -> str:
    some = ", ".join(map(str, pids[:10])) + (f" and {len(pids) - 10} more" if len(pids) > 10 else "")
    return f"process {some}" if len(pids) == 1 else f"processes {some}"


def _end(patient: Patient, run: str) -> None:
    owning = partial(patient.journal.owning, but=run)
    with patient.journal.held(run):
        names = patient.journal.left_by(run)
        leftovers.end_at_once(names, owning)
        if leftovers.survivors(names).keys() & owning():
            raise StateLocked(f"the owner of run {run} holds another run still")
        left = set[int]().union(*leftovers.survivors(names).values())
    if left:
        raise StorageFailing(
            f"processes {', '.join(map(str, sorted(left)))} do not end; try as their own user, or root"
        )
