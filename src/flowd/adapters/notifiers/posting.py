"""One POST to a host whose address was looked at, by httpx2: no redirects, no proxies, no answer taken whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import anyio

from flowd.adapters.notifiers.addresses import Allowed, resolve
from flowd.adapters.notifiers.quiet import quietly
from flowd.ports.notifier import Undelivered

PATIENCE_S: Final = 30.0
"""Seconds that a whole delivery may take."""

_MOST_ANSWER: Final = 16 << 10
_MOST_AFTER_S: Final = 3600.0
_GONE: Final = 410


async def post(url: str, body: bytes, headers: Mapping[str, str], allowed: Allowed) -> bytes:
    """Send `body` to an http or https URL, and give the beginning of the answer. Raises Undelivered."""
    httpx2 = _library()
    with quietly():
        try:
            target = httpx2.URL(url)
            host, port = target.host, target.port or (443 if target.scheme == "https" else 80)
        except (httpx2.InvalidURL, TypeError, ValueError):
            raise Undelivered("its URL cannot be read", for_good=True) from None
        if not host or target.scheme not in {"http", "https"}:
            raise Undelivered("its URL names no host", for_good=True)
        try:
            with anyio.fail_after(PATIENCE_S):
                addresses = await resolve(host, port, allowed)
                return await _sent(httpx2, target, addresses, body, dict(headers))
        except TimeoutError:
            raise Undelivered(f"{host} did not answer within {PATIENCE_S:g}s") from None


async def _sent(httpx2: Any, target: Any, addresses: list[str], body: bytes, headers: dict[str, str]) -> bytes:
    """To the first address that can be connected to: only then has nothing been sent yet."""
    headers["Host"] = target.netloc.decode("ascii")
    auth = (target.username, target.password) if target.userinfo else None
    async with httpx2.AsyncClient(follow_redirects=False, trust_env=False, timeout=PATIENCE_S / 2) as client:
        for address in addresses:
            pinned = target.copy_with(host=address, username=None, password=None)
            extensions = {"sni_hostname": target.raw_host.decode("ascii")} if target.scheme == "https" else {}
            request = client.build_request("POST", pinned, content=body, headers=headers, extensions=extensions)
            try:
                response = await client.send(request, auth=auth, stream=True)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failure = error
                continue
            except httpx2.HTTPError as error:
                raise Undelivered(f"{target.host}: {_kind(error)}") from None
            try:
                return await _answer(target.host, response)
            except httpx2.HTTPError as error:
                raise Undelivered(f"{target.host}: {_kind(error)}") from None
            finally:
                await response.aclose()
    raise Undelivered(f"{target.host} cannot be connected to: {_kind(failure)}")


async def _answer(host: str, response: Any) -> bytes:
    status = response.status_code
    if 200 <= status < 300:
        found = b""
        async for piece in response.aiter_bytes():
            found += piece
            if len(found) > _MOST_ANSWER:
                break
        return found[:_MOST_ANSWER]
    if 300 <= status < 400:
        raise Undelivered(f"{host} answered {status}, and redirects are not followed; write the address it leads to")
    raise Undelivered(f"{host} answered {status}", for_good=status == _GONE, after=_after(response.headers))


def _after(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds, where it says so in seconds."""
    text = headers.get("retry-after", "")
    return min(float(text), _MOST_AFTER_S) if text.isascii() and text.isdecimal() else None


def _kind(error: Exception) -> str:
    """What went wrong, in the library's word and the system's; its own text may hold the URL."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return f"{type(error).__name__} ({cause.strerror})"
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def as_json(document: Mapping[str, Any]) -> bytes:
    """A body of JSON."""
    return json.dumps(document, ensure_ascii=False).encode()


def _library() -> Any:
    try:
        import httpx2
    except ImportError:
        raise Undelivered(
            "webhooks take the library httpx2, which is not installed; pip install 'flowd[notify]'"
        ) from None
    return httpx2
