"""What is special about the tasks under `finally`: they come after all others, which cannot need them."""

from __future__ import annotations

from flowd.authoring.findings import Findings, KeyPath, quoted
from flowd.core.spec import PipelineSpec


def ordinary(spec: PipelineSpec) -> tuple[str, ...]:
    """The tasks that have ended before those under `finally` begin."""
    return tuple(task.name for task in spec.tasks if not task.final)


def check_section(section: str, path: KeyPath, need: str, findings: Findings) -> None:
    """Report a need between a task under `finally` and one that is not."""
    if section == "finally":
        message = f"{quoted(need)} has ended in any case before what stands under `finally` begins"
        findings.add("needs_finally", path, message, f"remove it; to ask how it ended: `when: tasks.{need}.ok`")
    else:
        message = f"{quoted(need)} stands under `finally`, and runs once all tasks have ended"
        findings.add("needs_finally", path, message, "remove it, or move one of the two")
