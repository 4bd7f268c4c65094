"""Slots of a schedule in the past: which run fills each, and what is still to be done about it.

House rules of this room. Everything follows from the schedule, the instant and how the slot's run stands, so
that whoever asks again, after whatever has happened in between, finds what is done and does the rest.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final

from flowd.core import states as s
from flowd.core.firing import firing_id
from flowd.core.frozen import Spec

KIND: Final = "backfill"
"""The kind of the trigger of such runs."""


class Step(StrEnum):
    """What is done about a slot; nothing where it is good, was cancelled (left), or cannot be."""

    BEGUN = "begun"
    RESUMED = "resumed"
    RETRIED = "retried"
    GOOD = "good"
    LEFT = "left"
    HELD = "held"
    DAMAGED = "damaged"


OPEN: Final = frozenset({Step.BEGUN, Step.RESUMED, Step.RETRIED})
"""The steps that are taken."""
NEVER_ENDED: Final = frozenset({Step.BEGUN, Step.RESUMED, Step.HELD})
"""Those of slots whose run is not there or goes on."""


class Slot(Spec, frozen=True, kw_only=True):
    """A slot with its run, whether that is there yet or not; `note` says who has it, or what is damaged."""

    at: datetime
    run: str
    step: Step
    note: str = ""


def slot_id(source: str, where: str, at: datetime, asked: str = "") -> str:
    """The id of the run that fills a slot of the schedule with the key `source`: the same whenever it is asked.

    `where` tells pipelines of one name apart; `asked` one time of asking for all slots anew from another.
    """
    return firing_id(f"{source}-{KIND}", at, f"{KIND} {where} {asked}")


def step_of(status: str, *, owned: bool) -> Step:
    """What is to be done about a slot whose run has this status; `owned`: somebody goes on with it."""
    if status == s.RUN_SUCCEEDED:
        return Step.GOOD
    if status == s.RUN_CANCELLED:
        return Step.LEFT
    if owned:
        return Step.HELD
    return Step.RETRIED if status in s.RUN_ENDED else Step.RESUMED
