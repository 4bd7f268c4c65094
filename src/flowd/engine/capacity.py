"""What an engine's limits look like from outside: who holds since when, who waits in which order, and why."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from flowd.core.events import Reason
from flowd.core.limits import Admission
from flowd.core.reasons import because
from flowd.core.views import moment
from flowd.engine.sharing import BusyPath, Sharing

if TYPE_CHECKING:
    from flowd.engine.driver import Driver

_NAMED = 5


def capacity_document(admission: Admission[Any]) -> dict[str, Any]:
    """Each limit by name: `{capacity, used, holders: [{run, task, weight, since}], waiters: […]}`, in their order."""
    limits = [limit for limit in admission.limits() if not isinstance(limit, BusyPath)]
    return {_name(limit): _limit_document(admission, limit) for limit in limits}


def waiting_document(admission: Admission[Any], sharing: Sharing) -> list[dict[str, Any]]:
    """Every task that could start and waits: `{run, task, since, code, sentence, what, by}`, the most urgent first."""
    found = []
    for limit, candidate in sorted(admission.parked(), key=lambda one: one[1]):
        driver, number = candidate.key
        if driver.is_waiting(number):
            found.append(wait_document(admission, sharing, limit, driver, number))
    return found


def wait_document(
    admission: Admission[Any], sharing: Sharing, limit: Hashable, driver: Driver, number: int
) -> dict[str, Any]:
    """Why one task waits at `limit`: what it waits for, and who has it."""
    refusal = sharing.refusal_of(limit)
    by = [refusal.by] if refusal is not None and refusal.by is not None else []
    by += [(who.run.id, who.run.shape.specs[which].name) for (who, which), _ in admission.holders(limit)]
    reason = _reason(admission, sharing, limit, by)
    return {
        **_who((driver, number)),
        "since": moment(driver.waits_since(number)),
        "code": reason.code,
        "sentence": reason.sentence,
        "what": limit.place.path if isinstance(limit, BusyPath) else _name(limit),
        "by": [{"run": run, "task": task} for run, task in dict.fromkeys(by)],
    }


def _reason(admission: Admission[Any], sharing: Sharing, limit: Hashable, by: list[tuple[str, str]]) -> Reason:
    refusal = sharing.refusal_of(limit)
    named = [f"{task} of {run}" for run, task in dict.fromkeys(by)]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    holders = ", ".join(named[:_NAMED]) + more
    if isinstance(limit, BusyPath):
        return because("path_busy", path=limit.place.path, holders=holders or "another run")
    if refusal is not None and refusal.until is not None:
        return because("rate", limit=limit, until=moment(refusal.until))
    if isinstance(limit, tuple):
        return because("run_full", holders=holders)
    if holders:
        return because("limit_full", limit=limit, holders=f"is held by {holders}")
    first = admission.first(limit)
    ahead = f"{first.key[0].run.shape.specs[first.key[1]].name} of {first.key[0].run.id}" if first else "others"
    return because("limit_full.turn", limit=limit, holders=ahead)


def _name(limit: Hashable) -> str:
    return f"{limit[1]} of {limit[0]}" if isinstance(limit, tuple) else str(limit)


def _limit_document(admission: Admission[Any], limit: Hashable) -> dict[str, Any]:
    waiters = [(key, weight) for key, weight in admission.waiters(limit) if key[0].is_waiting(key[1])]
    return {
        "capacity": admission.capacity.get(limit),
        "used": admission.in_use(limit),
        "holders": [{**_who(key), "weight": weight, "since": _since(*key)} for key, weight in admission.holders(limit)],
        "waiters": [
            {
                **_who(key),
                "weight": weight,
                "since": moment(key[0].waits_since(key[1])),
                "urgency": key[0].urgency(key[1]),
            }
            for key, weight in waiters
        ],
    }


def _who(key: tuple[Driver, int]) -> dict[str, str]:
    driver, number = key
    return {"run": driver.run.id, "task": driver.run.shape.specs[number].name}


def _since(driver: Driver, number: int) -> str | None:
    attempts = driver.run.tasks[number].attempts
    return moment(attempts[-1].started_at) if attempts else None
