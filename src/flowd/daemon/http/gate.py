"""The gate that every request goes through before the application sees it: who asks, from where, and for what.

House rules of this room. Paths are compared whole, as the server read them; nothing is public by how it
begins or ends. A request is refused before its body is read. What a browser sends by itself (a cookie) is
worth nothing for what comes from another origin, nor for a change that a form could ask for. No token
reaches a log.

A plain ASGI middleware: it passes streams through untouched, which wrappers that gather responses do not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, Final, Protocol

from flowd.core.access import ROUTES, Caller, may, needed_for, without_tokens
from flowd.core.errors import FlowdError, StorageFailing
from flowd.daemon.http.answers import App, Message, Receive, Refusal, Scope, Send, guarded, refuse
from flowd.daemon.http.asked import FORM, JSON, SAFE, Asked
from flowd.daemon.http.sessions import SESSION_FOR, Sessions
from flowd.daemon.http.throttle import Throttle
from flowd.daemon.saying import say
from flowd.ports.clock import Clock

HEALTH: Final = "/healthz"
LOGIN: Final = "/"
MOST_BODY: Final = 1 << 20
_METHODS: Final = frozenset({"GET", "HEAD", "POST"})
_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_MOST_WRONG: Final = 10
_MOST_NOTED: Final = 60
"""Wrong tokens, and refusals of strangers that are kept, of an address within a minute."""
_STILL_S: Final = 5.0
"""How often, in seconds, whoever reads a stream is looked at again."""

_UNKNOWN_HINT: Final = (
    "send Authorization: Bearer TOKEN; the first token is in the state directory's file `token`, "
    "and the daemon prints a new link when it starts"
)


class Tokens(Protocol):
    """Who holds which token. FlowdError or OSError where that cannot be known."""

    def caller(self, text: str, now: datetime) -> Caller | None:
        """Who holds this one; None where nobody does."""
        ...

    def holder(self, ident: str, now: datetime) -> Caller | None:
        """Who holds the one with this id; None where nobody does, or no more."""
        ...


class Audit(Protocol):
    """Keeps what was asked for."""

    async def note(self, entry: Mapping[str, Any]) -> None:
        """Keep one entry."""
        ...


class Gate:
    """Stands before `app`. `hosts` are the names and addresses by which the daemon may be asked.

    What `is_open` says of by its path is passed on for anybody: the application judges it itself. In the
    application, `scope["state"]["caller"]` is who asks; None where that was not asked.
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
        sessions: Sessions | None = None,
    ) -> None:
        self._app = app
        self._tokens = tokens
        self._audit = audit
        self._clock = clock
        self._hosts = _LOOPBACK_NAMES | {host.strip("[]").casefold() for host in hosts}
        self._is_open = is_open
        self._routes = routes
        self._most_body = most_body
        self._sessions = sessions or Sessions(clock)
        self._wrong = Throttle(clock, _MOST_WRONG)
        self._strangers = Throttle(clock, _MOST_NOTED)
        self._trouble = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # no other protocol is spoken here
            return
        asked = Asked(scope)
        caller: Caller | None = None
        refusal = self._refused_place(asked) or self._refused_form(asked)
        if refusal is None and not self._is_public(asked):
            if asked.path == LOGIN and asked.method == "GET" and (word := asked.link()):
                await self._log_in(asked, word, send)
                return
            caller, refusal = self._judge(asked)
        if refusal is not None:
            await self._note(asked, caller, refusal.status)
            await refuse(send, refusal, receive if asked.has_body else None)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._pass_on(scope, receive, send, asked, caller)

    # --- judging -------------------------------------------------------------------------------------------

    def _is_public(self, asked: Asked) -> bool:
        return (asked.path == HEALTH and asked.method in SAFE) or self._is_open(asked.path)

    def _refused_place(self, asked: Asked) -> Refusal | None:
        """Where it was meant to go, and where it comes from: no page elsewhere leads a browser here."""
        if name := asked.twice():
            return Refusal(400, "twice", f"the header {name} is there more than once")
        host = asked.host()
        if host is None or host not in self._hosts | {asked.own_address()}:
            hint = "ask by the address that it listens at, or add the name to `hosts` of its configuration"
            return Refusal(421, "wrong_host", "the daemon does not go by this name", hint)
        origin = asked.header(b"origin")
        if origin is not None and (asked.changes or asked.session()) and not asked.is_own_origin(origin):
            return Refusal(403, "foreign_origin", "a page of another origin cannot ask for this")
        if asked.changes and asked.is_from_elsewhere:
            return Refusal(403, "foreign_origin", "a page of another site cannot ask for this")
        return None

    def _refused_form(self, asked: Asked) -> Refusal | None:
        if asked.method not in _METHODS:
            return Refusal(405, "wrong_method", f"{asked.method[:20]} is not spoken here", "use GET or POST")
        length = asked.length
        if length is not None and (not length.isascii() or not length.isdecimal()):
            return Refusal(400, "bad_length", "the Content-Length is no number")
        if length is not None and int(length) > self._most_body:
            return self._too_large()
        is_button = asked.kind == FORM and not asked.has_body and self._is_open(asked.path)  # it says what it lacks
        if (asked.has_body and asked.kind != JSON) or (
            asked.changes and asked.kind not in {JSON, ""} and not is_button
        ):
            return Refusal(415, "not_json", "the body is not JSON", "send Content-Type: application/json")
        return None

    def _too_large(self) -> Refusal:
        return Refusal(413, "too_large", f"a body has at most {self._most_body} bytes")

    def _judge(self, asked: Asked) -> tuple[Caller | None, Refusal | None]:
        """Who asks, and whether that is enough for what is asked."""
        try:
            caller = self._caller(asked)
        except (FlowdError, OSError) as error:
            return None, self._in_trouble(error)
        if caller is None:
            return None, self._unknown(asked)
        if not asked.has_authorization and (refusal := self._refused_cookie(asked)) is not None:
            return caller, refusal
        needed = needed_for(asked.method, asked.path, self._routes)
        if not may(caller.role, needed):
            return caller, Refusal(403, "not_allowed", f"a {caller.role} may not do this", f"ask an {needed}")
        if asked.is_odd:
            return caller, Refusal(404, "not_found", "there is no such path", "see /openapi.json for what there is")
        return caller, None

    def _caller(self, asked: Asked) -> Caller | None:
        now = self._clock.now()
        if asked.has_authorization:  # a wrong token is not made good by a cookie
            return self._tokens.caller(asked.bearer(), now)
        token = self._sessions.token_of(asked.session())
        return self._tokens.holder(token, now) if token is not None else None

    def _refused_cookie(self, asked: Asked) -> Refusal | None:
        """A browser sends its cookie whoever has it ask: only the daemon's own page is believed."""
        if asked.is_from_elsewhere:
            return Refusal(403, "foreign_origin", "a page of another site cannot ask for this")
        if asked.changes and (asked.header(b"origin") is None or not asked.is_by_script):
            hint = "send Origin, and Content-Type: application/json or X-Flowd-Request: 1"
            return Refusal(403, "not_by_page", "with a cookie, changes come from the daemon's own page alone", hint)
        return None

    def _unknown(self, asked: Asked) -> Refusal:
        if not asked.bearer():  # nothing was tried: any page can have a browser ask so
            return Refusal(401, "not_known", "there is no token, or none that is known", _UNKNOWN_HINT)
        return self._tried(asked, "the token is not known")

    def _tried(self, asked: Asked, message: str) -> Refusal:
        if self._wrong.is_over(asked.address()):
            wait_s = self._wrong.wait_s(asked.address())
            return Refusal(429, "too_often", "too many wrong tokens came from there", f"wait {wait_s}s", wait_s)
        return Refusal(401, "not_known", message, _UNKNOWN_HINT)

    def _in_trouble(self, error: Exception) -> Refusal:
        """Nobody is let in while it cannot be known who may; why is told to whoever reads the log, once."""
        if self._trouble != str(error):
            self._trouble = str(error)
            say("tokens_unusable", level="error", error=self._trouble)
        return Refusal(503, "tokens_unusable", "the daemon cannot tell who may ask", "its log says why")

    # --- passing on ----------------------------------------------------------------------------------------

    async def _log_in(self, asked: Asked, word: str, send: Send) -> None:
        """A link becomes a cookie that no script reads and no other site sends; it is no token itself."""
        now = self._clock.now()
        try:
            ident = self._sessions.redeem(word)
            caller = self._tokens.holder(ident, now) if ident is not None else self._tokens.caller(word, now)
        except (FlowdError, OSError) as error:
            await refuse(send, self._in_trouble(error))
            return
        if caller is None:
            refusal = self._tried(asked, "the link was used, or is too old")
            await self._note(asked, None, refusal.status, is_login=True)
            await refuse(send, refusal)
            return
        await self._note(asked, caller, 303, is_login=True)
        safe = "; Secure" if asked.scheme == "https" else ""
        cookie = f"{asked.cookie_name()}={self._sessions.begin(caller.token)}; Path=/; HttpOnly; SameSite=Strict{safe}"
        cookie += f"; Max-Age={SESSION_FOR.total_seconds():.0f}"
        headers = [(b"location", b"/"), (b"set-cookie", cookie.encode()), (b"content-length", b"0")]
        await send({"type": "http.response.start", "status": 303, "headers": guarded(headers)})
        await send({"type": "http.response.body"})

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, asked: Asked, caller: Caller | None) -> None:
        """Have the application answer; nobody is told of a change before it is on record who asked for it."""
        taken, cut, answered, over = 0, False, False, False
        looked = self._clock.monotonic()

        async def counted() -> Message:
            nonlocal taken, cut
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._most_body:
                cut = True
                return {"type": "http.disconnect"}
            return message

        async def sent(message: Message) -> None:
            nonlocal answered, looked, over
            if over or (cut and not answered):
                return
            if message["type"] == "http.response.start":
                answered = True
                await self._note(asked, caller, message["status"])
                message = {**message, "headers": guarded(message.get("headers", ()))}
            elif caller is not None and (now := self._clock.monotonic()) - looked >= _STILL_S:
                looked = now
                over = self._judge(asked)[1] is not None
                message = {"type": "http.response.body"} if over else message  # it may not read on: the stream ends
            await send(message)

        try:
            await self._app(scope, counted, sent)
        except Exception:
            if not cut or answered:
                raise  # else it has failed over the body that was cut off
        if cut and not answered:
            await self._note(asked, caller, 413)
            await refuse(send, self._too_large(), receive)

    async def _note(self, asked: Asked, caller: Caller | None, status: int, *, is_login: bool = False) -> None:
        """Keep who asked for a change, or came in; of what strangers try, so much that it pushes nothing else out."""
        if not asked.changes and not is_login:
            return
        if caller is None and status >= 400 and self._strangers.is_over(asked.address()):
            return
        entry = {
            "at": self._clock.now(),
            "who": caller.name if caller is not None else None,
            "role": caller.role if caller is not None else None,
            "from": asked.address(),
            "method": asked.method,
            "path": without_tokens(asked.path)[:500],
            "status": status,
        }
        try:
            await self._audit.note(entry)
        except StorageFailing as failing:  # what was done is in the run's own journal
            say("audit_failed", level="error", error=str(failing), **{name: entry[name] for name in ("who", "path")})
