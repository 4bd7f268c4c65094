"""Webhooks: the notice as JSON, by POST, with its id, and signed where the URL says with what.

`json://HOST/PATH` is http, `jsons://` https; a secret may hold an http or https URL itself. `?signing_secret=…` is no
part of what is sent: with it the request is signed as the Standard Webhooks specification says (`webhook-id`,
`webhook-timestamp`, `webhook-signature: v1,…`). The id is sent as `Idempotency-Key`, too: a receiver that knows it
already has the notice.
"""

from __future__ import annotations

import hmac
import re
from base64 import b64decode, b64encode
from binascii import Error as BadBase64
from contextlib import suppress
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from flowd.adapters.notifiers.addresses import Allowed
from flowd.adapters.notifiers.posting import as_json, post
from flowd.core.notices import Message
from flowd.ports.clock import Clock
from flowd.ports.notifier import Undelivered

SIGNED_WITH: Final = "signing_secret"
"""The part of a URL's query that holds what requests are signed with."""

_WIRE: Final = {"json": "http", "jsons": "https", "http": "http", "https": "https"}
SCHEMES: Final = frozenset(_WIRE)
_HOST: Final = re.compile(r"[^\s/\\%]+")


class Webhook:
    """Delivers to `json`, `jsons`, `http` and `https` URLs."""

    def __init__(self, allowed: Allowed, clock: Clock) -> None:
        self._allowed = allowed
        self._clock = clock

    async def __call__(self, url: str, message: Message) -> None:
        """Deliver it. Raises Undelivered."""
        target, key = on_the_wire(url)
        body = as_json(message.document)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "flowd",
            "Idempotency-Key": message.id,
            "webhook-id": message.id,
        }
        if key:
            stamp = str(int(self._clock.now().timestamp()))
            headers |= {"webhook-timestamp": stamp, "webhook-signature": signature(key, message.id, stamp, body)}
        await post(target, body, headers, self._allowed)


def on_the_wire(url: str) -> tuple[str, str]:
    """The URL that is sent to, and what is signed with; empty where nothing is. Undelivered where it is no URL."""
    scheme, _, rest = url.partition("://")
    try:
        parts = urlsplit(f"{_WIRE[scheme.lower()]}://{rest}")
        good = bool(_HOST.fullmatch(parts.hostname or "")) and parts.port != 0
    except ValueError:  # brackets without their end, no port
        good = False
    if not good:
        raise Undelivered("its URL cannot be read; write json://HOST:PORT/PATH", for_good=True)
    query = parse_qsl(parts.query, keep_blank_values=True)
    key = next((value for name, value in query if name == SIGNED_WITH), "")
    if key:
        left = urlencode([(name, value) for name, value in query if name != SIGNED_WITH])
        return urlunsplit(parts._replace(query=left)), key
    return urlunsplit(parts), ""


def signature(key: str, message: str, stamp: str, body: bytes) -> str:
    """`v1,` and the HMAC of id, time and body. A key `whsec_…` is base64, as the specification has it."""
    secret = key.encode()
    if key.startswith("whsec_"):
        with suppress(BadBase64):  # then it is a key that only begins so
            secret = b64decode(key.removeprefix("whsec_"), validate=True)
    signed = f"{message}.{stamp}.".encode() + body
    return "v1," + b64encode(hmac.new(secret, signed, sha256).digest()).decode()
