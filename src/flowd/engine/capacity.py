"""What an engine's limits look like from outside: capacity, who holds it since when, who waits in which order."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from flowd.core.limits import Admission
from flowd.core.views import moment

if TYPE_CHECKING:
    from flowd.engine.driver import Driver


def capacity_document(admission: Admission[Any]) -> dict[str, Any]:
    """Each limit by name: `{capacity, used, holders: [{run, task, weight, since}], waiters: [{run, task, weight}]}`."""
    return {_name(limit): _limit_document(admission, limit) for limit in admission.limits()}


def _name(limit: Hashable) -> str:
    return f"{limit[1]} of {limit[0]}" if isinstance(limit, tuple) else str(limit)


def _limit_document(admission: Admission[Any], limit: Hashable) -> dict[str, Any]:
    return {
        "capacity": admission.capacity.get(limit),
        "used": admission.in_use(limit),
        "holders": [{**_who(key), "weight": weight, "since": _since(*key)} for key, weight in admission.holders(limit)],
        "waiters": [{**_who(key), "weight": weight} for key, weight in admission.waiters(limit)],
    }


def _who(key: tuple[Driver, int]) -> dict[str, str]:
    driver, number = key
    return {"run": driver.run.id, "task": driver.run.shape.specs[number].name}


def _since(driver: Driver, number: int) -> str | None:
    attempts = driver.run.tasks[number].attempts
    return moment(attempts[-1].started_at) if attempts else None
