"""Signed links to answer questions by: what one would do, shown; and done, once."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from flowd.core import links
from flowd.core.errors import NoSuchRun, StateDamaged
from flowd.core.links import Link, LinkRefused
from flowd.core.notices import Notice
from flowd.core.spec import Definition, task_map
from flowd.core.views import field_document, moment
from flowd.daemon.stories import Stories
from flowd.ports.outbox import Outbox

LONGEST: Final = timedelta(days=14)
"""How long a link is good, where the question has no shorter timeout."""


class AnswerLinks:
    """Makes links below `base_url`, signed with `key`, and reads them; without either there are none."""

    def __init__(self, stories: Stories, outbox: Outbox, *, base_url: str, key: bytes) -> None:
        self._stories = stories
        self._outbox = outbox
        self._base = base_url.rstrip("/")
        self._key = key

    def of(self, notice: Notice) -> Mapping[str, str]:
        """The URLs that answer what a notice asks, by answer; the same ones whenever it is told."""
        if not notice.asked or not self._key or not self._base:
            return {}
        expires = notice.at + LONGEST
        expires = min(expires, notice.until) if notice.until is not None else expires
        found = {}
        for answer in links.ANSWERS:
            link = Link(
                run=notice.run,
                task=notice.task,
                asked=notice.asked,
                answer=answer,
                expires=expires,
                nonce=links.nonce_of(notice.id, answer),
                by=f"{notice.who} (by link)",
            )
            found[answer] = f"{self._base}/links/{links.make(self._key, link)}"
        return found

    async def describe(self, token: str, now: datetime) -> dict[str, Any]:
        """What a link would do, for the page that asks whether to; nothing is changed. LinkRefused."""
        link, definition = await self._good(token, now)
        asked = task_map(definition.spec)[link.task].approve
        _, question = await self._stories.question(link.run, link.task)
        return {
            "run": link.run,
            "pipeline": definition.spec.name,
            "task": link.task,
            "answer": link.answer,
            "message": question.message if question is not None else "",
            "show": list(question.show) if question is not None else [],
            "form": {} if asked is None else {name: field_document(param) for name, param in asked.form.items()},
            "expires": moment(link.expires),
            "by": link.by,
        }

    async def use(self, token: str, now: datetime) -> Link:
        """Use a link up, durably, and give what is to be done now. LinkRefused, StorageFailing.

        Whoever then finds that it cannot be done says so by `release`.
        """
        link, _ = await self._good(token, now)
        if not await self._outbox.claim(link.nonce, link.expires, now):
            raise _used()
        return link

    async def release(self, link: Link, now: datetime) -> None:
        """Nothing came of the use of a link: it may be used again."""
        await self._outbox.release(link.nonce, now)

    async def _good(self, token: str, now: datetime) -> tuple[Link, Definition]:
        """A link that does something now, and the pipeline that asks."""
        if not self._key:
            raise LinkRefused("bad_link", "this flowd makes no links")
        link = links.read(self._key, token, now)
        if self._outbox.is_used(link.nonce):
            raise _used()
        try:
            definition, question = await self._stories.question(link.run, link.task)
        except NoSuchRun:
            raise LinkRefused("link_answered", f"run {link.run} is not there any more") from None
        except StateDamaged as error:
            raise LinkRefused("link_answered", f"run {link.run} cannot be read: {error}") from None
        if question is None or not question.answerable or question.seq != link.asked:
            again = "it asks anew since; answer by the newer message" if question is not None else "it was answered"
            raise LinkRefused("link_answered", f"task {link.task} does not ask this any more: {again}")
        return link, definition


def _used() -> LinkRefused:
    return LinkRefused("link_used", "this link was used before; a link works once")
