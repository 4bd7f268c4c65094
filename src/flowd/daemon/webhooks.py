"""Runs that webhooks begin: a request to `/hooks/NAME`, signed by its caller where the trigger has a secret.

House rules of this room. The signature is an HMAC-SHA256 of the body as it came, in hex, in the header
`X-Hub-Signature-256` (as GitHub's webhooks have it) or `X-Flowd-Signature`, after `sha256=`. A delivery has an
id of its caller's (`X-GitHub-Delivery`, `Idempotency-Key`): one that is sent again begins no second run. The
body gives parameters of the pipeline under `params`; nothing else of it has a meaning.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from typing import Any, Final

import msgspec

from flowd.authoring.pipeline import Pipeline
from flowd.core.errors import BadRequest, FlowdError
from flowd.daemon.triggering import Armed, Happening, Triggering
from flowd.ports.clock import Clock

SIGNATURES: Final = ("x-hub-signature-256", "x-flowd-signature")
DELIVERIES: Final = ("x-github-delivery", "idempotency-key", "x-flowd-delivery")
_MOST_ID: Final = 200
_REMEMBERED: Final = 5_000


class NoSuchHook(FlowdError):
    """No trigger has a webhook of this name."""


class WrongSignature(FlowdError):
    """The body is not signed with the secret of any trigger of this name."""


class Webhooks:
    """Takes deliveries. `secret_of` reads the secret that a trigger's template names."""

    def __init__(
        self, triggering: Triggering, clock: Clock, secret_of: Callable[[Pipeline, str], Awaitable[str]]
    ) -> None:
        self._triggering = triggering
        self._clock = clock
        self._secret_of = secret_of

    def is_signed(self, name: str) -> bool:
        """Whether the caller is known by a signature: all triggers of that name have a secret."""
        found = self._of(name)
        return bool(found) and all(armed.trigger.secret is not None for armed in found)

    async def deliver(self, name: str, headers: Mapping[str, str], body: bytes) -> list[str]:
        """Begin the runs of a delivery; their ids, none where it had come before.

        Raises NoSuchHook, WrongSignature, and what refuses a run.
        """
        found = self._of(name)
        if not found:
            raise NoSuchHook(f"there is no webhook {name}")
        allowed = [armed for armed in found if await self._is_signed_for(armed, headers, body)]
        if not allowed:
            raise WrongSignature(f"the body is not signed as the webhook {name} asks for")
        params, delivery = _params(body), _delivery(headers)
        return [run for armed in allowed if (run := await self._begin(armed, name, delivery, params)) is not None]

    def _of(self, name: str) -> list[Armed]:
        return [armed for armed in self._triggering.armed("webhook") if armed.trigger.webhook == name]

    async def _is_signed_for(self, armed: Armed, headers: Mapping[str, str], body: bytes) -> bool:
        if armed.trigger.secret is None:
            return True  # the gate has asked for a token instead
        key = await self._secret_of(armed.pipeline, armed.trigger.secret)
        due = hmac.new(key.encode(), body, sha256).hexdigest()
        given = next((headers[name] for name in SIGNATURES if name in headers), "")
        return hmac.compare_digest(f"sha256={due}".encode(), given.encode("utf-8", "replace"))

    async def _begin(self, armed: Armed, name: str, delivery: str, params: Mapping[str, Any]) -> str | None:
        now = self._clock.now()
        await self._triggering.see(armed, now)
        entry = self._triggering.entry(armed)
        if delivery in entry.known:
            return None
        if entry.paused:
            raise BadRequest(f"the webhook {name} is paused by {entry.paused_by}")
        trigger = {"kind": "webhook", "webhook": name, "delivery": delivery}
        run = await self._triggering.begin(armed, Happening(name=delivery, at=now, trigger=trigger, params=params), now)
        if len(entry.known) > 2 * _REMEMBERED:
            await self._triggering.keep_only(armed, tuple(entry.known)[-_REMEMBERED:], now)
        return run


def _delivery(headers: Mapping[str, str]) -> str:
    """The delivery's own id, or a new one: without one, each request is a delivery."""
    given = next((headers[name] for name in DELIVERIES if headers.get(name)), "")
    return given[:_MOST_ID] if given else secrets.token_hex(8)


def _params(body: bytes) -> Mapping[str, Any]:
    """The parameters in a body; none where it holds none."""
    if not body:
        return {}
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is no JSON: {error}") from error
    given = document.get("params", {}) if isinstance(document, dict) else {}
    if not isinstance(given, dict):
        raise BadRequest('the body\'s `params` is no object; send {"params": {NAME: VALUE}}')
    return given
