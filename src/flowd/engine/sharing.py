"""What attempts of this engine share with those of others: limits, rates, and the paths that they write.

The admission decides among this engine's own; who passes there asks the table, just before the
attempt looks at its files and begins. What is refused is closed in the admission until a look at
the table finds it open, so that a thousand waiters ask once. Nobody looks while nobody waits.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio

from flowd.core.claims import (
    Claim,
    Page,
    Place,
    Refusal,
    Want,
    limit_refusal,
    path_refusal,
    rate_refusal,
    tightest,
    used,
)
from flowd.core.limits import Admission, Candidate
from flowd.core.patterns import Glob
from flowd.core.spec import Rate
from flowd.engine.timers import Timers
from flowd.ports.clock import Clock
from flowd.ports.lock_table import LockTable

if TYPE_CHECKING:
    from flowd.engine.driver import Driver
    from flowd.engine.files import Files
    from flowd.engine.prepare import Prepared

PERIOD = 0.05
"""Seconds between two looks at the table while somebody waits for what another process holds."""

LONG_PERIOD = 1.0
"""The same where nothing but a rate is waited for: its moment is known."""

CLOSED = float("inf")


class BusyPath(NamedTuple):
    """A path that the tasks of one run wait for, as a limit of the admission."""

    run: str
    place: Place


class Sharing:
    """One engine's dealings with the table; `wake` is told how many candidates may have become startable.

    `idle` says whether a worker is free: who could not begin anyhow keeps nobody else waiting.
    """

    def __init__(
        self,
        table: LockTable,
        admission: Admission[Any],
        timers: Timers,
        clock: Clock,
        wake: Callable[[int], None],
        idle: Callable[[], bool],
    ) -> None:
        self.rates: dict[str, Rate] = {}
        self._table = table
        self._admission = admission
        self._timers = timers
        self._clock = clock
        self._wake = wake
        self._idle = idle
        self._refused: dict[Hashable, Refusal | None] = {}  # None: it is open in part
        self._some = anyio.Event()
        self._news = anyio.Event()

    async def enter(self, driver: Driver, number: int, prepared: Prepared) -> int | None:
        """The hold of an attempt that is about to begin, or None where it waits: it will be offered again.

        Raises StorageFailing where what it holds cannot be recorded.
        """
        answer = await self._table.claim(self._claim(driver, number, prepared), self._clock.now())
        if isinstance(answer, int):  # nothing is awaited from here on: a hold is never lost
            return answer
        closed: BusyPath | None = None
        if answer.place is not None:
            closed = BusyPath(driver.run.id, answer.place)
            self._admission.resize(closed, 0)
            self._refused[closed] = answer
        else:
            self._admission.elsewhere(answer.what, CLOSED)
            self._refused[answer.what] = answer
            self._look_at(answer)
        driver.wait_for(number, closed)
        self._some.set()
        return None

    def leave(self, hold: int) -> None:
        """An attempt has ended: what it held is free."""
        self._table.free(hold)
        if self._refused:
            self._look_now()

    def leave_after(self, hold: int, left_running: Awaitable[object] | None) -> Awaitable[object] | None:
        """As `leave`; but what goes on by itself keeps it until it has ended, which is then to be awaited."""
        if left_running is None:
            self.leave(hold)
            return None

        async def until_ended() -> None:
            await left_running  # where the engine ends meanwhile, it is held as long as this process lives
            self.leave(hold)

        return until_ended()

    def refusal_of(self, limit: Hashable) -> Refusal | None:
        """Why others keep `limit` closed, where they do."""
        return self._refused.get(limit)

    async def pages(self) -> tuple[Page, list[Page]]:
        """Who holds and waits, here and elsewhere."""
        return await self._table.look(self._wants(), self._clock.now())

    async def run(self) -> None:
        """Look again and again while something is closed, for ever; ended by cancellation."""
        while True:
            await self._some.wait()
            self._some = anyio.Event()
            while self._refused:
                timed = all(found is not None and found.until is not None for found in self._refused.values())
                with anyio.move_on_after(LONG_PERIOD if timed else PERIOD):
                    await self._news.wait()
                self._news = anyio.Event()
                await self.run_once()

    async def run_once(self) -> None:
        """Open what is free again."""
        now = self._clock.now()
        mine, others = await self._table.look(self._wants(), now)
        for limit in list(self._refused):
            if isinstance(limit, BusyPath):
                found = path_refusal(limit.run, [limit.place], [mine, *others])
                self._refused[limit] = found
                if found is None:
                    del self._refused[limit]
                    self._admission.resize(limit, None)
                    self._wake(1)
                continue
            assert isinstance(limit, str)
            await self._look_at_limit(limit, mine, others)

    async def _look_at_limit(self, limit: str, mine: Page, others: list[Page]) -> None:
        now, first = self._clock.now(), self._admission.first(limit)
        if first is None:  # nobody waits: who comes next asks anew
            del self._refused[limit]
            self._admission.elsewhere(limit)
            return
        want = self._want(limit, first)
        found = limit_refusal(want, [mine], others, now)
        if found is None and limit in self.rates:
            found = rate_refusal(limit, self.rates[limit], await self._table.starts(limit), now)
        if found is not None:
            self._refused[limit] = found
            self._admission.elsewhere(limit, CLOSED)
            self._look_at(found)
            return
        self._refused[limit] = None
        self._admission.elsewhere(limit, used(limit, others), tightest(limit, None, others))
        self._wake(len(self._admission.waiters(limit)))

    # --- within --------------------------------------------------------------------------------------

    def _look_at(self, refusal: Refusal) -> None:
        """Look at the very moment at which a rate allows the next start."""
        if refusal.until is not None:
            left = (refusal.until - self._clock.now()).total_seconds()
            self._timers.after(left, self._look_now)

    def _look_now(self) -> None:
        self._news.set()

    def _claim(self, driver: Driver, number: int, prepared: Prepared) -> Claim:
        spec, files = driver.run.shape.specs[number], driver.survey.files
        uses: Mapping[str, float] = spec.uses
        capacity = self._admission.capacity
        return Claim(
            run=driver.run.id,
            task=spec.name,
            uses=uses,
            capacities={limit: capacity[limit] for limit in uses if limit in capacity},
            rates={limit: self.rates[limit] for limit in uses if limit in self.rates},
            reads=tuple(_place(files, path) for path in prepared.inputs),
            writes=tuple(_place(files, path) for _, path in prepared.outputs),
            urgency=driver.urgency(number),
        )

    def _wants(self) -> list[Want]:
        """Who waits first for each limit that others may hold; nobody while no worker is free."""
        if not self._idle():
            return []
        wants = []
        for limit in self._refused:
            first = self._admission.first(limit)
            if isinstance(limit, str) and first is not None:
                wants.append(self._want(limit, first))
        return wants

    def _want(self, limit: str, candidate: Candidate[Any]) -> Want:
        driver, number = candidate.key
        spec = driver.run.shape.specs[number]
        return Want(
            limit=limit,
            run=driver.run.id,
            task=spec.name,
            weight=candidate.uses[limit],
            urgency=driver.urgency(number),
            capacity=self._admission.capacity.get(limit),
        )


def _place(files: Files, written: str) -> Place:
    if isinstance(written, Glob):
        return Place(path=files.pattern(written), glob=True)
    return Place(path=files.place(written))
