"""Who of those that are ready may start: priority, the critical path, and named limits.

Use of a limit is never counted up and down: it is the sum over those that hold it, so nothing
can leak. What waits for a full limit is kept beside that limit and looked at again only when
something that held it has ended, so a thousand waiters cost nothing while they wait.

Nobody starves. A waiting task gains one unit of priority a minute over those that become ready
later: as waits grow alike for all, the order of two never changes, nothing has to be sorted again,
and only finitely many can ever go first. The most urgent waiter of a limit goes first there; who
waits for several takes all or none, and once it has waited for RESERVES_AFTER nobody less urgent
takes any of them. What other processes hold is told from outside (`elsewhere`).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from heapq import heappop, heappush
from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)
"""What names a candidate: the engine uses (run id, task)."""

SLACK = 1 + 1e-9
"""Ten tenths are one, whatever floats make of it."""

RESERVES_AFTER = 300.0
"""Seconds that a waiter for several limits has waited when it begins to keep them from the less urgent."""

_UNIT_S = 60.0  # a wait of this length is worth one unit of priority


class Candidate(NamedTuple, Generic[Key]):
    """Something that would like to start, with the weight it puts on each limit.

    A tuple, since tuples compare fastest: the least is the most urgent, no two have one `arrival`,
    and so nothing behind it is ever compared.
    """

    aged: float  # the minute since which it is ready, less its priority
    minus_rank: float
    arrival: int
    key: Key
    uses: Mapping[Hashable, float]
    since: float = 0.0


class Admission(Generic[Key]):
    """The candidates of all runs, those that hold capacity, and what each limit can bear.

    A limit without a capacity is unlimited; a weight over the capacity takes all of it. The most
    urgent waiter of a limit goes first even where a lighter one behind it would fit: a heavy task
    is never starved.
    """

    def __init__(self) -> None:
        self.capacity: dict[Hashable, float] = {}
        self._open: list[Candidate[Key]] = []
        self._parked: dict[Hashable, list[Candidate[Key]]] = {}
        self._stirred: set[Hashable] = set()
        self._holders: dict[Hashable, dict[int, tuple[Key, float]]] = {}  # by arrival
        self._elsewhere: dict[Hashable, tuple[float, float]] = {}  # used, and the tightest capacity that is known
        self._reserving: dict[Hashable, list[Candidate[Key]]] = {}  # waiters for several, at each of their limits
        self._several: set[int] = set()  # those of them that still wait, by arrival
        self._arrivals = 0

    def offer(
        self,
        key: Key,
        *,
        priority: float,
        rank: float,
        uses: Mapping[Hashable, float],
        since: float = 0.0,
        waits_since: float | None = None,
    ) -> None:
        """Let `key` compete for a start, ready `since` so many seconds; among equals the first to arrive goes first.

        `waits_since` is what its age is counted from, where that is another moment.
        """
        self._arrivals += 1
        age = (since if waits_since is None else waits_since) // _UNIT_S - priority
        heappush(self._open, Candidate(age, -rank, self._arrivals, key, uses, since))

    def take(self, now: float = 0.0) -> Candidate[Key] | None:
        """The most urgent candidate that fits, which from now on holds what it uses; else None."""
        while (heap := self._most_urgent()) is not None:
            candidate = heappop(heap)
            blocking = self._blocking(candidate, now) if candidate.uses else None
            if blocking is None:
                for limit, weight in candidate.uses.items():
                    held = min(weight, self._bound(limit) or weight)
                    self._holders.setdefault(limit, {})[candidate.arrival] = (candidate.key, held)
                if candidate.arrival in self._several:
                    self._several.remove(candidate.arrival)
                    self._stirred.update(limit for limit in candidate.uses if self._parked.get(limit))
                return candidate
            heappush(self._parked.setdefault(blocking, []), candidate)
            self._note_several(candidate)
            if heap is self._parked[blocking]:
                self._stirred.discard(blocking)
        return None

    def release(self, candidate: Candidate[Key]) -> None:
        """What was taken has ended and holds nothing any more."""
        for limit in candidate.uses:
            holders = self._holders.get(limit, {})
            holders.pop(candidate.arrival, None)
            if not holders:
                self._holders.pop(limit, None)
            if self._parked.get(limit):
                self._stirred.add(limit)

    def elsewhere(self, limit: Hashable, used: float = 0.0, capacity: float = math.inf) -> None:
        """Other processes use so much of `limit`, and the tightest capacity there is this; infinite use closes it."""
        if used or capacity != math.inf:
            self._elsewhere[limit] = used, capacity
        else:
            self._elsewhere.pop(limit, None)
        if self._parked.get(limit):
            self._stirred.add(limit)

    def resize(self, limit: Hashable, capacity: float | None) -> None:
        """Give `limit` another capacity (None: unlimited); holders keep what they have."""
        if capacity is None:
            self.capacity.pop(limit, None)
        else:
            self.capacity[limit] = capacity
        if self._parked.get(limit):
            self._stirred.add(limit)

    def drop(self, limit: Hashable) -> None:
        """Forget a limit that no candidate names any more."""
        self.capacity.pop(limit, None)
        self._parked.pop(limit, None)
        self._holders.pop(limit, None)
        self._elsewhere.pop(limit, None)
        self._reserving.pop(limit, None)
        self._stirred.discard(limit)

    def in_use(self, limit: Hashable) -> float:
        """How much of `limit` is held: the sum over its holders."""
        return sum(weight for _, weight in self._holders.get(limit, {}).values())

    def holders(self, limit: Hashable) -> list[tuple[Key, float]]:
        """Who holds how much of `limit`; one that was abandoned and begun again holds it twice."""
        return list(self._holders.get(limit, {}).values())

    def waiters(self, limit: Hashable) -> list[tuple[Key, float]]:
        """Who waits for how much of `limit`, the next one first."""
        return [(candidate.key, candidate.uses[limit]) for candidate in sorted(self._parked.get(limit, ()))]

    def first(self, limit: Hashable) -> Candidate[Key] | None:
        """The waiter of `limit` that goes first; None where nobody waits there."""
        parked = self._parked.get(limit)
        return parked[0] if parked else None

    def parked(self) -> list[tuple[Hashable, Candidate[Key]]]:
        """All that wait, each with the limit that it waits for."""
        return [(limit, candidate) for limit, parked in self._parked.items() for candidate in parked]

    def limits(self) -> list[Hashable]:
        """Every limit that has a capacity or a holder, in the order in which they came."""
        held = [limit for limit, holders in self._holders.items() if holders and limit not in self.capacity]
        return [*self.capacity, *held]

    def _most_urgent(self) -> list[Candidate[Key]] | None:
        best = self._open or None
        for limit in self._stirred:
            parked = self._parked[limit]
            if parked and (best is None or parked[0] < best[0]):
                best = parked
        return best

    def _bound(self, limit: Hashable) -> float | None:
        """The tightest capacity that is known, here or elsewhere; None: there is none."""
        own, elsewhere = self.capacity.get(limit), self._elsewhere.get(limit)
        if elsewhere is None or elsewhere[1] == math.inf:
            return own
        return elsewhere[1] if own is None else min(own, elsewhere[1])

    def _blocking(self, candidate: Candidate[Key], now: float) -> Hashable | None:
        for limit, weight in candidate.uses.items():
            bound, (used, _) = self._bound(limit), self._elsewhere.get(limit, _NOTHING)
            if bound is None:
                if used == math.inf:
                    return limit
                continue
            parked = self._parked.get(limit)
            if parked and parked[0] < candidate:  # it waits for this very limit, and would be passed by
                return limit
            if bound <= 0 or self.in_use(limit) + used + min(weight, bound) > bound * SLACK:
                return limit
            if limit in self._reserving and self._is_kept(limit, candidate, now):
                return limit
        return None

    def _note_several(self, candidate: Candidate[Key]) -> None:
        """A waiter for several named limits will keep them, should it wait for long; a run's own bound is no such."""
        named = [limit for limit in candidate.uses if isinstance(limit, str)]
        if len(named) > 1 and candidate.arrival not in self._several:
            self._several.add(candidate.arrival)
            for limit in named:
                heappush(self._reserving.setdefault(limit, []), candidate)

    def _is_kept(self, limit: Hashable, candidate: Candidate[Key], now: float) -> bool:
        heap = self._reserving[limit]
        while heap and heap[0].arrival not in self._several:
            heappop(heap)
        if not heap:
            del self._reserving[limit]
            return False
        return heap[0] < candidate and now - heap[0].since >= RESERVES_AFTER


_NOTHING = (0.0, math.inf)
