"""What a task holds of the limits while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flowd.core.spec import Nested
from flowd.engine.children import RUN_LIMIT

if TYPE_CHECKING:
    from flowd.engine.driver import Driver


def uses_of(driver: Driver, number: int) -> Mapping[Any, float]:
    """How much of each limit, of the run's own bound, and of those of the runs above it."""
    if driver.fans.is_fan(number):
        return {}
    run, spec = driver.run, driver.run.shape.specs[number]
    own: Mapping[Any, float] = spec.uses if number < run.declared else {**spec.uses, **driver.fans.uses(number)}
    if isinstance(spec.action, Nested) or spec.service is not None:
        return own  # a pipeline's own tasks are counted; a service goes on while others have their turns
    if driver.above:
        own = {**own, **dict.fromkeys(driver.above, 1.0)}
    return own if run.spec.max_concurrency is None else {**own, (run.id, RUN_LIMIT): 1.0}
