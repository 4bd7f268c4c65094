"""What a pipeline declares for others than its runs: who is told, when it runs, what is kept of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec

from flowd.core.frozen import Spec


class Owner(Spec, frozen=True, kw_only=True):
    """Who answers for tasks: `notify` are the URLs at which they are told; a URL may hold `{{ secrets.NAME }}`."""

    notify: tuple[str, ...] = ()


class Notify(Spec, frozen=True, kw_only=True):
    """Who is told of what: `on` are happenings, `to` URLs, names of owners, or `owner`: that of the task."""

    on: tuple[str, ...]
    to: tuple[str, ...]


class Dst(Spec, frozen=True, kw_only=True):
    """What becomes of a fixed time that a day lacks (`gap`: shift, skip) or has twice (`fold`: first, second, both)."""

    gap: str = "shift"
    fold: str = "first"


class Schedule(Spec, frozen=True, kw_only=True):
    """When runs of `tasks` (all, where there are none) are due.

    By `cron`, five fields in `timezone`, or `every` so often. `misfire` says what becomes of times
    that were missed, `overlap` what of a time at which a run still goes on: a word, or {all: N} and
    {queue: N}.
    """

    name: str
    cron: str | None = None
    every: timedelta | None = None
    timezone: str = "UTC"
    tasks: tuple[str, ...] = ()
    params: dict[str, Any] = {}
    misfire: str | dict[str, int] = "latest"
    overlap: str | dict[str, int] = "skip"
    dst: Dst = Dst()


class Trigger(Spec, frozen=True, kw_only=True):
    """What else starts a run: a `file` that was left alone for `settle`, a `webhook`, or the end of another pipeline.

    `secret` is a template of the secret that a webhook's caller signs with; `on` are the states
    of the run that it comes `after`.
    """

    file: str | None = None
    settle: timedelta | None = None
    webhook: str | None = None
    secret: str | None = None
    after: str | None = None
    on: tuple[str, ...] = ()


class Group(Spec, frozen=True, kw_only=True):
    """Runs whose `key`, a template, has the same value never overlap; `overlap` is what becomes of a newer one."""

    key: str
    overlap: str | dict[str, int] = msgspec.field(default_factory=lambda: {"queue": 1})


class Expect(Spec, frozen=True, kw_only=True):
    """When a run is late: not done `within` so long, or `done_by` a time of day (HH:MM) in `timezone`."""

    within: timedelta | None = None
    done_by: str | None = None
    timezone: str = "UTC"


class Retention(Spec, frozen=True, kw_only=True):
    """How many runs are kept, for how long, and how many bytes of them; what is None does not count."""

    runs: int | None = None
    age: timedelta | None = None
    size: int | None = None
