"""Which failures a retry policy is about. When to try again is the strategies' answer."""

from __future__ import annotations

from collections.abc import Collection

from flowd.core.events import Error
from flowd.core.spec import Retry

TIMEOUT = "timeout"


def named_by(names: Collection[str | int], error: Error, *, timed_out: bool, kinds: Collection[str] = ()) -> bool:
    """Whether `names` (exception names, exit codes, `timeout`) speak of this failure.

    `kinds` are the names of the exception's class and of all its bases, plain and with their
    module, so that `OSError` covers a ConnectionError.
    """
    if timed_out and TIMEOUT in names:
        return True
    if error.exit_code is not None and error.exit_code in names:
        return True
    return error.type in names or any(kind in names for kind in kinds)


def worth_trying(policy: Retry, error: Error, *, timed_out: bool, kinds: Collection[str] = ()) -> bool:
    """Whether the policy wants this failure tried again at all; `never_on` wins over `on`."""
    if named_by(policy.never_on, error, timed_out=timed_out, kinds=kinds):
        return False
    return not policy.on or named_by(policy.on, error, timed_out=timed_out, kinds=kinds)
