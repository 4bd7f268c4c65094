"""Tells a run's followers, once for each thing that is waited for, that tasks have waited for it for long."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

from flowd.engine.capacity import wait_document
from flowd.ports.follower import Signal

if TYPE_CHECKING:
    from flowd.engine.driver import Driver

LONG_S = 10.0
"""Seconds after which a wait is said."""


class LongWaits:
    """The waits of one run. It looks only after something that might wait for long was offered."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._said: set[Hashable] = set()
        self._armed = False

    def may_come(self) -> None:
        """Something was offered that uses a limit or a path."""
        if not self._armed:
            self._armed = True
            self._driver.services.timers.after(LONG_S, self._look)

    def _look(self) -> None:
        """Say what is waited for, with the first that waits; look again while anybody does."""
        driver, services = self._driver, self._driver.services
        self._armed = False
        now = services.adapters.clock.monotonic()
        for limit, candidate in sorted(services.admission.parked(), key=lambda one: one[1]):
            key: Any = candidate.key
            who, number = key
            if who is not driver or not driver.is_waiting(number) or _is_own(limit):
                continue
            if now - candidate.since < LONG_S:
                self.may_come()
            elif limit not in self._said:
                self._said.add(limit)
                self._say(limit, number)

    def _say(self, limit: Hashable, number: int) -> None:
        driver, services = self._driver, self._driver.services
        why = wait_document(services.admission, services.sharing, limit, driver, number)
        fields = {"level": "info", "event": "waiting", "code": why["code"], "why": why["sentence"]}
        task = why["task"]
        driver.stream.signal(
            Signal(run=driver.run.id, task=task, attempt=0, at=driver.now(), kind="log", fields=fields)
        )


def _is_own(limit: Hashable) -> bool:
    """Whether it is the run's own bound, at which most of its tasks wait as a rule."""
    return isinstance(limit, tuple) and isinstance(limit[1], str)
