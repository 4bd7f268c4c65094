"""A request as the gate looks at it: where to, where from, by whom, and in which form."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qs

from flowd.daemon.http.answers import Scope

SAFE: Final = frozenset({"GET", "HEAD"})
JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"
_MARK: Final = b"x-flowd-request"
_ONCE: Final = (
    *(b"host", b"origin", b"authorization", b"cookie", b"content-type", b"content-length", b"sec-fetch-site"),
    _MARK,
)
_HOST: Final = re.compile(r"(?P<name>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_ODD: Final = re.compile(r"[\x00-\x1f\x7f]|(^|/)\.{1,2}(/|$)")


class Asked:
    """What of a request is looked at. A header that is there twice is none: `twice` says so, and it goes no further."""

    def __init__(self, scope: Scope) -> None:
        self.path: str = scope["path"]
        self.method: str = scope["method"]
        self.scheme: str = scope.get("scheme", "http")
        self._query: bytes = scope.get("query_string", b"")
        self._client = scope.get("client")
        self._server = scope.get("server")
        self._headers: list[tuple[bytes, bytes]] = scope["headers"]

    # --- form ----------------------------------------------------------------------------------------------

    @property
    def changes(self) -> bool:
        """Whether it asks for more than a look."""
        return self.method not in SAFE

    @property
    def is_odd(self) -> bool:
        """Whether two readers could take its path for two different ones: whole addresses, dots, control characters."""
        return not self.path.startswith("/") or _ODD.search(self.path) is not None

    @property
    def length(self) -> str | None:
        """Its Content-Length."""
        return self.header(b"content-length")

    @property
    def has_body(self) -> bool:
        """Whether a body comes with it."""
        return self.header(b"transfer-encoding") is not None or self.length not in {None, "0"}

    @property
    def kind(self) -> str:
        """What its body is said to be; empty where nothing is said."""
        return (self.header(b"content-type") or "").partition(";")[0].strip().casefold()

    @property
    def is_by_script(self) -> bool:
        """Whether no form of another page could have sent it so: it is JSON, or has a header of ours."""
        return self.kind == JSON or self.header(_MARK) is not None

    def header(self, name: bytes) -> str | None:
        """A header that is there once."""
        found = [value for key, value in self._headers if key == name]
        return found[0].decode("latin-1") if len(found) == 1 else None

    def twice(self) -> str:
        """A header that may be there once, and is there more often; empty where there is none such."""
        names = [name for name, _ in self._headers]
        return next((name.decode() for name in _ONCE if names.count(name) > 1), "")

    # --- where to, where from ------------------------------------------------------------------------------

    def address(self) -> str:
        """Whose connection it is."""
        return str(self._client[0]) if self._client else "?"

    def host(self) -> str | None:
        """The name by which it asks, without port and brackets."""
        match = _HOST.fullmatch(self.header(b"host") or "")
        return match["name"].strip("[]").casefold() if match else None

    def own_address(self) -> str | None:
        """The address that it reached."""
        return str(self._server[0]).casefold() if self._server else None

    def is_own_origin(self, origin: str) -> bool:
        """Whether a page of `origin` is one of this very server: the same name and port.

        The scheme is the same too, unless something in front of the server speaks TLS for it.
        """
        host = self.header(b"host")
        return origin.casefold() in {f"{scheme}://{host}".casefold() for scheme in (self.scheme, "https")}

    @property
    def is_from_elsewhere(self) -> bool:
        """Whether the browser says that another page asks."""
        return self.header(b"sec-fetch-site") not in {None, "same-origin", "none"}

    # --- by whom -------------------------------------------------------------------------------------------

    @property
    def has_authorization(self) -> bool:
        """Whether it says who asks, in whatever form."""
        return self.header(b"authorization") is not None

    def bearer(self) -> str:
        """The token in its Authorization; empty where there is none."""
        kind, _, token = (self.header(b"authorization") or "").partition(" ")
        return token.strip() if kind.casefold() == "bearer" else ""

    def cookie_name(self) -> str:
        """A cookie is sent to all ports of its host: each has a name of its own, lest daemons log each other out."""
        return f"flowd-{self._server[1]}" if self._server and self._server[1] else "flowd"

    def session(self) -> str:
        """The session in its cookie; empty where there is none, or more than one."""
        pairs = [part.strip().partition("=") for part in (self.header(b"cookie") or "").split(";")]
        found = [value for name, _, value in pairs if name == self.cookie_name()]
        return found[0] if len(found) == 1 else ""

    def link(self) -> str:
        """The word or token of a link; empty where there is none."""
        return next(iter(parse_qs(self._query.decode("latin-1")).get("token", ())), "")
