"""Who may ask a daemon for what: roles, tokens, and the table of what each request needs.

House rules of this room. A role may do all that those before it may. A token is shown once; what is kept of
it is a digest, from which nobody gets it back (it has 256 random bits, so a plain hash is as good as a slow
one). What a request needs is looked up by its method and path; what is in no table needs an admin.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Final

from flowd.core.frozen import Spec

VIEWER, OPERATOR, ADMIN = "viewer", "operator", "admin"
ROLES: Final = (VIEWER, OPERATOR, ADMIN)
"""Each may do what those before it may: look; start, stop and answer; everything."""

_API: Final = "/api/v1"
_RUN: Final = f"{_API}/runs/{{run}}"
_TASK: Final = f"{_RUN}/tasks/{{task}}"

ROUTES: Final[Mapping[tuple[str, str], str]] = {
    ("GET", f"{_API}/runs"): VIEWER,
    ("POST", f"{_API}/runs"): OPERATOR,
    ("GET", _RUN): VIEWER,
    ("GET", f"{_RUN}/events"): VIEWER,
    ("GET", f"{_API}/events"): VIEWER,
    ("GET", f"{_TASK}/log"): VIEWER,
    **{("POST", f"{_RUN}/{verb}"): OPERATOR for verb in ("cancel", "pause", "resume", "retry")},
    **{("POST", f"{_TASK}/{verb}"): OPERATOR for verb in ("approve", "reject", "resolve", "stop")},
    **{
        ("GET", f"{_API}/{what}"): VIEWER
        for what in ("pipelines", "schedules", "limits", "services", "artifacts", "notices", "status")
    },
    **{("POST", f"{_API}/schedules/{{name}}/{verb}"): OPERATOR for verb in ("pause", "resume")},
    ("POST", "/hooks/{name}"): OPERATOR,  # unless its caller is known by a signature
    ("GET", "/readyz"): VIEWER,
    ("GET", "/metrics"): VIEWER,
    ("GET", "/openapi.json"): VIEWER,
    ("GET", "/"): VIEWER,
    ("GET", "/runs/{run}"): VIEWER,
}

LINKS: Final = "/links/"
"""What follows is a signed link, which is as good as a token for what it lets its holder do."""

_TOKEN = re.compile(r"flowd_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
"""What a token may be called."""


class Caller(Spec, frozen=True, kw_only=True):
    """Who asks: the name of a token, its role, and its id."""

    name: str
    role: str
    token: str = ""


class Token(Spec, frozen=True, kw_only=True):
    """What is kept of a token: `id` is a part of it, `digest` that of the rest. It may expire."""

    id: str
    name: str
    role: str
    digest: str
    created_at: datetime
    expires_at: datetime | None = None


def written(ident: str, secret: str) -> str:
    """A token as its holder has it."""
    return f"flowd_{ident}_{secret}"


def digest(secret: str) -> str:
    """What is kept of a token's secret."""
    return sha256(secret.encode()).hexdigest()


def caller_of(text: str, tokens: Iterable[Token], now: datetime) -> Caller | None:
    """Who holds this token; None where nobody does, or it has expired. In the same time whatever is wrong with it."""
    match = _TOKEN.fullmatch(text)
    given, shown = (match[1], digest(match[2])) if match else ("", digest(""))
    known = _known(given, tokens)
    same = hmac.compare_digest(known.digest if known is not None else digest("nobody's"), shown)
    return _caller(known, now) if same else None


def holder_of(ident: str, tokens: Iterable[Token], now: datetime) -> Caller | None:
    """Who holds the token with this id; None where there is none such, or it has expired."""
    return _caller(_known(ident, tokens), now)


def without_tokens(text: str) -> str:
    """A text in which no token is left, wherever somebody may have put one; of the path of a link nothing is."""
    return f"{LINKS}…" if text.startswith(LINKS) else _TOKEN.sub("flowd_***", text)


def _known(ident: str, tokens: Iterable[Token]) -> Token | None:
    return {token.id: token for token in tokens}.get(ident)


def _caller(known: Token | None, now: datetime) -> Caller | None:
    if known is None or (known.expires_at is not None and known.expires_at <= now):
        return None
    return Caller(name=known.name, role=known.role, token=known.id)


def may(role: str, needed: str) -> bool:
    """Whether a role is enough."""
    return role in ROLES and ROLES.index(role) >= ROLES.index(needed)


def needed_for(method: str, path: str, routes: Mapping[tuple[str, str], str] = ROUTES) -> str:
    """The role that a request needs, by its path as the server read it; HEAD needs what GET does."""
    if method == "HEAD":
        method = "GET"
    if (exact := routes.get((method, path))) is not None:
        return exact
    parts = path.split("/")
    for (one, template), role in routes.items():
        if one == method and "{" in template and _fits(template.split("/"), parts):
            return role
    return ADMIN


def _fits(template: list[str], parts: list[str]) -> bool:
    return len(template) == len(parts) and all(
        bool(part) if known.startswith("{") else known == part for known, part in zip(template, parts, strict=True)
    )
