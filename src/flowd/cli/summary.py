"""The end of a run in a few lines: how it went, what failed and why, and what to type next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from flowd.cli.screen import Line, failure_text
from flowd.cli.wording import age_text, duration_text, size_text, tasks_text
from flowd.core import states as s
from flowd.core.answers import VERDICT, open_commands
from flowd.core.items import name_of
from flowd.core.lineage import parent_of
from flowd.core.run import RunState
from flowd.core.views import INTERRUPTED, WAITING, shown_state, warnings

MOST_FAILURES = 10

Ended = Callable[[str], datetime | None]
"""When another run ended, where that is known."""

ALLOWED = "allowed"
"""What is counted of a failure that its task's `allow_failure` allows."""

_COUNTED = (
    (s.SUCCEEDED, "ran"),
    (s.SERVING, "serving"),
    (s.PARTIAL, "partial"),
    (s.FRESH, "fresh"),
    (s.SKIPPED, "skipped"),
    (s.FAILED, "failed"),
    (s.TIMED_OUT, "timed out"),
    (ALLOWED, "allowed to fail"),
    (s.ABANDONED, "abandoned"),
    (s.UPSTREAM_FAILED, "did not run"),
    (s.CANCELLED, "cancelled"),
    (s.UNCERTAIN, "uncertain"),
    (s.WAITING, "waiting"),
    (s.PENDING, "to go"),
    (s.RETRYING, "to be tried again"),
)
_MOODS = {"succeeded": "good", "failed": "bad"}
_WIDE = 47


def summary(run: RunState, status: str, *, seconds: float, now: datetime, ended: Ended, flags: str = "") -> list[Line]:
    """The closing lines of a run that stands at `status` after `seconds` of this command.

    `flags` is what commands to type next need besides the run, such as `--state-dir D`.
    """
    lines = _all_fresh(run, now, ended)
    lines = lines or [Line("")]
    counts = Counter(ALLOWED if task.allowed else shown_state(task) for _, task in run.own())
    told = [f"{counts[state]} {word}" for state, word in _COUNTED if counts[state] or state == s.SUCCEEDED]
    lead = f"{status} {'in' if run.state in s.RUN_ENDED else 'after'} {duration_text(seconds)}   {', '.join(told)}"
    if status == s.RUN_SUCCEEDED and counts[s.FRESH] and not counts[s.SUCCEEDED]:
        lead = f"{lead:<{_WIDE}}(--force runs them anyway)"
    lines.append(Line(lead, _MOODS.get(status, "warn")))
    lines += _why(run, status)
    commands = following(run, status)
    lines += [Line(f"next: {command}{flags}") for command in commands]
    if any(VERDICT in command for command in commands):
        lines.append(Line(f"      {VERDICT}: succeeded, failed or rerun"))
    return lines


def following(run: RunState, status: str) -> list[str]:
    """The commands that go on from here."""
    if status == s.RUN_PARTIAL:
        return [f"flowd retry {run.id} --failed-items"]
    if status in {s.RUN_FAILED, s.RUN_CANCELLED}:
        return [f"flowd retry {run.id}"]
    if status == WAITING:
        return open_commands(run)
    if run.state in s.RUN_ENDED and (parent := parent_of(run.trigger)) is not None and status == s.RUN_SUCCEEDED:
        return [f"flowd resume {parent}"]
    if status in {INTERRUPTED, s.RUN_PAUSED}:
        return [f"flowd resume {run.id}"]
    return []


def _all_fresh(run: RunState, now: datetime, ended: Ended) -> list[Line]:
    if not run.declared or any(task.state != s.FRESH for _, task in run.own()):
        return []
    sources = sorted({task.source for _, task in run.own() if task.source})
    known = {source: at for source in sources if (at := ended(source)) is not None}
    newest = max(known, key=lambda source: known[source]) if known else sources[-1] if sources else ""
    age = f" ({age_text((now - known[newest]).total_seconds())})" if newest in known else ""
    are = "is" if run.declared == 1 else "are"
    return [Line(f"  = {tasks_text(run.declared)} {are} fresh: nothing changed since {newest}{age}", "quiet")]


def _named(run: RunState, states: frozenset[str] | set[str]) -> list[str]:
    return [spec.name for spec, task in run.own() if task.state in states]


def _uncertain(run: RunState) -> list[str]:
    """The tasks and items whose end is unknown."""
    return [name_of(run, number) for number, task in enumerate(run.tasks) if task.state == s.UNCERTAIN]


def question_lines(run: RunState, task: str) -> list[str]:
    """What a task asks, of whom, until when, and what it shows."""
    asked, spec = run.task(task).approval, run.shape.specs[run.shape.index[task]].approve
    reason = run.task(task).reason
    if asked is None or spec is None or reason is None:
        return []
    lapsed = reason.code == "approval_lapsed"
    lines = [reason.sentence, f"asks: {asked.message}"] if lapsed else [f"asks: {asked.message}"]
    lines += [f"shows: {artifact.path} ({size_text(artifact.size)})" for artifact in asked.show]
    if spec.by:
        lines.append(f"is for: {', '.join(spec.by)}")
    if asked.expires_at is not None:
        lines.append(f"waits until {asked.expires_at:%Y-%m-%d %H:%M:%S} UTC, then: {spec.then}")
    return lines


def _why(run: RunState, status: str) -> list[Line]:
    lines = []
    broken = [name for name in _named(run, s.BROKEN) if not run.task(name).allowed]  # the others are warned of
    for name in broken[:MOST_FAILURES]:
        lines.append(Line(f"  {name} {failure_text(run.task(name))}"))  # noqa: PERF401  # one line of a paragraph
    if len(broken) > MOST_FAILURES:
        lines.append(Line(f"  and {len(broken) - MOST_FAILURES} more; flowd show {run.id} lists them"))
    for name in _named(run, {s.WAITING}):
        deferred, reason = run.task(name).child is not None, run.task(name).reason
        texts = [reason.sentence] if deferred and reason is not None else question_lines(run, name)
        lines += [Line(f"  {name} {text}") for text in texts]
    lines += [
        Line(f"  {name} is uncertain: {reason.sentence}")
        for name in _uncertain(run)
        if (reason := run.task(name).reason) is not None
    ]
    for name in _named(run, {s.PARTIAL}):
        if (partly := run.task(name).reason) is not None:
            lines.append(Line(f"  {name} is partial: {partly.sentence}"))
    warned = warnings(run)
    lines += [Line(f"  ! {warning}", "warn") for warning in warned[:MOST_FAILURES]]
    if len(warned) > MOST_FAILURES:
        lines.append(Line(f"  and {len(warned) - MOST_FAILURES} more warnings; flowd show {run.id} lists them"))
    if status in {s.RUN_CANCELLED, s.RUN_PAUSED} and run.reason is not None:
        lines.append(Line(f"  {run.reason.sentence}"))
    return lines
