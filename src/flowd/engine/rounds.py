"""The rounds of a task that is repeated: each is an attempt, and nothing is held between two of them."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flowd.core import rounds
from flowd.core.facts import Ending, Stored
from flowd.core.spec import Run, TaskSpec
from flowd.core.stimuli import Failed, Outcome, RepeatTimedOut, RoundOver, TimedOut
from flowd.engine import results
from flowd.engine.channel import AttemptChannel
from flowd.engine.prepare import Prepared
from flowd.ports.executor import CommandFailed, EndUnknown

if TYPE_CHECKING:
    from flowd.engine.driver import Driver

KEPT_BYTES = 4 * 1024
"""A round's result is on record up to this size, in bytes of JSON: there may be very many rounds."""


async def carried_out(spec: TaskSpec, carrying_out: Awaitable[Any]) -> tuple[Any, int | None]:
    """What an attempt gives, and its exit code where it is a command.

    One that ends badly has failed, unless it is repeated until its exit code says something.
    """
    try:
        return await carrying_out, 0 if isinstance(spec.action, Run) else None
    except EndUnknown:
        raise
    except CommandFailed as failure:
        code = failure.error.exit_code
        if spec.repeat is None or code is None or not rounds.asks_exit_code(spec.repeat):
            raise
        return None, code


async def left_open(
    driver: Driver,
    number: int,
    prepared: Prepared,
    channel: AttemptChannel,
    stored: Stored | None,
    exit_code: int | None,
) -> Outcome | None:
    """What a round comes to after which the task has not succeeded; None where `until` holds. ExpressionError."""
    spec, task = driver.run.shape.specs[number], driver.run.tasks[number]
    repeat, secrecy = spec.repeat, driver.services.adapters.secrecy
    if repeat is None or task.rounds is None:
        return None
    result, ending = None, channel.ending
    if rounds.reads_result(repeat):
        result = await results.load(stored, driver.services.adapters.results)
    values, count = await driver.values(spec), task.rounds.ended + 1
    scope = driver.survey.resolver.gate_scope(spec, prepared, values, channel.metrics, result)
    why = secrecy.hide(rounds.why_not(repeat, {**scope, "exit_code": exit_code, "round": count}))
    if not why:
        return None
    if repeat.max is not None and count >= repeat.max:
        error, reason = rounds.exhausted(repeat, why)
        return Failed(error=error, metrics=channel.metrics, ending=ending, reason=reason)
    if rounds.is_over(repeat, task.rounds.since, driver.now() + repeat.every):
        error, reason = rounds.timed_out(repeat, count, why)
        return TimedOut(error=error, metrics=channel.metrics, ending=ending, reason=reason)
    kept = stored if stored is not None and stored.size <= KEPT_BYTES else None
    return RoundOver(why=why, result=kept, exit_code=exit_code, metrics=channel.metrics, ending=ending)


def time_left(driver: Driver, number: int) -> timedelta | None:
    """How long the attempt that has just begun may take: its `timeout`, and what is left of its `repeat`'s."""
    spec, task = driver.run.shape.specs[number], driver.run.tasks[number]
    if spec.repeat is None or spec.repeat.timeout is None or task.rounds is None:
        return spec.timeout
    left = task.rounds.since + spec.repeat.timeout - driver.now()
    return left if spec.timeout is None else min(left, spec.timeout)


def cut_off(driver: Driver, number: int, channel: AttemptChannel, ending: Ending | None) -> Outcome | None:
    """What becomes of a task whose round was ended since the time of its `repeat` is over; None where it is not."""
    spec, task = driver.run.shape.specs[number], driver.run.tasks[number]
    if spec.repeat is None or task.rounds is None or not rounds.is_over(spec.repeat, task.rounds.since, driver.now()):
        return None
    error, reason = rounds.timed_out(spec.repeat, task.rounds.ended)
    return TimedOut(error=error, metrics=channel.metrics, ending=ending, reason=reason)


def overdue(driver: Driver, number: int) -> RepeatTimedOut | None:
    """That no further round may begin, since the time of the task's `repeat` went by while nobody looked."""
    spec, task = driver.run.shape.specs[number], driver.run.tasks[number]
    if spec.repeat is None or task.rounds is None or not rounds.is_over(spec.repeat, task.rounds.since, driver.now()):
        return None
    error, reason = rounds.timed_out(spec.repeat, task.rounds.ended)
    return RepeatTimedOut(task=spec.name, error=error, reason=reason)
