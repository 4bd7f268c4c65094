"""The server: uvicorn inside the daemon's own loop, which keeps its signals, and slow clients outside.

House rules of this room. Connections are taken one by one, and only while there is room: what floods the
server takes neither the loop's time nor the files of the runs. The end is asked for and waited for: a server
that is cancelled leaves streams open.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final

import anyio
import anyio.lowlevel
import uvicorn

from flowd.core.errors import BadRequest, cause
from flowd.core.settings import Listen, Tls
from flowd.daemon.http.connections import Connection, Deadlines, Waiting

_KEEP_ALIVE_S: Final = 15
_MOST_HEADERS: Final = 16 * 1024
_BACKLOG: Final = 1_024
_SENT_AHEAD: Final = 128 * 1024
"""What the kernel keeps for one that does not read, in bytes; by itself it would come to keep megabytes."""
_MOST_OVER_TLS: Final = 150
"""Connections at once over TLS: each takes some 300 kB, whatever it asks."""
_NO_FILES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_LOOK_EVERY: Final = 10
"""Ticks of uvicorn, of a tenth of a second."""


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
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENT_AHEAD)  # that of its connections, too
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
    deadlines = deadlines or Deadlines()
    server = _Server(
        uvicorn.Config(
            app,
            loop="none",
            lifespan="off",
            http=Connection,
            ws="none",
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=deadlines.ending_s,  # type: ignore[arg-type]  # it is passed to wait_for
            h11_max_incomplete_event_size=_MOST_HEADERS,
            ssl_certfile=tls.cert if tls is not None else None,
            ssl_keyfile=tls.key if tls is not None else None,
        ),
        deadlines,
    )
    with bound:
        async with anyio.create_task_group() as group:
            group.start_soon(server.until_closed, name="flowd http")
            try:
                await server.opened.wait()
                bound.listen(_BACKLOG)
                bound.setblocking(False)
                group.start_soon(server.take, bound, name="flowd http connections")
                yield
            finally:
                server.taking.cancel()
                closing()
                server.should_exit = True


class _Server(uvicorn.Server):
    """Leaves the process's signals to whoever has them, says when it is open, and takes its connections itself."""

    def __init__(self, config: uvicorn.Config, deadlines: Deadlines) -> None:
        super().__init__(config)
        self.opened = anyio.Event()
        self.taking = anyio.CancelScope()
        self._most = min(deadlines.most_connections, _MOST_OVER_TLS) if config.is_ssl else deadlines.most_connections
        self._patience_s = deadlines.headers_s
        self._waiting = Waiting(deadlines)
        self._greeting: dict[anyio.CancelScope, None] = {}

    async def until_closed(self) -> None:
        """Serve until `should_exit`; whoever cancels waits for that end, which takes the grace at the most."""
        with anyio.CancelScope(shield=True):
            await self.serve([])
            for connection in list(self.server_state.connections):
                connection.transport.abort()
            await anyio.lowlevel.checkpoint()  # they are told

    async def take(self, bound: socket.socket) -> None:
        """Take connections, one by one, until `taking` is cancelled."""
        loop = asyncio.get_running_loop()
        with self.taking:
            async with anyio.create_task_group() as group:
                while True:
                    try:
                        taken, _ = await loop.sock_accept(bound)
                    except OSError as error:
                        if error.errno in _NO_FILES:
                            self._make_room()
                            await anyio.sleep(0.1)
                        continue
                    if len(self.server_state.connections) + len(self._greeting) >= self._most and not self._make_room():
                        taken.close()
                    elif self.config.ssl is None:
                        await self._connect(taken)
                    else:
                        group.start_soon(self._greet, taken, name="flowd http handshake")
                    await anyio.lowlevel.checkpoint()  # a flood leaves time for everybody else

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: cut off whose time is over."""
        if counter % _LOOK_EVERY == 0:
            for connection in self.server_state.connections:
                if isinstance(connection, Connection):
                    connection.look()
        for what, late in list(self._waiting.late(asyncio.get_running_loop().time())):
            late.is_late(what)
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open, with no socket that uvicorn knows of."""
        await super().startup(sockets)
        self.opened.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the daemon's."""
        yield

    async def _greet(self, taken: socket.socket) -> None:
        """Have TLS agreed upon, in the time that headers have."""
        with anyio.CancelScope() as scope:
            self._greeting[scope] = None
            try:
                await self._connect(taken)
            finally:
                del self._greeting[scope]

    async def _connect(self, taken: socket.socket) -> None:
        loop, tls = asyncio.get_running_loop(), self.config.ssl
        with suppress(OSError):  # it has gone, or speaks no TLS
            await loop.connect_accepted_socket(
                lambda: Connection(self.config, self.server_state, self._waiting),
                taken,
                ssl=tls,
                ssl_handshake_timeout=self._patience_s if tls is not None else None,
            )

    def _make_room(self) -> bool:
        """Close whoever has waited longest and asked for nothing; False where everybody is being served."""
        if (oldest := self._waiting.oldest()) is not None:
            self._waiting.over(oldest)
            oldest.cut()
            return True
        if (greeting := next(iter(self._greeting), None)) is not None:
            greeting.cancel()
            return True
        return False
