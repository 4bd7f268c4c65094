"""Brings what is in the outbox to whom it is for: in order for each addressee, each by itself, until it has arrived.

House rules of this room. Whatever a notifier does, it ends here: a failure is tried again, later and later, and given
up after a day, aloud. No addressee waits for another. A URL is whole in memory alone, for as long as one try takes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_random_exponential

from flowd.core.errors import StorageFailing
from flowd.core.expressions import ExpressionError
from flowd.core.notices import Message, Notice, filled_in
from flowd.core.secrecy import Secrecy
from flowd.core.views import moment
from flowd.daemon.saying import say
from flowd.ports.clock import Clock
from flowd.ports.notifier import Deliver, Undelivered
from flowd.ports.outbox import Outbox, Waiting
from flowd.ports.secrets import SecretMissing, Secrets

PATIENCE: Final = timedelta(hours=24)
"""How long a notice is tried."""

_LONGEST: Final = timedelta(minutes=30)
_SHORTEST_S: Final = 0.5
_LOUD: Final = 10
"""Every so many failures are said, after the first."""


class _Trouble(msgspec.Struct, kw_only=True):
    """What is wrong with an addressee now."""

    since: datetime
    tries: int
    error: str
    again: datetime


class Delivery:
    """Delivers from `outbox` by `deliver`; `message` puts a notice into words, in the moment in which it is sent."""

    def __init__(
        self,
        outbox: Outbox,
        deliver: Deliver,
        message: Callable[[Notice], Message],
        *,
        clock: Clock,
        secrets: Secrets,
        secrecy: Secrecy,
        patience: timedelta = PATIENCE,
    ) -> None:
        self._outbox = outbox
        self._deliver = deliver
        self._message = message
        self._clock = clock
        self._secrets = secrets
        self._secrecy = secrecy
        self._patience = patience
        self._news = anyio.Event()
        self._busy: set[str] = set()
        self._troubles: dict[str, _Trouble] = {}
        self._delivered = 0

    def wake(self) -> None:
        """There is something new in the outbox."""
        self._news.set()

    async def run(self) -> None:
        """Deliver for ever; ended by cancellation."""
        self._busy.clear()
        async with anyio.create_task_group() as group:
            while True:
                news = self._news = anyio.Event()
                for waiting in self._outbox.waiting():
                    key = _key(waiting.notice)
                    if key not in self._busy:
                        self._busy.add(key)
                        group.start_soon(self._serve, key, name=f"notices to {waiting.notice.who}")
                await news.wait()

    async def _serve(self, key: str) -> None:
        """Bring one addressee all that there is for it, the oldest first."""
        while (waiting := next((one for one in self._outbox.waiting() if _key(one.notice) == key), None)) is not None:
            await self._bring(key, waiting)
        self._busy.discard(key)

    async def _bring(self, key: str, waiting: Waiting) -> None:
        """One notice, until it is there or given up."""
        notice, until = waiting.notice, waiting.added + self._patience

        def is_over(state: RetryCallState) -> bool:
            return self._clock.now() + timedelta(seconds=state.upcoming_sleep) > until

        def failed(state: RetryCallState) -> None:
            self._note(key, notice, state)

        retrying = AsyncRetrying(
            sleep=self._sleep,
            wait=_wait,
            stop=is_over,
            retry=retry_if_exception(lambda error: isinstance(error, Undelivered) and not error.for_good),
            before_sleep=failed,
            reraise=True,
        )
        try:
            try:
                await retrying(self._try, notice)
            except Undelivered as error:
                say(
                    "notice_given_up",
                    level="warning",
                    notice=notice.id,
                    to=notice.who,
                    of=_about(notice),
                    error=str(error),
                )
                await self._outbox.give_up(notice.id, str(error), self._clock.now())
            else:
                self._troubles.pop(key, None)
                self._delivered += 1
                await self._outbox.delivered(notice.id, self._clock.now())
        except StorageFailing as error:  # it is known here, and written with whatever is written next
            say("outbox_not_written", level="warning", error=str(error))

    async def _try(self, notice: Notice) -> None:
        """Deliver it once. Whatever goes wrong is an Undelivered, without any secret."""
        try:
            values = {}
            for name, secret in notice.secrets.items():
                values[name] = await self._secrets.read(name, secret, Path(notice.folder))
                self._secrecy.learn(values[name])
            await self._deliver(filled_in(notice.to, values), self._message(notice))
        except Undelivered as error:
            text = self._secrecy.hide(str(error))
            raise Undelivered(text, for_good=error.for_good, after=error.after) from None
        except SecretMissing as error:
            raise Undelivered(self._secrecy.hide(str(error))) from None
        except ExpressionError as error:
            raise Undelivered(f"its URL cannot be filled in: {error.message}", for_good=True) from None
        except Exception as error:  # noqa: BLE001  # a notifier that is broken keeps nothing else from being told
            raise Undelivered(f"the notifier broke: {type(error).__name__}") from None  # its text may hold the URL

    async def _sleep(self, seconds: float) -> None:
        await self._clock.sleep_until(self._clock.monotonic() + seconds)

    def _note(self, key: str, notice: Notice, state: RetryCallState) -> None:
        error = str(state.outcome.exception()) if state.outcome is not None else ""
        now = self._clock.now()
        again = now + timedelta(seconds=state.upcoming_sleep)
        before = self._troubles.get(key)
        since, tries = (now, 1) if before is None else (before.since, before.tries + 1)
        self._troubles[key] = _Trouble(since=since, tries=tries, error=error, again=again)
        if tries == 1 or tries % _LOUD == 0:
            say(
                "notice_not_delivered",
                level="warning",
                notice=notice.id,
                to=notice.who,
                tries=tries,
                error=error,
                again=moment(again),
            )

    def document(self) -> dict[str, Any]:
        """What waits, for whom, and what is wrong there; nothing in it is more of a URL than its scheme and host."""
        waiting: dict[str, list[Waiting]] = {}
        for one in self._outbox.waiting():
            waiting.setdefault(_key(one.notice), []).append(one)
        return {
            "delivered": self._delivered,
            "waiting": [_waiting(ones, self._troubles.get(key)) for key, ones in waiting.items()],
            "given_up": [
                {**_told(one.notice), "given_up": moment(one.at), "error": one.why} for one in self._outbox.given_up()
            ],
        }


def _wait(state: RetryCallState) -> float:
    """Longer each time and never the same, and not before the receiver said."""
    error = state.outcome.exception() if state.outcome is not None else None
    drawn = _BACKOFF(state)
    return max(drawn, error.after) if isinstance(error, Undelivered) and error.after is not None else drawn


_BACKOFF: Final = wait_random_exponential(multiplier=1, max=_LONGEST.total_seconds(), min=_SHORTEST_S)


def _key(notice: Notice) -> str:
    """What tells one addressee from another: the same name of a secret is another one elsewhere."""
    return f"{notice.folder} {notice.to}" if "{{" in notice.to else notice.to


def _about(notice: Notice) -> str:
    return " ".join(part for part in (notice.pipeline, notice.run, notice.task, notice.happening) if part)


def _told(notice: Notice) -> dict[str, Any]:
    names = ("id", "who", "happening", "pipeline", "run", "task", "sentence")
    return {"at": moment(notice.at), **{name: getattr(notice, name) or None for name in names}}


def _waiting(ones: list[Waiting], trouble: _Trouble | None) -> dict[str, Any]:
    return {
        "who": ones[0].notice.who,
        "count": len(ones),
        "since": moment(ones[0].added),
        "failing_since": None if trouble is None else moment(trouble.since),
        "tries": 0 if trouble is None else trouble.tries,
        "error": None if trouble is None else trouble.error,
        "next_try": None if trouble is None else moment(trouble.again),
        "notices": [_told(one.notice) for one in ones[:20]],
    }
