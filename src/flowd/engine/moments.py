"""What a run waits for by the clock: the ends of its tasks' waits, and its deadline."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from flowd.core import states as s
from flowd.core.stimuli import DeadlineReached, TimerFired
from flowd.engine.timers import Timer

if TYPE_CHECKING:
    from flowd.engine.driver import Driver


class Moments:
    """The timers of one run. What they wait for is on record: after a restart they are set anew from there."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._retries: dict[int, Timer] = {}
        self._sleeps: dict[int, Timer] = {}
        self._deadline: Timer | None = None

    def close(self) -> None:
        """Wait for nothing any more."""
        for timer in (self._deadline, *self._retries.values(), *self._sleeps.values()):
            if timer is not None:
                timer.cancel()

    def set_deadline(self) -> None:
        """Stop the run at its deadline, which counts anew from when it was last asked for again."""
        driver = self._driver
        if driver.run.spec.deadline is None or driver.run.opened_at is None:
            return
        left = (driver.run.opened_at + driver.run.spec.deadline - driver.now()).total_seconds()
        if left > 0:
            self._deadline = driver.services.timers.after(left, self.set_deadline)
        else:
            driver.tell(DeadlineReached())

    def resume(self) -> None:
        """Wait for the retries and the ends of waits that are due later."""
        for number, task in enumerate(self._driver.run.tasks):
            if task.state == s.RETRYING and task.retry_at is not None:
                self.wait_for_retry(number, task.retry_at)
            elif task.state == s.SLEEPING and task.until is not None:
                self.sleep(number, task.until)

    def sleep(self, number: int, until: datetime) -> None:
        """End a task's wait at its moment."""
        left = (until - self._driver.now()).total_seconds()
        if number in self._sleeps:
            self._sleeps[number].cancel()
        self._sleeps[number] = self._driver.services.timers.after(left, partial(self._wake, number))

    def _wake(self, number: int) -> None:
        driver, task = self._driver, self._driver.run.tasks[number]
        if task.state != s.SLEEPING or task.until is None:
            return
        if task.until > driver.now():  # a clock was set back
            self.sleep(number, task.until)
        else:
            driver.tell(TimerFired(driver.run.shape.specs[number].name))

    def wait_for_retry(self, number: int, retry_at: datetime) -> None:
        """Offer a task once its next attempt may begin."""
        left = (retry_at - self._driver.now()).total_seconds()
        if number in self._retries:
            self._retries[number].cancel()
        self._retries[number] = self._driver.services.timers.after(left, partial(self._retry, number))

    def _retry(self, number: int) -> None:
        """A wait is over; not this task's, perhaps, if it was asked for again meanwhile."""
        driver, task = self._driver, self._driver.run.tasks[number]
        if task.state == s.RETRYING and task.retry_at is not None and driver.run.may_start(number):
            if task.retry_at > driver.now():
                self.wait_for_retry(number, task.retry_at)
                return
            driver.offer(number)
            driver.services.wake(1)
