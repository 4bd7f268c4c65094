"""Runs that are tasks of other runs: what they are called, and whose they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from zlib import crc32

MARK: Final = "+"
"""Between a run's id and the task of which another is the run: no id that a person gives has it."""
KIND: Final = "pipeline"
"""The kind of trigger of such a run."""

_STRANGE: Final = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST: Final = 60
_LONGEST_RUN: Final = 150


def child_id(run: str, task: str, turn: int) -> str:
    """What the run of a task is called, the `turn`-th that it has."""
    safe = _STRANGE.sub("_", task)
    if safe != task or len(safe) > _LONGEST:
        safe = f"{safe[:_LONGEST]}-{crc32(task.encode()):08x}"
    if len(run) > _LONGEST_RUN:  # a name of a folder holds so much
        run = f"{run[:_LONGEST_RUN].rstrip(MARK)}-{crc32(run.encode()):08x}"
    return f"{run}{MARK}{safe}" + (f"{MARK}{turn}" if turn > 1 else "")


def turn_of(run: str) -> int:
    """Which run of its task this is, counted from 1."""
    last = run.rpartition(MARK)[2]
    return int(last) if last.isdecimal() else 1


def is_child(run: str) -> bool:
    """Whether a run is a task of another."""
    return MARK in run


def origin_of(trigger: Mapping[str, Any]) -> str:
    """What started a run, or the outermost of which it is a task: `hand`, `schedule`, …."""
    return str(trigger.get("origin" if trigger.get("kind") == KIND else "kind", "hand"))


def parent_of(trigger: Mapping[str, Any]) -> str | None:
    """The run of which one with this trigger is a task; None where it is none."""
    return str(trigger["run"]) if trigger.get("kind") == KIND and "run" in trigger else None
