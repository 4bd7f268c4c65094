"""Who of those that are ready may start: priority, the critical path, and named limits.

Use of a limit is never counted up and down: it is the sum over those that hold it, so nothing
can leak. What waits for a full limit is kept beside that limit and looked at again only when
something that held it has ended, so a thousand waiters cost nothing while they wait.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from heapq import heappop, heappush
from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key", bound=Hashable)
"""What names a candidate: the engine uses (run id, task)."""

_SLACK = 1 + 1e-9  # ten tenths are one, whatever floats make of it


class Candidate(NamedTuple, Generic[Key]):
    """Something that would like to start, with the weight it puts on each limit.

    A tuple, since tuples compare fastest: the least is the most urgent, no two have one `arrival`,
    and so nothing behind it is ever compared.
    """

    minus_priority: float
    minus_rank: float
    arrival: int
    key: Key
    uses: Mapping[Hashable, float]


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
        self._arrivals = 0

    def offer(self, key: Key, *, priority: float, rank: float, uses: Mapping[Hashable, float]) -> None:
        """Let `key` compete for a start; among equals the first to arrive goes first."""
        self._arrivals += 1
        heappush(self._open, Candidate(-priority, -rank, self._arrivals, key, uses))

    def take(self) -> Candidate[Key] | None:
        """The most urgent candidate that fits, which from now on holds what it uses; else None."""
        while (heap := self._most_urgent()) is not None:
            candidate = heappop(heap)
            blocking = self._blocking(candidate)
            if blocking is None:
                for limit, weight in candidate.uses.items():
                    held = min(weight, self.capacity.get(limit, weight))
                    self._holders.setdefault(limit, {})[candidate.arrival] = (candidate.key, held)
                return candidate
            heappush(self._parked.setdefault(blocking, []), candidate)
            if heap is self._parked[blocking]:
                self._stirred.discard(blocking)
        return None

    def release(self, candidate: Candidate[Key]) -> None:
        """What was taken has ended and holds nothing any more."""
        for limit in candidate.uses:
            self._holders.get(limit, {}).pop(candidate.arrival, None)
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

    def _blocking(self, candidate: Candidate[Key]) -> Hashable | None:
        for limit, weight in candidate.uses.items():
            bound = self.capacity.get(limit)
            if bound is None:
                continue
            parked = self._parked.get(limit)
            if parked and parked[0] < candidate:  # it waits for this very limit, and would be passed by
                return limit
            if bound <= 0 or self.in_use(limit) + min(weight, bound) > bound * _SLACK:
                return limit
        return None
