"""What an attempt gave, held against the gates of its task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flowd.core import gates
from flowd.core.facts import Stored
from flowd.core.spec import TaskSpec
from flowd.engine import results
from flowd.engine.channel import AttemptChannel
from flowd.engine.prepare import Prepared

if TYPE_CHECKING:
    from flowd.engine.driver import Driver


class GateFailed(Exception):
    """What a task gave does not pass a gate of its own."""


async def pass_gates(
    driver: Driver, spec: TaskSpec, prepared: Prepared, channel: AttemptChannel, stored: Stored | None
) -> tuple[str, ...]:
    """What a task's gates warn of. GateFailed where one that has to hold does not."""
    secrecy = driver.services.adapters.secrecy
    values = await driver.values(spec)
    read = gates.reads_result(spec.gate)
    result = await results.load(stored, driver.services.adapters.results) if read else None
    scope = driver.survey.resolver.gate_scope(spec, prepared, values, channel.metrics, result)
    if broken := gates.failed(spec.gate, "error", scope):
        raise GateFailed(secrecy.hide("; ".join(broken)))
    warned = [secrecy.hide(said) for said in gates.failed(spec.gate, "warn", scope)]
    for said in warned:
        channel.log("warning", "gate_warning", {"gate": said})
    return tuple(f"gate_warning: {said}" for said in warned)
