"""The server: uvicorn inside the daemon's own loop, which keeps its signals, and slow clients outside.

House rules of this room. A connection that has not sent its headers, or its body, in time is closed; so is
one too many, at once. The end is asked for and waited for: a server that is cancelled leaves streams open.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import anyio
import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from flowd.core.errors import BadRequest, cause
from flowd.core.settings import Listen, Tls

HEADERS_S: Final = 10.0
BODY_S: Final = 30.0
_KEEP_ALIVE_S: Final = 15
_MOST_HEADERS: Final = 16 * 1024
_MOST_CONNECTIONS: Final = 4_000
_FILES_KEPT: Final = 256
"""Descriptors that are left to the runs, whatever the clients do."""
_BACKLOG: Final = 1_024


class Deadlines:
    """How long a client may take, in seconds, and how many may be connected."""

    def __init__(
        self, headers_s: float = HEADERS_S, body_s: float = BODY_S, most_connections: int | None = None
    ) -> None:
        self.headers_s = headers_s
        self.body_s = body_s
        self.most_connections = most_connections or max(_most_files() - _FILES_KEPT, 32)


def _most_files() -> int:
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], _MOST_CONNECTIONS + _FILES_KEPT)


def listening(listen: Listen) -> socket.socket:
    """A socket that is bound to an address. BadRequest where it cannot be."""
    try:
        host = listen.host.encode("ascii")  # of a text, tables of all of Unicode would be loaded: a megabyte
        info = socket.getaddrinfo(host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeEncodeError) as error:
        raise BadRequest(f"cannot listen at {listen}: {getattr(error, 'strerror', None) or error}") from error
    family, kind, protocol, _, address = info[0]
    made = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        made.close()
        hint = "; another program listens there: give another `listen`" if error.errno == errno.EADDRINUSE else ""
        raise BadRequest(f"cannot listen at {listen}: {cause(error)}{hint}") from error
    return made


def check_tls(tls: Tls | None) -> None:
    """BadRequest where a certificate and its key are not to be used."""
    if tls is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.cert, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise BadRequest(f"tls: {tls.cert} and {tls.key} cannot be used: {error}") from error


@asynccontextmanager
async def serving(
    app: Any,
    bound: socket.socket,
    *,
    tls: Tls | None = None,
    deadlines: Deadlines | None = None,
    closing: Callable[[], None] = lambda: None,
) -> AsyncIterator[None]:
    """Serve `app` on a bound socket, which it closes; at the end `closing` is called first, so that streams end."""
    check_tls(tls)
    server = _Server(
        uvicorn.Config(
            app,
            http=_protocol(deadlines or Deadlines()),
            loop="none",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=_MOST_HEADERS,
            backlog=_BACKLOG,
            ssl_certfile=tls.cert if tls is not None else None,
            ssl_keyfile=tls.key if tls is not None else None,
        )
    )
    with bound:
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [bound], name="flowd http")
            await server.opened.wait()
            try:
                yield
            finally:
                closing()
                server.should_exit = True


class _Server(uvicorn.Server):
    """Leaves the process's signals to whoever has them, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.opened = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.opened.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _protocol(deadlines: Deadlines) -> type[H11Protocol]:
    class Impatient(H11Protocol):
        """Closes connections whose request does not come, or that are too many."""

        _timer: asyncio.TimerHandle | None = None
        _waits_for = ""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
            super().connection_made(transport)
            if len(self.connections) > deadlines.most_connections:
                transport.abort()
                return
            self._wait_for("headers", deadlines.headers_s)

        def connection_lost(self, exc: Exception | None) -> None:
            self._wait_for("", 0)
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            state = self.conn.their_state
            if state is h11.SEND_BODY:
                self._wait_for("body", deadlines.body_s)
            elif state is h11.IDLE and self.conn.trailing_data[0]:
                self._wait_for("headers", deadlines.headers_s)
            else:
                self._wait_for("", 0)

        def _wait_for(self, what: str, seconds: float) -> None:
            """Close the connection unless `what` has come in time; more of it gives it no more time."""
            if what == self._waits_for and what:
                return
            if self._timer is not None:
                self._timer.cancel()
            self._waits_for = what
            self._timer = self.loop.call_later(seconds, self.transport.abort) if what else None

    return Impatient
