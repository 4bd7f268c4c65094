"""What processes on one state directory share, and whether one more attempt may be let in among them.

Each engine has a page: what its attempts hold, and who of its own waits first for a limit. What is
in use is the sum over the pages of the living, so nothing can leak. An attempt is given all that it
asks for or none of it, which is why no two ever wait for each other. Of several capacities that
are known of a limit the tightest holds. Nobody passes by a waiter of another engine that is more
urgent, and who is more urgent never changes (`urgency`), so nobody starves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from flowd.core.limits import SLACK
from flowd.core.patterns import finds, folder_of
from flowd.core.spec import Rate

FORGOTTEN_S: Final = 3.0
"""Seconds after which a waiter that has not looked again, such as one of a stopped process, goes before nobody."""


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """A path that an attempt writes or reads, absolute; `glob`: it is a pattern, and names many."""

    path: str
    glob: bool = False


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt would hold while it lasts, and what it asks of others while it begins.

    `uses` are weights by limit, `capacities` and `rates` what its pipeline says of these; `writes`
    are held, `reads` only looked at. `urgency`: the least goes first.
    """

    run: str
    task: str
    uses: Mapping[str, float] = {}
    capacities: Mapping[str, float] = {}
    rates: Mapping[str, Rate] = {}
    reads: tuple[Place, ...] = ()
    writes: tuple[Place, ...] = ()
    urgency: float = 0.0


class Hold(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one attempt holds, since when."""

    run: str
    task: str
    since: datetime
    uses: dict[str, float] = {}
    capacities: dict[str, float] = {}
    writes: tuple[Place, ...] = ()


class Want(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first of an engine's waiters for a limit; a `capacity` of None: it knows of none."""

    limit: str
    run: str
    task: str
    weight: float
    urgency: float
    capacity: float | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one engine holds and wants; it last looked at `looked`, in seconds since 1970."""

    pid: int
    holds: tuple[Hold, ...] = ()
    wants: tuple[Want, ...] = ()
    looked: float = 0.0


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why an attempt has to wait: `what` is a limit or a path, `by` are run and task that stand in the way.

    `until` is the moment at which a rate allows the next start; `place` the path that is asked for.
    """

    code: str
    what: str
    by: tuple[str, str] | None = None
    until: datetime | None = None
    place: Place | None = None


def urgency(priority: float, since: datetime) -> float:
    """Where a task that waits since then stands among those of other engines: a minute is worth one of priority."""
    return since.timestamp() / 60 - priority


# --- limits ------------------------------------------------------------------------------------


def tightest(limit: str, own: float | None, pages: Iterable[Page]) -> float:
    """The least of the capacities that are known of a limit; infinite where there is none."""
    found = math.inf if own is None else own
    for page in pages:
        for hold in page.holds:
            if limit in hold.uses:
                found = min(found, hold.capacities.get(limit, found))
        for want in page.wants:
            if want.limit == limit and want.capacity is not None:
                found = min(found, want.capacity)
    return found


def used(limit: str, pages: Iterable[Page]) -> float:
    """How much of a limit is held: the sum over its holders."""
    return sum(hold.uses.get(limit, 0.0) for page in pages for hold in page.holds)


def limit_refusal(want: Want, mine: Sequence[Page], others: Sequence[Page], now: datetime) -> Refusal | None:
    """Why so much of a limit cannot be had now: it is full, or another engine's waiter goes first."""
    for page in others:
        if now.timestamp() - page.looked > FORGOTTEN_S:
            continue
        for ahead in page.wants:
            if ahead.limit == want.limit and ahead.urgency < want.urgency:
                return Refusal(code="limit_full", what=want.limit, by=(ahead.run, ahead.task))
    pages = [*mine, *others]
    bound = tightest(want.limit, want.capacity, pages)
    if bound == math.inf:
        return None
    if used(want.limit, pages) + min(want.weight, bound) <= bound * SLACK:
        return None
    holder = next(((h.run, h.task) for page in (*others, *mine) for h in page.holds if want.limit in h.uses), None)
    return Refusal(code="limit_full", what=want.limit, by=holder)


# --- rates -------------------------------------------------------------------------------------


def next_start(starts: Sequence[float], rate: Rate, now: float) -> float:
    """When the next start may be, in seconds since 1970: in no `per` are there more than `count`.

    A start that is recorded for later than now (the clock was set back) counts as one of now.
    """
    if len(starts) < rate.count:
        return now
    oldest = sorted((min(start, now) for start in starts), reverse=True)[rate.count - 1]
    return max(now, oldest + rate.per.total_seconds())


def rate_refusal(limit: str, rate: Rate, starts: Sequence[float], now: datetime) -> Refusal | None:
    """Why nothing may start under a rate now."""
    wait = next_start(starts, rate, now.timestamp()) - now.timestamp()
    if wait <= 0:
        return None
    return Refusal(code="rate", what=limit, until=now + timedelta(seconds=wait))


# --- paths -------------------------------------------------------------------------------------


def path_refusal(run: str, places: Sequence[Place], pages: Iterable[Page]) -> Refusal | None:
    """Which of these paths an attempt of another run writes now."""
    for page in pages:
        for hold in page.holds:
            if hold.run == run:
                continue
            for written in hold.writes:
                for place in places:
                    if overlap(place, written):
                        return Refusal(code="path_busy", what=place.path, by=(hold.run, hold.task), place=place)
    return None


def overlap(one: Place, other: Place) -> bool:
    """Whether two paths may name one file; of two globs, whether one looks into the folder of the other."""
    if one.glob and other.glob:
        return one.path == other.path or _within(folder_of(one.path), folder_of(other.path))
    if one.glob:
        one, other = other, one
    if other.glob:
        folder = folder_of(other.path)
        return finds(other.path, one.path) or folder == one.path or folder.startswith(one.path.rstrip("/") + "/")
    return _within(one.path, other.path)


def _within(one: str, other: str) -> bool:
    return one == other or one.startswith(other.rstrip("/") + "/") or other.startswith(one.rstrip("/") + "/")


def refusal(
    claim: Claim, mine: Page, others: Sequence[Page], starts: Mapping[str, Sequence[float]], now: datetime
) -> Refusal | None:
    """Why an attempt has to wait, if it has to; `starts` are those recorded under each rate."""
    for want in wants_of(claim):
        if found := limit_refusal(want, [mine], others, now):
            return found
    if found := path_refusal(claim.run, (*claim.reads, *claim.writes), (mine, *others)):
        return found
    for limit, rate in claim.rates.items():
        if found := rate_refusal(limit, rate, starts.get(limit, ()), now):
            return found
    return None


def wants_of(claim: Claim) -> list[Want]:
    """What a claim asks of each limit."""
    return [
        Want(
            limit=limit,
            run=claim.run,
            task=claim.task,
            weight=weight,
            urgency=claim.urgency,
            capacity=claim.capacities.get(limit),
        )
        for limit, weight in claim.uses.items()
    ]


def hold_of(claim: Claim, now: datetime) -> Hold:
    """What an attempt holds once it is let in."""
    capacities = {limit: claim.capacities[limit] for limit in claim.uses if limit in claim.capacities}
    uses = {limit: min(weight, capacities.get(limit, weight)) for limit, weight in claim.uses.items()}
    return Hold(run=claim.run, task=claim.task, since=now, uses=uses, capacities=capacities, writes=claim.writes)
