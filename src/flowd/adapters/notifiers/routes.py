"""Which notifier brings a message to a URL: by its scheme."""

from __future__ import annotations

from collections.abc import Iterable

from flowd.adapters.notifiers import mail, slack, webhook
from flowd.adapters.notifiers.addresses import Allowed
from flowd.adapters.notifiers.outside import Apprise
from flowd.core.notices import Message
from flowd.ports.clock import Clock
from flowd.ports.notifier import Undelivered


class Notifiers:
    """All of them as one; `allow` are the networks and hosts that are no part of the public internet and may be told.

    ValueError names one that is neither.
    """

    def __init__(self, clock: Clock, allow: Iterable[str] = ()) -> None:
        allow = tuple(allow)
        allowed = Allowed(allow)
        self._mail = mail.Mail(clock)
        self._webhook = webhook.Webhook(allowed, clock)
        self._slack = slack.Slack(allowed)
        self._others = Apprise(allow)

    async def __call__(self, url: str, message: Message) -> None:
        """Deliver it, now, once. Raises Undelivered."""
        scheme = url.partition(":")[0].lower()
        if "://" not in url or not scheme:
            raise Undelivered("it is no URL; write mailto://USER@HOST, slack://… or json://HOST/PATH", for_good=True)
        if scheme in mail.SCHEMES:
            await self._mail(url, message)
        elif scheme == "slack" or (scheme == "https" and slack.is_hook(url)):
            await self._slack(url, message)
        elif scheme in webhook.SCHEMES:
            await self._webhook(url, message)
        else:
            await self._others(url, message)
