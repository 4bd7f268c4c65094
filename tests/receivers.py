"""Real receivers of notices on this machine: a web server and a mail server that answer as they are told."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

Answer = Callable[[int], int]
"""The status that the n-th request (from 0) is answered with."""


class WebReceiver:
    """What has arrived at a web server: each request's path, headers and JSON. `port` is where it listens."""

    def __init__(
        self, answer: Answer = lambda _n: 200, headers: dict[str, str] | None = None, body: bytes = b"ok"
    ) -> None:
        self.requests: list[dict[str, Any]] = []
        self.arrived: list[str] = []  # the ids of those that were answered well
        self._answer = answer
        self._headers = headers or {}
        self._body = body
        self._lock = threading.Lock()
        self.port = 0

    def _take(self, path: str, headers: dict[str, str], raw: bytes) -> int:
        document = json.loads(raw)
        with self._lock:
            status = self._answer(len(self.requests))
            self.requests.append({"path": path, "headers": headers, "json": document, "raw": raw})
            if 200 <= status < 300:
                self.arrived.append(headers.get("idempotency-key", ""))
        return status

    @contextmanager
    def open(self) -> Iterator[WebReceiver]:
        """Listen."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                status = receiver._take(self.path, {k.lower(): v for k, v in self.headers.items()}, raw)
                self.send_response(status)
                for name, value in receiver._headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(receiver._body)))
                self.end_headers()
                self.wfile.write(receiver._body)

            def log_message(self, *_: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()


class MailReceiver:
    """What has arrived at a mail server: for each mail its recipients and content. `refuse` answers a recipient."""

    def __init__(self, answer: Answer = lambda _n: 250, refuse: Callable[[str], str] = lambda _to: "") -> None:
        self.mails: list[tuple[list[str], bytes]] = []
        self.tries = 0
        self._answer = answer
        self._refuse = refuse
        self.port = 0

    async def handle_RCPT(  # noqa: N802  # the server's name for it
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """One recipient."""
        if refused := self._refuse(address):
            return refused
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """One mail."""
        status = self._answer(self.tries)
        self.tries += 1
        if status == 250:
            content = envelope.content
            self.mails.append((list(envelope.rcpt_tos), content if isinstance(content, bytes) else b""))
        return f"{status} {'OK' if status == 250 else 'come back later'}"

    @contextmanager
    def open(self, **options: Any) -> Iterator[MailReceiver]:
        """Listen."""
        controller = _Anywhere(self, hostname="127.0.0.1", port=0, **options)
        controller.start()
        try:
            self.port = controller.server.sockets[0].getsockname()[1]
            yield self
        finally:
            controller.stop()


class _Anywhere(Controller):
    """A server on any free port."""

    def _trigger_server(self) -> None:
        """Connect once, where it really is: the server is made with its first connection."""
        with socket.create_connection(self.server.sockets[0].getsockname()[:2], timeout=5):
            self._factory_invoked.wait(5)
