"""Slack, and what takes the same: `slack://A/B/C` is an incoming webhook, `slack://xoxb-…/channel` a bot.

A secret may also hold the webhook's own URL, https://hooks.slack.com/services/A/B/C.
"""

from __future__ import annotations

import json
from typing import Final
from urllib.parse import unquote, urlsplit

from flowd.adapters.notifiers.addresses import Allowed
from flowd.adapters.notifiers.posting import as_json, post
from flowd.core.notices import Message
from flowd.ports.notifier import Undelivered

HOOKS: Final = "https://hooks.slack.com/services"
API: Final = "https://slack.com/api/chat.postMessage"

_OF_HOOKS: Final = frozenset({"hooks.slack.com", "hooks.slack-gov.com"})
_MOST: Final = 3_500
_SHAPE: Final = "write slack://TOKEN_A/TOKEN_B/TOKEN_C, or slack://xoxb-TOKEN/CHANNEL"


def is_hook(url: str) -> bool:
    """Whether an http URL is that of a Slack webhook."""
    return urlsplit(url).hostname in _OF_HOOKS


class Slack:
    """Delivers to `slack` URLs and to webhooks of Slack. `hooks` and `api` are where Slack is."""

    def __init__(self, allowed: Allowed, *, hooks: str = HOOKS, api: str = API) -> None:
        self._allowed = allowed
        self._hooks = hooks
        self._api = api

    async def __call__(self, url: str, message: Message) -> None:
        """Deliver it, once for each channel. Raises Undelivered."""
        body = {"text": text_of(message)}
        if not url.lower().startswith("slack:"):
            await self._hook(url, body, message)
            return
        parts = [unquote(part) for part in url.partition("://")[2].partition("?")[0].split("/") if part]
        first = parts[0].rpartition("@")[2] if parts else ""
        if first.startswith("xo"):
            if len(parts) < 2:
                raise Undelivered(f"its URL names no channel; {_SHAPE}", for_good=True)
            for channel in parts[1:]:
                await self._bot(first, {**body, "channel": channel.lstrip("#")}, message)
            return
        if len(parts) < 3:
            raise Undelivered(f"its URL has too few parts; {_SHAPE}", for_good=True)
        for channel in parts[3:] or [""]:
            more = {"channel": f"#{channel}" if channel[0] not in "#@" else channel} if channel else {}
            await self._hook("/".join([self._hooks, first, *parts[1:3]]), {**body, **more}, message)

    async def _hook(self, url: str, body: dict[str, str], message: Message) -> None:
        await post(url, as_json(body), _headers(message), self._allowed)

    async def _bot(self, token: str, body: dict[str, str], message: Message) -> None:
        headers = {**_headers(message), "Authorization": f"Bearer {token}"}
        answer = await post(self._api, as_json(body), headers, self._allowed)
        try:
            said = json.loads(answer)
        except ValueError:
            raise Undelivered("Slack answered no JSON") from None
        if not isinstance(said, dict) or said.get("ok") is not True:  # it says 200 to whatever it refuses
            why = said.get("error") if isinstance(said, dict) else None
            raise Undelivered(f"Slack refused it: {str(why)[:80]}")


def text_of(message: Message) -> str:
    """The message as Slack shows it: the subject in bold, nothing in it that Slack would read as its own."""
    text = message.text if len(message.text) <= _MOST else f"{message.text[:_MOST]}…\n"
    return f"*{_escaped(message.subject)}*\n{_escaped(text)}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _headers(message: Message) -> dict[str, str]:
    return {"Content-Type": "application/json; charset=utf-8", "User-Agent": "flowd", "Idempotency-Key": message.id}
