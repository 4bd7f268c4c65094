"""What a daemon has decided about the times and happenings that start runs: facts, and what follows from them.

House rules of this room. A fact is frozen and past tense; the agenda is the fold of all facts. The
identity of a firing is the id of its run, made of what fired and when; so a firing whose fact was lost
with the process is found again by its run, and never done twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec

_KEPT_RUNS: Final = 64
_KEPT_FACTS: Final = 200


class Fact(msgspec.Struct, frozen=True, kw_only=True, tag_field="fact", omit_defaults=True):
    """One decision about `source`, the key of a schedule or of a trigger, taken `at` a moment."""

    source: str
    at: datetime


class Seen(Fact, frozen=True, kw_only=True, tag="seen"):
    """A source is new, or its definition has changed to `digest`: times up to `at` are none of its firings."""

    digest: str


class Fired(Fact, frozen=True, kw_only=True, tag="fired"):
    """`run` was begun for the instant `time`; `mark` says what a change of the clock made of it, `why` how it came."""

    time: datetime
    run: str
    mark: str = ""
    why: str = ""


class Queued(Fact, frozen=True, kw_only=True, tag="queued"):
    """The instant `time` waits for `behind`, a run that still goes on; that one was `cancelled` for it, perhaps."""

    time: datetime
    behind: str
    cancelled: bool = False
    mark: str = ""


class Skipped(Fact, frozen=True, kw_only=True, tag="skipped"):
    """`count` instants from `time` to `last` begin no run.

    `why` is misfire, overlap, paused or refused; `sentence` says it in full.
    """

    time: datetime
    last: datetime
    why: str
    sentence: str
    count: int = 1
    behind: str = ""


class Paused(Fact, frozen=True, kw_only=True, tag="paused"):
    """A person has the source fire no more."""

    by: str


class Resumed(Fact, frozen=True, kw_only=True, tag="resumed"):
    """A person has the source fire again, from `at` on."""

    by: str


class Removed(Fact, frozen=True, kw_only=True, tag="removed"):
    """The source is declared no more; what waited of it is dropped."""


class Stepped(Fact, frozen=True, kw_only=True, tag="stepped"):
    """The wall clock has jumped by `seconds` against the awake time, or the machine has slept. `source` is empty."""

    seconds: float


class Known(Fact, frozen=True, kw_only=True, tag="known"):
    """Happenings, by their names, that are to start no run: they stood before the trigger was seen, or have fired.

    They come on top of those that were known; `anew`: in their place.
    """

    names: tuple[str, ...]
    anew: bool = False


class Stood(Fact, frozen=True, kw_only=True, tag="stood"):
    """All that was known of a source at a moment; what was told before is not needed any more."""

    digest: str
    handled: datetime | None
    paused_by: str
    runs: tuple[str, ...]
    queued: tuple[Queued, ...]
    known: tuple[str, ...]
    recent: tuple[Seen | Fired | Queued | Skipped | Paused | Resumed, ...]


AnyFact = Seen | Fired | Queued | Skipped | Paused | Resumed | Removed | Stepped | Known | Stood


class Entry:
    """What is known of one source.

    `handled` is the last instant that was decided about, `runs` the newest begun, oldest first,
    `queued` the instants that wait, oldest first, `recent` its newest facts, `known` what fires no more.
    """

    def __init__(self) -> None:
        self.digest = ""
        self.handled: datetime | None = None
        self.paused_by = ""
        self.runs: list[str] = []
        self.queued: list[Queued] = []
        self.recent: list[Seen | Fired | Queued | Skipped | Paused | Resumed] = []
        self.known: dict[str, None] = {}

    @property
    def paused(self) -> bool:
        """Whether a person has it fire no more."""
        return bool(self.paused_by)

    def stood(self, source: str, at: datetime) -> Stood:
        """All of it as one fact."""
        return Stood(
            source=source,
            at=at,
            digest=self.digest,
            handled=self.handled,
            paused_by=self.paused_by,
            runs=tuple(self.runs),
            queued=tuple(self.queued),
            known=tuple(self.known),
            recent=tuple(self.recent),
        )

    def take(self, fact: Stood) -> None:
        """Become what a fact says."""
        self.digest, self.handled, self.paused_by = fact.digest, fact.handled, fact.paused_by
        self.runs, self.queued, self.recent = list(fact.runs), list(fact.queued), list(fact.recent)
        self.known = dict.fromkeys(fact.known)


class Agenda:
    """The fold of all facts; `steps` are the newest jumps of the clock."""

    def __init__(self, facts: Iterable[AnyFact] = ()) -> None:
        self.entries: dict[str, Entry] = {}
        self.steps: list[Stepped] = []
        for fact in facts:
            self.apply(fact)

    def entry(self, source: str) -> Entry:
        """What is known of a source; an empty one where nothing is."""
        return self.entries.setdefault(source, Entry())

    def apply(self, fact: AnyFact) -> None:
        """Take a fact in."""
        if isinstance(fact, Stepped):
            self.steps = [*self.steps, fact][-_KEPT_FACTS:]
            return
        if isinstance(fact, Removed):
            self.entries.pop(fact.source, None)
            return
        entry = self.entry(fact.source)
        match fact:
            case Stood():
                entry.take(fact)
                return
            case Known():
                entry.known = dict.fromkeys(fact.names if fact.anew else (*entry.known, *fact.names))
                return
            case Seen():
                entry.digest, entry.handled = fact.digest, fact.at
            case Fired():
                entry.runs = [*(run for run in entry.runs if run != fact.run), fact.run][-_KEPT_RUNS:]
                entry.queued = [one for one in entry.queued if one.time != fact.time]
                entry.handled = _later(entry.handled, fact.time)
            case Queued():
                entry.queued = [*entry.queued, fact]
                entry.handled = _later(entry.handled, fact.time)
            case Skipped():
                entry.queued = [one for one in entry.queued if not fact.time <= one.time <= fact.last]
                entry.handled = _later(entry.handled, fact.last)
            case Paused():
                entry.paused_by = fact.by or "?"
            case Resumed():
                entry.paused_by, entry.handled = "", _later(entry.handled, fact.at)
        entry.recent = [*entry.recent, fact][-_KEPT_FACTS:]

    def facts(self, at: datetime) -> list[AnyFact]:
        """Facts that fold to the same agenda: what is kept where all that were told are too many."""
        return [*self.steps, *(entry.stood(source, at) for source, entry in self.entries.items())]


def _later(one: datetime | None, other: datetime) -> datetime:
    return other if one is None else max(one, other)
