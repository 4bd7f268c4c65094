"""What the living owners' tasks hold of the limits that their pipelines declare, all owners together."""

from __future__ import annotations

from flowd.wiring.doctor.findings import Checked, Finding, warning
from flowd.wiring.doctor.patient import Hold, Patient, Seen

_SLACK = 1 + 1e-9


def check_limits(patient: Patient) -> Checked:
    """Each limit's use, as the journals tell it, against its tightest capacity."""
    held: dict[str, list[tuple[Seen, Hold]]] = {}
    for seen in patient.runs:
        for hold in seen.holds:
            held.setdefault(hold.limit, []).append((seen, hold))
    findings: list[Finding] = []
    words = []
    for limit, holders in held.items():
        used = sum(hold.weight for _, hold in holders)
        capacity = min(hold.capacity for _, hold in holders)
        words.append(f"{limit} {used:g} of {capacity:g} used")
        # within one engine its admission is exact, and may have been given limits of its own
        owners = {seen.owner.incarnation for seen, _ in holders if seen.owner is not None}
        if used > capacity * _SLACK and len(owners) > 1:
            by = ", ".join(f"{hold.weight:g} by {hold.task} of {seen.id} ({seen.owner})" for seen, hold in holders)
            sentence = f"{used:g} of {capacity:g} of limit {limit} are in use: {by}; did its lock table vanish?"
            fix = f"run them one after the other, or: flowd cancel {holders[-1][0].id}{patient.flags}"
            findings.append(warning("limit_exceeded", sentence, fix))
    return Checked(name="limits", detail=", ".join(words) or "none is in use", findings=findings)
