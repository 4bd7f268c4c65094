"""What the ends of a task's needs make of it: the trigger rules, as one table.

`all_succeeded`, which nearly every task has, is counted by the run itself; the others are judged
here, from a tally of their needs. A task without needs, or with none in its run, goes.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from flowd.core import states as s

ALL_SUCCEEDED: Final = "all_succeeded"
RULES: Final = (ALL_SUCCEEDED, "all_done", "any_succeeded", "none_failed", "any_failed")

Verdict = Literal["wait", "go", "skip", "upstream_failed", "cancel"]


class Tally(msgspec.Struct, gc=False):
    """How many needs of a task stand how.

    `ok`: they ended well, or failed where that was allowed. `failed`: they failed, timed out, were
    abandoned, or did not run since something above them had. The rest has not ended.
    """

    needs: int
    ok: int = 0
    skipped: int = 0
    failed: int = 0
    cancelled: int = 0

    def count(self, state: str, *, ok: bool, change: int) -> None:
        """A need has ended in `state`, or (`change` -1) is asked for again."""
        if ok:
            self.ok += change
        elif state == s.SKIPPED:
            self.skipped += change
        elif state == s.CANCELLED:
            self.cancelled += change
        elif state in s.BAD:
            self.failed += change

    @property
    def waiting(self) -> int:
        """How many have not ended."""
        return self.needs - self.ok - self.skipped - self.failed - self.cancelled


def judge(rule: str, tally: Tally) -> Verdict:
    """What becomes of a task with this rule: it waits, goes, is skipped, or ends as its needs did."""
    if not tally.needs:
        return "go"
    if rule == "all_done":
        return "wait" if tally.waiting else "go"
    if rule == "any_succeeded":
        return "go" if tally.ok else "wait" if tally.waiting else _as_needs(tally)
    if rule == "any_failed":
        return "go" if tally.failed else "wait" if tally.waiting else "cancel" if tally.cancelled else "skip"
    if tally.failed or tally.cancelled:  # none_failed and all_succeeded: no need that is still open mends that
        return _as_needs(tally)
    if rule == "none_failed":
        return "wait" if tally.waiting else "go" if tally.ok else "skip"
    return "skip" if tally.skipped else "wait" if tally.waiting else "go"


def _as_needs(tally: Tally) -> Verdict:
    return "upstream_failed" if tally.failed else "cancel" if tally.cancelled else "skip"
