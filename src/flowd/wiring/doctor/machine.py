"""The machine: its clock, its zones, and what the guardian of the tasks' processes can use."""

from __future__ import annotations

import ctypes
import os
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from flowd.core.views import moment
from flowd.guardian import cgroup, processes
from flowd.wiring.doctor.findings import Checked, Finding, note, warning
from flowd.wiring.doctor.patient import Patient

_YEARS = range(2025, 2100)
_SLACK_S = 1.0
_ZONES = ("UTC", "America/New_York")
_PR_GET_CHILD_SUBREAPER = 37


def check_clock(patient: Patient) -> Checked:
    """The wall clock against what is on record, and the zones that a schedule may name."""
    findings: list[Finding] = []
    now = patient.now
    if now.year not in _YEARS:
        sentence = f"the clock says {moment(now)}, which cannot be"
        findings.append(warning("clock_implausible", sentence, "set the clock; see: timedatectl"))
    if patient.newest is not None:
        newest, run = patient.newest
        behind = (newest - now).total_seconds()
        if behind > _SLACK_S:
            sentence = (
                f"the clock says {moment(now)}, {behind:.0f}s before the newest record, of run {run}: it was set back, "
                "or another machine writes here; what is fresh for a time, and ages, are wrong until it has caught up"
            )
            findings.append(warning("clock_behind", sentence, "set the clock; see: timedatectl"))
    findings += filter(None, map(_zone, _ZONES))
    return Checked(name="clock", detail=f"{moment(now.replace(microsecond=0))}, zone data looked up", findings=findings)


def _zone(name: str) -> Finding | None:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        sentence = f"the time zone {name} cannot be found: {error}"
        return warning("zone_data_missing", sentence, "pip install tzdata, or apt-get install tzdata")
    return None


def check_machine(_patient: Patient) -> Checked:
    """What keeps tasks' processes from being left behind; each of these makes it surer, and none is needed."""
    grouped, where = cgroup.available()
    able = {"subreaper": _has_subreaper(), "pidfd": _has_pidfd()}
    findings = [note(f"no_{name}", *words) for name, words in _WITHOUT.items() if not able[name]]
    detail = ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in able.items())
    detail += f"; {where}" if grouped else f"; no control group: {where}"
    return Checked(name="machine", detail=detail, findings=findings)


_WITHOUT = {
    "subreaper": (
        "a task's process that leaves its parent cannot be adopted: it is found by its marks alone",
        "nothing needs to be done; Linux 3.4 and newer have it",
    ),
    "pidfd": (
        "that the engine has died is noticed by its socket alone",
        "nothing needs to be done; Linux 5.3 and newer have it",
    ),
}


def _has_subreaper() -> bool:
    if not processes.LINUX:
        return False
    found = ctypes.c_int()
    try:
        code = ctypes.CDLL(None).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(found), 0, 0, 0)
    except (OSError, AttributeError):
        return False
    return bool(code == 0)


def _has_pidfd() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (OSError, AttributeError):
        return False
    return True
