"""Which runs are kept, and why each of the others goes.

House rules of this room. A run that has not ended, that somebody goes on with, or that a checkpoint needs is
kept whatever the policy says, and so is the newest of its pipeline. Runs that are tasks of others stay and go
with those. What is decided depends on what is given alone; decided again about what is left, nothing more goes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from flowd.core.declared import Retention
from flowd.core.frozen import Spec
from flowd.core.lineage import MARK

DEFAULT: Final = Retention(runs=100)
"""What holds where neither a pipeline nor a configuration says anything."""


class Kept(Spec, frozen=True, kw_only=True):
    """A run as far as its keeping goes.

    `pipeline` is what it is one of, `size` in bytes, `moment` when it was last written to; `open`: it has not
    ended, or somebody goes on with it.
    """

    run: str
    pipeline: str
    moment: datetime
    size: int
    open: bool = False


class Gone(Spec, frozen=True, kw_only=True):
    """A run that is to go, and why."""

    run: str
    pipeline: str
    moment: datetime
    size: int
    why: str


def decide(
    runs: Iterable[Kept], needed: Collection[str], policies: Mapping[str, Retention], now: datetime
) -> list[Gone]:
    """The runs that go, oldest first within each pipeline; `policies` are by pipeline, `needed` by checkpoints."""
    families: dict[str, list[Kept]] = {}
    for run in runs:
        families.setdefault(run.run.partition(MARK)[0], []).append(run)
    by_pipeline: dict[str, list[list[Kept]]] = {}
    for root, members in families.items():
        members.sort(key=lambda one: one.run != root)  # the outermost first, which then goes last
        by_pipeline.setdefault(members[0].pipeline, []).append(members)
    gone: list[Gone] = []
    for pipeline, found in sorted(by_pipeline.items()):
        policy = policies.get(pipeline, DEFAULT)
        found.sort(key=lambda members: (_moment(members), members[0].run), reverse=True)
        gone += reversed(_of_pipeline(found, needed, policy, now))
    return gone


def _of_pipeline(
    found: Sequence[Sequence[Kept]], needed: Collection[str], policy: Retention, now: datetime
) -> list[Gone]:
    gone: list[Gone] = []
    size = 0
    for place, members in enumerate(found):
        own = sum(one.size for one in members)
        why = _reason(place, size + own, _moment(members), policy, now)
        if why is None or place == 0 or any(one.open or one.run in needed for one in members):
            size += own
            continue
        gone += [Gone(run=one.run, pipeline=one.pipeline, moment=one.moment, size=one.size, why=why) for one in members]
    return gone


def _reason(place: int, size: int, moment: datetime, policy: Retention, now: datetime) -> str | None:
    if policy.runs is not None and place >= policy.runs:
        return f"{policy.runs} newer runs are kept"
    if policy.age is not None and moment < now - policy.age:
        return f"it is older than {_days(policy)}"
    if policy.size is not None and size > policy.size:
        return f"newer runs fill {policy.size} bytes"
    return None


def _moment(members: Sequence[Kept]) -> datetime:
    return max(one.moment for one in members)


def _days(policy: Retention) -> str:
    from flowd.core.durations import format_duration

    assert policy.age is not None
    return format_duration(policy.age)
