"""Whether a task has to run again: pure judgement over evidence that others gathered.

A fingerprint is a mapping from the name of each part to a digest. Parts are named so that a
change can be told in words: `action`, `code:PATH`, `with`, `env`, `input:PATH`, `need:TASK`.
A part that is the same stops a change from spreading further (early cut-off): what counts of
a need is its product, never whether it ran.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from flowd.core.events import Artifact, Reason, Stored
from flowd.core.reasons import because
from flowd.core.spec import TaskSpec


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is recorded of a task's newest success, as far as judgement needs it; `refused`: its gate failed since."""

    run: str
    at: datetime
    parts: Mapping[str, str]
    touched: bool = False
    refused: bool = False


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """How the world stands now: today's parts, and what became of the recorded outputs.

    `missing` and `altered` are output paths as written; `unknown` says what kept a part from being
    computed, which is reason enough to run.
    """

    parts: Mapping[str, str]
    missing: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    unknown: str | None = None


class Verdict(msgspec.Struct, frozen=True):
    """Whether the task is fresh, and why or why not; `warnings` are of gates that only warn."""

    fresh: bool
    reason: Reason
    warnings: tuple[str, ...] = ()


def product(result: Stored | None, outputs: tuple[Artifact, ...]) -> str:
    """What a task gives to those that need it; empty for one that only orders.

    Where an output is marked as the checkpoint, it alone speaks for the files.
    """
    parts = [result.digest] if result is not None else []
    parts += [f"{artifact.path}={artifact.digest}" for artifact in outputs if artifact.checkpoint]
    return "\n".join(parts)


def judge(
    task: TaskSpec,
    known: Known | None,
    evidence: Evidence,
    *,
    now: datetime,
    forced: bool = False,
    by_clock: bool = False,
) -> Verdict:
    """Fresh, or the first reason why not, in the order in which a person would look.

    `by_clock` is true for runs started by a schedule or a trigger: a source (no inputs, no
    needs) is then fresh only within its `fresh_for`.
    """
    if forced:
        return _stale("forced")
    if not task.cache:
        return _stale("not_cached.off" if task.outputs else "not_cached")
    if known is None:
        return _stale("no_checkpoint")
    if known.refused:
        return _stale("gate_failed.before", run=known.run)
    if evidence.missing:
        return _stale("output_missing", path=evidence.missing[0])
    if evidence.altered:
        return _stale("output_changed", path=evidence.altered[0])
    if task.fresh_for is not None and now - known.at > task.fresh_for:
        return _stale("expired", fresh_for=_words(task.fresh_for))
    if by_clock and task.fresh_for is None and not task.inputs and not task.needs:
        return _stale("source")
    if not known.touched:
        if evidence.unknown is not None:
            return _stale("unknown", error=evidence.unknown)
        change = _difference(known.parts, evidence.parts)
        if change is not None:
            return Verdict(fresh=False, reason=change)
    return Verdict(fresh=True, reason=because("fresh", run=known.run))


def _stale(key: str, **facts: str) -> Verdict:
    return Verdict(fresh=False, reason=because(key, **facts))


_CODES = {"code": "code_changed", "input": "input_changed", "need": "upstream_changed", "env": "env_changed"}
_CODES |= {"action": "action_changed", "with": "with_changed", "param": "params_changed"}


def _difference(then: Mapping[str, str], now: Mapping[str, str]) -> Reason | None:
    for name in sorted(then.keys() | now.keys()):
        if then.get(name) == now.get(name):
            continue
        kind, _, subject = name.partition(":")
        change = "changed" if name in then and name in now else "is new" if name in now else "is gone"
        return because(_CODES.get(kind, "changed"), part=name, subject=subject, change=change)
    return None


def _words(duration: timedelta) -> str:
    seconds = duration.total_seconds()
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"
