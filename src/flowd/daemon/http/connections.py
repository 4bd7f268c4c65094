"""One connection as the server sees it: what it is waited for, and how it is cut off.

House rules of this room. A client has a time for its headers, for its body and for reading what it is given;
a byte now and then gives it no more. Where there is no room for one more, whoever has asked for nothing yet
and has waited longest makes room: a flood of half-open requests keeps nobody out who asks.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import h11
import msgspec
import uvicorn
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.server import ServerState

HEADERS_S: Final = 10.0
BODY_S: Final = 30.0
READING_S: Final = 30.0
ENDING_S: Final = 5.0
_MOST_CONNECTIONS: Final = 4_000

HEADERS, BODY, IDLE, READER, END = "headers", "body", "the next request", "its reader", "its end"
_OF_CLIENT: Final = (HEADERS, BODY, IDLE)

_LOGGER: Final = logging.getLogger("flowd.daemon.http")
_LOGGER.setLevel(logging.ERROR)  # what strangers send is not worth a line each; what the application breaks is


class Deadlines:
    """How long a client may take, in seconds, and how many may be connected.

    `ending_s` is what an answer that has begun has left when the server ends. By default half of the files that
    the process may have open are for connections: the others are for its runs.
    """

    def __init__(
        self,
        headers_s: float = HEADERS_S,
        body_s: float = BODY_S,
        reading_s: float = READING_S,
        ending_s: float = ENDING_S,
        most_connections: int | None = None,
    ) -> None:
        self.headers_s = headers_s
        self.body_s = body_s
        self.reading_s = reading_s
        self.ending_s = ending_s
        half = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        self.most_connections = most_connections or max(min(half, _MOST_CONNECTIONS), 32)


class Waiting:
    """Since when each connection is waited for, and for what; of each kind the longest first."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._seconds: Mapping[str, float | None] = {
            HEADERS: deadlines.headers_s,
            BODY: deadlines.body_s,
            IDLE: None,  # uvicorn has a time of its own for that
            READER: deadlines.reading_s,
            END: deadlines.reading_s,
        }
        self._since: dict[str, dict[Connection, float]] = {what: {} for what in self._seconds}

    def begin(self, what: str, connection: Connection, now: float) -> None:
        """From now on, unless it is so already: time runs from the first moment on."""
        self._since[what].setdefault(connection, now)

    def over(self, connection: Connection, *what: str) -> None:
        """It is waited for no more; without `what`, for nothing."""
        for one in what or self._since:
            self._since[one].pop(connection, None)

    def oldest(self) -> Connection | None:
        """Who has waited longest of those that have asked for nothing, or not yet to the end."""
        return next((connection for what in _OF_CLIENT for connection in self._since[what]), None)

    def late(self, now: float) -> Iterator[tuple[str, Connection]]:
        """Whose time is over."""
        for what, seconds in self._seconds.items():
            for connection, since in list(self._since[what].items()):
                if seconds is None or since + seconds > now:
                    break
                yield what, connection


class Connection(H11Protocol):
    """A connection whose client may not dawdle. What is no HTTP is answered as every error is, and logged nowhere."""

    def __init__(self, config: uvicorn.Config, state: ServerState, waiting: Waiting) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self.logger = _LOGGER
        self.access_log = False  # its lines would hold the query, and with it the token of a link
        self._waiting = waiting

    # --- what happens to it --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """It is there, and its headers are waited for."""
        super().connection_made(transport)
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._waiting.over(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """More of a request; what comes after the end is nobody's."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._settle()

    def on_response_complete(self) -> None:
        """A request has its answer; the next may have begun."""
        super().on_response_complete()
        self._settle()

    def pause_writing(self) -> None:
        """Nobody reads for now."""
        super().pause_writing()
        self._waiting.begin(READER, self, self.loop.time())

    def resume_writing(self) -> None:
        """It is read again."""
        super().resume_writing()
        self._waiting.over(self, READER)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's signature
        """Answer what is no proper HTTP."""
        status = getattr(sys.exc_info()[1], "error_status_hint", 400)  # called where h11's error is handled
        self._refuse(status, "bad_http", "this is no proper HTTP request" if status != 431 else "its headers are large")

    def _should_upgrade(self) -> bool:
        return False  # no other protocol is spoken here, and it is worth no word

    # --- what is done about it -----------------------------------------------------------------------------

    def cut(self) -> None:
        """Close it at once, whatever it was told so far."""
        self.transport.abort()

    def is_late(self, what: str) -> None:
        """What it is waited for has not come in time."""
        if what == BODY or (what == HEADERS and self.conn.trailing_data[0]):
            self._refuse(408, "too_slow", f"the request's {what} did not come in time")
        else:
            self.cut()

    def look(self) -> None:
        """A closing connection has a time for that, too: its reader may never take what is left."""
        if self.transport.is_closing():
            self._waiting.begin(END, self, self.loop.time())

    def _settle(self) -> None:
        waits = self._waits_for()
        self._waiting.over(self, *(what for what in _OF_CLIENT if what != waits))
        if waits:
            self._waiting.begin(waits, self, self.loop.time())

    def _waits_for(self) -> str:
        if self.transport.is_closing():
            return ""
        if self.conn.their_state is h11.IDLE:
            return IDLE if self.cycle is not None and not self.conn.trailing_data[0] else HEADERS
        return BODY if self.conn.their_state is h11.SEND_BODY else ""

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer in the application's place, where it has not begun to; and close."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            self.cut()
            return
        body = msgspec.json.encode({"error": {"code": code, "message": message, "hint": ""}})
        headers: list[tuple[bytes, bytes]] = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        events: tuple[Any, ...] = (
            h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status]),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()
        self._settle()
