"""When to try again: tenacity's strategies answer, whether ours or a user's own.

The policy is data; the strategies are made from it after a first failure and never before, and
tenacity's own loop is not used: its answer goes into the stimulus, and the journal keeps it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from flowd.core.events import Error
from flowd.core.retry import worth_trying
from flowd.core.spec import Retry
from flowd.core.stimuli import Again

if TYPE_CHECKING:
    from tenacity import RetryCallState

Strategy = Callable[["RetryCallState"], Any]
Strategies = tuple[Strategy | None, Strategy | None, Strategy | None]
"""A user's own stop, wait and retry objects of tenacity; None: made from the policy."""


def answer(
    policy: Retry | None,
    strategies: Strategies | None,
    *,
    tries: int,
    elapsed: timedelta,
    failure: BaseException,
    error: Error,
    timed_out: bool,
) -> Again | None:
    """Whether and when an attempt that failed just now is followed by another.

    `tries` counts the attempts so far, `elapsed` is the time since the first of them began.
    """
    if policy is None:
        return None
    stop, wait, retry = strategies or (None, None, None)
    state = _call_state(tries, elapsed, failure)
    kinds = [
        name for kind in type(failure).__mro__ for name in (kind.__name__, f"{kind.__module__}.{kind.__qualname__}")
    ]
    if not (retry(state) if retry else worth_trying(policy, error, timed_out=timed_out, kinds=kinds)):
        return None
    if (stop or _stop(policy))(state):
        return None
    delay = timedelta(seconds=float((wait or _wait(policy))(state)))
    if policy.max_elapsed is not None and elapsed + delay > policy.max_elapsed:
        return None
    return Again(delay=delay)


def _call_state(tries: int, elapsed: timedelta, failure: BaseException) -> RetryCallState:
    from tenacity import Future, RetryCallState, Retrying

    state = RetryCallState(retry_object=Retrying(), fn=None, args=(), kwargs={})
    state.attempt_number = tries
    outcome: Future = Future(tries)
    outcome.set_exception(failure)
    state.outcome = outcome
    state.outcome_timestamp = state.start_time + elapsed.total_seconds()
    return state


def _stop(policy: Retry) -> Strategy:
    from tenacity import stop_after_attempt

    return stop_after_attempt(policy.attempts)


def _wait(policy: Retry) -> Strategy:
    import tenacity

    delay = policy.delay.total_seconds()
    most = policy.max_delay.total_seconds() if policy.max_delay is not None else timedelta(days=365).total_seconds()
    wait: Any
    if policy.backoff == "linear":
        wait = tenacity.wait_incrementing(start=delay, increment=delay, max=most)
    elif policy.backoff == "exponential":
        wait = tenacity.wait_exponential(multiplier=delay, max=most)
    else:
        wait = tenacity.wait_fixed(min(delay, most))
    if policy.jitter:
        wait = wait + tenacity.wait_random(0, policy.jitter.total_seconds())
    return wait  # type: ignore[no-any-return]  # tenacity's sums are untyped
