"""Ends the task processes of owners that are dead, where their guardians have died with them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

import anyio
import anyio.to_thread

from flowd.guardian import processes, strays

_PATIENCE = 2.0
"""Seconds that a living guardian has to do it itself: it writes down what they still say."""
_MOST = 10.0


Owning = Callable[[], Collection[str]]
"""The incarnations of those who hold a run now."""


async def end_leftovers(incarnations: Sequence[str], owning: Owning = tuple) -> None:
    """Return when no process lives that an engine of these incarnations began, or SIGKILL does not end it.

    Those who live are left alone, and those of another PID namespace, whom nobody here can tell
    dead. So is who holds a run, whatever is to be seen of it.
    """
    await anyio.to_thread.run_sync(end_at_once, incarnations, owning)


def end_at_once(incarnations: Sequence[str], owning: Owning = tuple) -> None:
    """As `end_leftovers`, blocking."""
    # one that lives let go of this run in order, and has others
    ahead = [incarnation for incarnation in incarnations if not processes.engine_lives(incarnation)]
    began = time.monotonic()
    while ahead := [mark for mark in ahead if not _ended(mark)]:
        waited = time.monotonic() - began
        held = owning()  # anew: an heir who has the lock writes its own name a moment later
        ours = [mark for mark in ahead if mark not in held]
        if waited > (_MOST if ours else _PATIENCE):
            return
        for mark in ours:
            if waited > _PATIENCE or not strays.guardians_of(mark):
                strays.kill(mark)
        time.sleep(0.02)


def _ended(mark: str) -> bool:
    """Whether nothing of an incarnation lives; then its group goes too, unless its guardian is about to."""
    if strays.left_by(mark):
        return False
    strays.tidy(mark)
    return True


def survivors(incarnations: Collection[str]) -> dict[str, set[int]]:
    """The processes that engines of these incarnations began and that have outlived them."""
    return strays.left_by_each([mark for mark in incarnations if not processes.engine_lives(mark)])


def elsewhere(incarnations: Collection[str]) -> dict[str, set[int]]:
    """The processes, as seen from here, of engines that are in other PID namespaces."""
    return strays.left_by_each([mark for mark in incarnations if processes.is_elsewhere(mark)])
