"""E-mail, by aiosmtplib: `mailto://USER@HOST:PORT` tells USER@HOST, by the mail server HOST.

`mailto://NAME:PASSWORD@HOST/a@b.org/c@d.org` logs in, and tells others; so does `?to=a@b.org,c@d.org`. `?from=` is the
sender, `?smtp=` another server, `?user=` another name to log in with. `mailto` uses STARTTLS where the server offers
it, `mailtos` insists on it (port 587), or begins with TLS (port 465).
"""

from __future__ import annotations

from collections.abc import Sequence
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import anyio
import msgspec

from flowd.core.notices import Message
from flowd.ports.clock import Clock
from flowd.ports.notifier import Undelivered

SCHEMES: Final = frozenset({"mailto", "mailtos"})
PATIENCE_S: Final = 60.0

_SHAPE: Final = "write mailto://USER@HOST, or mailto://NAME:PASSWORD@HOST/USER@DOMAIN"
_REMEMBERED: Final = 1_000
_TLS_PORT: Final = 465


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """What a URL says of a mail: the server, who logs in, from whom and to whom. `secure`: with TLS or not at all."""

    host: str
    port: int
    user: str = ""
    password: str = ""
    sender: str
    to: tuple[str, ...]
    secure: bool = False


class Mail:
    """Delivers to `mailto` and `mailtos` URLs: to each recipient once, as far as this process remembers."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._reached: dict[tuple[str, str], set[str]] = {}

    async def __call__(self, url: str, message: Message) -> None:
        """Deliver it to all whom the URL names. Raises Undelivered where one of them has not got it."""
        route = route_of(url)
        key = (message.id, f"{route.host}:{route.port} {route.to}")
        reached = self._reached.setdefault(key, set())
        left = [one for one in route.to if one not in reached]
        refused = await self._send(route, left, message)
        reached.update(one for one in left if one not in refused)
        if refused:
            while len(self._reached) > _REMEMBERED:
                self._reached.pop(next(iter(self._reached)))
            raise Undelivered(f"{route.host} refused {', '.join(refused)}: {next(iter(refused.values()))}")
        del self._reached[key]

    async def _send(self, route: Route, to: Sequence[str], message: Message) -> dict[str, str]:
        """Whom the server refused, and why."""
        smtp = _library()
        client = smtp.SMTP(
            hostname=route.host,
            port=route.port,
            username=route.user or None,
            password=route.password or None,
            timeout=PATIENCE_S / 2,
            local_hostname="localhost",
            use_tls=route.secure and route.port == _TLS_PORT,
            start_tls=(route.port != _TLS_PORT) if route.secure else None,
            validate_certs=route.secure or bool(route.password),  # else TLS is better than none, whoever it is
        )
        try:
            with anyio.fail_after(PATIENCE_S):
                async with client:
                    refused, _ = await client.send_message(
                        mail_of(route, message, self._clock), sender=route.sender, recipients=list(to)
                    )
        except TimeoutError:
            raise Undelivered(f"{route.host}:{route.port} did not answer within {PATIENCE_S:g}s") from None
        except smtp.SMTPRecipientsRefused as error:
            return {one.recipient: _reply(one.code, one.message) for one in error.recipients}
        except smtp.SMTPResponseException as error:
            raise Undelivered(f"{route.host}: {_reply(error.code, error.message)}") from None
        except (smtp.SMTPException, OSError, ValueError) as error:
            raise Undelivered(f"{route.host}:{route.port}: {type(error).__name__}: {_plain(error, route)}") from None
        return {one: _reply(answer.code, answer.message) for one, answer in refused.items()}


def route_of(url: str) -> Route:
    """Read a URL. Undelivered, for good, where it is none of a mail."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise Undelivered(f"its URL cannot be read; {_SHAPE}", for_good=True) from None
    query = dict(parse_qsl(parts.query))
    name, password = unquote(parts.username or ""), unquote(parts.password or "")
    named = [unquote(part) for part in parts.path.split("/") if part] + query.get("to", "").split(",")
    to = tuple(dict.fromkeys(one.strip(" ") for one in named if one.strip(" ")))
    own = name if "@" in name else f"{name}@{host}" if name else ""
    to = to or ((own,) if own else ())
    if not host or not to or any("@" not in one or not one.isprintable() or " " in one for one in to):
        raise Undelivered(f"its URL names nobody; {_SHAPE}", for_good=True)
    sender = query.get("from") or (own if password else f"flowd@{host}")
    secure = parts.scheme.lower() == "mailtos"
    return Route(
        host=query.get("smtp") or host,
        port=port or (587 if secure else 25),
        user=(query.get("user") or name) if password else "",
        password=password,
        sender=sender,
        to=to,
        secure=secure,
    )


def mail_of(route: Route, message: Message, clock: Clock) -> EmailMessage:
    """The mail: plain text, with an id that is the notice's, and marked so that no machine answers it."""
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = message.subject
    mail["From"] = route.sender
    mail["To"] = ", ".join(route.to)
    mail["Date"] = format_datetime(clock.now())
    mail["Message-ID"] = f"<{message.id}@flowd>"
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Flowd-Notice"] = message.id
    mail.set_content(message.text)
    return mail


def _reply(code: int, text: str) -> str:
    line = " ".join(text.split())[:200]
    return f"{code} {line}"


def _plain(error: Exception, route: Route) -> str:
    text = " ".join(str(error).split())[:200]
    return text.replace(route.password, "***") if route.password else text


def _library() -> Any:
    try:
        import aiosmtplib
    except ImportError:
        raise Undelivered(
            "e-mail takes the library aiosmtplib, which is not installed; pip install 'flowd[notify]'"
        ) from None
    return aiosmtplib
