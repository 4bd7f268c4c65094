"""The table of checks, and how they are made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from flowd.core.errors import FlowdError, StateDamaged, cause
from flowd.wiring.doctor.findings import NOT_READABLE, Checked, Report, damaged, failing
from flowd.wiring.doctor.index import check_index
from flowd.wiring.doctor.journals import check_journals
from flowd.wiring.doctor.limits import check_limits
from flowd.wiring.doctor.machine import check_clock, check_machine
from flowd.wiring.doctor.owners import check_orphans, check_runs
from flowd.wiring.doctor.patient import Patient
from flowd.wiring.doctor.place import check_disk, check_file_system, check_format, check_permissions
from flowd.wiring.doctor.results import check_results
from flowd.wiring.doctor.strays import check_strays

Check = Callable[[Patient], Checked]

PLACE: Sequence[Check] = (check_format, check_permissions, check_disk, check_file_system)
"""What can be looked at whatever the state directory holds."""

STATE: Sequence[Check] = (
    check_journals,
    check_runs,
    check_orphans,
    check_limits,
    check_index,
    check_results,
    check_strays,
)
"""What looks at runs."""

_HOPELESS = {"not_a_folder", "format_newer", "format_unreadable", "cannot_lock"}
"""Where one of these was found, no run can be looked at."""

MACHINE: Sequence[Check] = (check_clock, check_machine)


def examine(state_dir: Path, now: datetime, *, flags: str = "", repair: bool = False) -> Report:
    """Look a state directory over and, where asked to, make the repairs that are safe.

    Without `repair` nothing is changed, not even a time. `flags` is what a command that is typed
    needs to find the state directory. A run that somebody holds is left alone.
    """
    with Patient(state_dir, now, flags, repair=repair) as patient:
        checks = [_made(check, patient) for check in PLACE]
        refused = [finding for checked in checks for finding in checked.findings if finding.code in _HOPELESS]
        if patient.exists and not refused:
            looked = _made(_look, patient)
            checks += [looked] if looked.findings else [_made(check, patient) for check in STATE]
        checks += [_made(check, patient) for check in MACHINE]
        report = Report(state_dir=patient.state_dir, checks=checks)
        if repair:
            for finding in report.findings:
                finding.repair()
        return report


def _look(patient: Patient) -> Checked:
    patient.look()
    return Checked(name="state", detail="")


def _made(check: Check, patient: Patient) -> Checked:
    """A check's outcome; one that cannot be made is a finding by itself."""
    name = check.__name__.removeprefix("check_").removeprefix("_").replace("_", " ")
    try:
        return check(patient)
    except StateDamaged as error:
        finding = damaged("damaged", str(error), "restore what is named from a backup, or set it aside")
    except (FlowdError, OSError) as error:
        said = f"{error.filename}: {cause(error)}" if isinstance(error, OSError) else str(error)
        finding = failing(NOT_READABLE, said, "make it accessible for this user, or look at its disk")
    return Checked(name=name, detail="could not be made", findings=[finding])
