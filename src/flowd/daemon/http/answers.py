"""What the gate answers by itself, and what it adds to every answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, Final, NamedTuple

import anyio
import msgspec

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_DEFAULTS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
)
_TAKEN_S: Final = 1.0
_TAKEN: Final = 4 << 20


class Refusal(NamedTuple):
    """Why a request goes no further; `wait_s` is when to ask again, in seconds."""

    status: int
    code: str
    message: str
    hint: str = ""
    wait_s: int = 0


def guarded(headers: Collection[tuple[bytes, bytes]]) -> Headers:
    """A response's headers: no other origin is let in, and unless it says otherwise nothing is kept, loaded or run."""
    found = [(name, value) for name, value in headers if not name.lower().startswith(b"access-control-")]
    names = {name.lower() for name, _ in found}
    return [*found, *(one for one in (*_DEFAULTS, *_ALWAYS) if one[0] not in names)]


async def refuse(send: Send, refusal: Refusal, receive: Receive | None = None) -> None:
    """Answer with a refusal. `receive` is of a body that nobody read: the connection ends with it.

    Some of that body is taken, and thrown away: a client that is still sending would else lose the answer.
    """
    body = msgspec.json.encode({"error": {"code": refusal.code, "message": refusal.message, "hint": refusal.hint}})
    headers: Headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="flowd"'))
    if refusal.wait_s:
        headers.append((b"retry-after", str(refusal.wait_s).encode()))
    if receive is not None:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": guarded(headers)})
    await send({"type": "http.response.body", "body": body, "more_body": receive is not None})
    if receive is not None:
        with anyio.move_on_after(_TAKEN_S):
            await _take(receive)
        await send({"type": "http.response.body"})


async def _take(receive: Receive) -> None:
    taken, more = 0, True
    while more and taken < _TAKEN:
        message = await receive()
        taken += len(message.get("body", b""))
        more = message.get("more_body", False)
