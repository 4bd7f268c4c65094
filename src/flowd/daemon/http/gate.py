"""The gate that every request goes through before the application sees it: who asks, from where, and for what.

House rules of this room. Paths are compared whole, as the server read them; nothing is public by how it
begins or ends. A request is refused before its body is read. What a browser sends by itself (a cookie) is
worth nothing for a change that comes from another origin. No token reaches a log.

A plain ASGI middleware: it passes streams through untouched, which wrappers that gather responses do not.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from datetime import datetime
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import parse_qs, urlsplit

import msgspec

from flowd.core.access import ROUTES, Caller, may, needed_for, without_links
from flowd.core.errors import StorageFailing
from flowd.daemon.saying import say
from flowd.ports.clock import Clock

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE: Final = "flowd"
HEALTH: Final = "/healthz"
LOGIN: Final = "/"
MOST_BODY: Final = 1 << 20
_SAFE: Final = frozenset({"GET", "HEAD"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST"})
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),  # with none at all, a browser hides where its own forms come from
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


class Tokens(Protocol):
    """Who holds which token."""

    def caller(self, text: str, now: datetime) -> Caller | None:
        """Who holds this one; None where nobody does."""
        ...


class Audit(Protocol):
    """Keeps what was asked for."""

    async def note(self, entry: Mapping[str, Any]) -> None:
        """Keep one entry."""
        ...


class Refusal(NamedTuple):
    """Why a request goes no further."""

    status: int
    code: str
    message: str
    hint: str = ""


class Gate:
    """Stands before `app`. `hosts` are the names and addresses by which the daemon may be asked.

    What `is_open` says of by its path is passed on for anybody: the application judges it itself.
    """

    def __init__(
        self,
        app: App,
        tokens: Tokens,
        audit: Audit,
        clock: Clock,
        *,
        hosts: Collection[str] = (),
        is_open: Callable[[str], bool] = lambda _path: False,
        routes: Mapping[tuple[str, str], str] = ROUTES,
        most_body: int = MOST_BODY,
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._audit = audit
        self._clock = clock
        self._hosts = _LOOPBACK_NAMES | {host.casefold() for host in hosts}
        self._is_open = is_open
        self._routes = routes
        self._most_body = most_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no other protocol is spoken here
            return
        request = _Request(scope)
        caller: Caller | None = None
        refusal = self._refused_place(request) or self._refused_form(request)
        if refusal is None and not self._is_public(request):
            if request.path == LOGIN and request.method == "GET" and (token := request.query_token()):
                await self._log_in(request, token, send)
                return
            caller, refusal = self._judge(request)
        if refusal is not None:
            await self._note(request, caller, refusal.status)
            await _refuse(send, refusal)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._pass_on(scope, receive, send, request, caller)

    # --- judging -------------------------------------------------------------------------------------------

    def _is_public(self, request: _Request) -> bool:
        return (request.path == HEALTH and request.method in _SAFE) or self._is_open(request.path)

    def _refused_place(self, request: _Request) -> Refusal | None:
        """Where it was meant to go, and where it comes from: no page elsewhere leads a browser here."""
        host = request.host()
        if host is None or host not in self._hosts:
            hint = "ask by the address that it listens at, or add the name to `hosts` of its configuration"
            return Refusal(421, "wrong_host", "the daemon does not go by this name", hint)
        origin = request.header(b"origin")
        if origin is not None and (request.changes or request.cookie()) and not request.is_own_origin(origin):
            return Refusal(403, "foreign_origin", "a page of another origin cannot ask for this")
        if request.changes and request.header(b"sec-fetch-site") not in {None, "same-origin", "none"}:
            return Refusal(403, "foreign_origin", "a page of another site cannot ask for this")
        return None

    def _refused_form(self, request: _Request) -> Refusal | None:
        if request.method not in _METHODS:
            return Refusal(405, "wrong_method", f"{request.method[:20]} is not spoken here", "use GET or POST")
        length = request.header(b"content-length")
        if length is not None and (not length.isascii() or not length.isdecimal()):
            return Refusal(400, "bad_length", "the Content-Length is no number")
        if length is not None and int(length) > self._most_body:
            return Refusal(413, "too_large", f"a body has at most {self._most_body} bytes")
        has_body = request.header(b"transfer-encoding") is not None or (length is not None and int(length) > 0)
        kind = (request.header(b"content-type") or "").partition(";")[0].strip().casefold()
        if has_body and kind != "application/json":
            return Refusal(415, "not_json", "the body is not JSON", "send Content-Type: application/json")
        return None

    def _judge(self, request: _Request) -> tuple[Caller | None, Refusal | None]:
        given = request.bearer() or request.cookie()
        caller = self._tokens.caller(given, self._clock.now()) if given else None
        if caller is None:
            hint = "send Authorization: Bearer TOKEN; the first token is in the state directory's file `token`"
            return None, Refusal(401, "not_known", "the token is not known" if given else "there is no token", hint)
        needed = needed_for(request.method, request.path, self._routes)
        if not may(caller.role, needed):
            return caller, Refusal(403, "not_allowed", f"a {caller.role} may not do this", f"ask an {needed}")
        return caller, None

    # --- passing on ----------------------------------------------------------------------------------------

    async def _log_in(self, request: _Request, token: str, send: Send) -> None:
        """A link with a token becomes a cookie; no script reads it, and from elsewhere links alone bring it."""
        if self._tokens.caller(token, self._clock.now()) is None:
            await _refuse(send, Refusal(401, "not_known", "the token is not known"))
            return
        secure = "; Secure" if request.scheme == "https" else ""
        cookie = f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax{secure}"
        headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": 303, "headers": [*headers, *_HEADERS]})
        await send({"type": "http.response.body"})

    async def _pass_on(
        self, scope: Scope, receive: Receive, send: Send, request: _Request, caller: Caller | None
    ) -> None:
        """Have the application answer; nobody is told of a change before it is on record who asked for it."""
        taken, cut, answered = 0, False, False

        async def counted() -> Message:
            nonlocal taken, cut
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most_body:
                cut = True
                return {"type": "http.disconnect"}
            return message

        async def sent(message: Message) -> None:
            nonlocal answered
            if cut and not answered:
                return
            if message["type"] == "http.response.start":
                answered = True
                await self._note(request, caller, message["status"])
                message = {**message, "headers": [*_with_defaults(message.get("headers", ())), *_HEADERS]}
            await send(message)

        try:
            await self._app(scope, counted, sent)
        finally:
            if cut and not answered:
                await self._note(request, caller, 413)
                await _refuse(send, Refusal(413, "too_large", f"a body has at most {self._most_body} bytes"))

    async def _note(self, request: _Request, caller: Caller | None, status: int) -> None:
        if not request.changes:
            return
        entry = {
            "at": self._clock.now(),
            "who": caller.name if caller is not None else None,
            "role": caller.role if caller is not None else None,
            "from": request.address(),
            "method": request.method,
            "path": without_links(request.path)[:500],
            "status": status,
        }
        try:
            await self._audit.note(entry)
        except StorageFailing as failing:  # what was done is in the run's own journal
            say("audit_failed", level="error", error=str(failing), **{name: entry[name] for name in ("who", "path")})


class _Request:
    """What of a request is looked at here."""

    def __init__(self, scope: Scope) -> None:
        self.path: str = scope["path"]
        self.method: str = scope["method"]
        self.scheme: str = scope.get("scheme", "http")
        self._query: bytes = scope.get("query_string", b"")
        self._client = scope.get("client")
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]

    @property
    def changes(self) -> bool:
        """Whether it asks for more than a look."""
        return self.method not in _SAFE

    def header(self, name: bytes) -> str | None:
        """A header that is there once; one that is there twice is as good as none."""
        found = [value for key, value in self._headers if key == name]
        return found[0].decode("latin-1") if len(found) == 1 else None

    def address(self) -> str:
        """Whose connection it is."""
        return str(self._client[0]) if self._client else "?"

    def host(self) -> str | None:
        """The name by which it asks, without the port."""
        return _host_of(f"//{text}") if (text := self.header(b"host")) else None

    def is_own_origin(self, origin: str) -> bool:
        """Whether a page of `origin` is one of this very server: the same scheme, name and port."""
        return origin.casefold() == f"{self.scheme}://{self.header(b'host')}".casefold()

    def bearer(self) -> str:
        """The token in its Authorization; empty where there is none."""
        kind, _, token = (self.header(b"authorization") or "").partition(" ")
        return token.strip() if kind.casefold() == "bearer" else ""

    def cookie(self) -> str:
        """The token in its cookie; empty where there is none."""
        try:
            found = SimpleCookie(self.header(b"cookie") or "").get(COOKIE)
        except CookieError:
            return ""
        return found.value if found is not None else ""

    def query_token(self) -> str:
        """The token of a link; empty where there is none."""
        return next(iter(parse_qs(self._query.decode("latin-1")).get("token", ())), "")


def _host_of(url: str) -> str | None:
    try:
        host = urlsplit(url).hostname
    except ValueError:
        return None
    if host is None:
        return None
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.casefold()


def _with_defaults(headers: Collection[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """A response's headers; unless it says otherwise, nothing is kept, and a page may load from here alone."""
    names = {name.lower() for name, _ in headers}
    found = list(headers)
    if b"cache-control" not in names:
        found.append((b"cache-control", b"no-store"))
    if b"content-security-policy" not in names:
        found.append((b"content-security-policy", _POLICY))
    return found


async def _refuse(send: Send, refusal: Refusal) -> None:
    error = {"code": refusal.code, "message": refusal.message, "hint": refusal.hint}
    body = msgspec.json.encode({"error": error})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *_HEADERS]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="flowd"'))
    if refusal.status in {413, 415, 421}:
        headers.append((b"connection", b"close"))  # its body was not read
    await send({"type": "http.response.start", "status": refusal.status, "headers": _with_defaults(headers)})
    await send({"type": "http.response.body", "body": body})
