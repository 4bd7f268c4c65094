"""What the driver of a run does about an event that it has just recorded, by its kind; about most it does nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from flowd.core import events as e
from flowd.engine.children import pass_on

if TYPE_CHECKING:
    from flowd.engine.driver import Driver


def _retry_scheduled(driver: Driver, event: e.TaskRetryScheduled) -> None:
    driver.moments.wait_for_retry(driver.run.shape.index[event.task], event.retry_at)


def _round_ended(driver: Driver, event: e.TaskRoundEnded) -> None:
    driver.moments.wait_for_retry(driver.run.shape.index[event.task], event.next_at)


def _timer_started(driver: Driver, event: e.TaskTimerStarted) -> None:
    driver.moments.sleep(driver.run.shape.index[event.task], event.until)


def _approved(driver: Driver, _event: e.TaskApproved) -> None:
    driver.answered_at = driver.stream.applied


def _paused_or_adopted(driver: Driver, event: e.RunPaused | e.RunAdopted) -> None:
    pass_on(event, list(driver.children.values()))


def _cancel_requested(driver: Driver, _event: e.RunCancelRequested) -> None:
    driver.stop_attempts("cancelled")


def _deadline_passed(driver: Driver, _event: e.RunDeadlinePassed) -> None:
    driver.stop_attempts("deadline")


def _broke(driver: Driver, event: e.TaskFailed | e.TaskTimedOut | e.TaskAbandoned) -> None:
    driver.fans.stop_beside(driver.run.shape.index[event.task], driver.attempts)


ACTS: Mapping[type[e.Event], Callable[[Driver, Any], None]] = {
    e.TaskRetryScheduled: _retry_scheduled,
    e.TaskRoundEnded: _round_ended,
    e.TaskTimerStarted: _timer_started,
    e.TaskApproved: _approved,
    e.RunPaused: _paused_or_adopted,
    e.RunAdopted: _paused_or_adopted,
    e.RunCancelRequested: _cancel_requested,
    e.RunDeadlinePassed: _deadline_passed,
    e.TaskFailed: _broke,
    e.TaskTimedOut: _broke,
    e.TaskAbandoned: _broke,
}
