"""A server behind its gate, with a token for each role, and what is seen of it through raw sockets."""

import inspect
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from flowd.adapters.audit import FILE as AUDIT
from flowd.adapters.audit import FileAudit
from flowd.adapters.clock import SystemClock
from flowd.adapters.tokens import FileTokens
from flowd.core.access import ADMIN, OPERATOR, ROUTES, VIEWER
from flowd.core.settings import Listen
from flowd.daemon.http.connections import Deadlines
from flowd.daemon.http.gate import Gate
from flowd.daemon.http.server import listening, serving
from flowd.daemon.http.sessions import Sessions
from flowd.ports.clock import Clock

NOW = datetime.now(UTC)
ROUTES_HERE = {**ROUTES, ("POST", "/api/v1/runs"): OPERATOR}


class App:
    """Counts what comes through, and reads what it is sent."""

    def __init__(self) -> None:
        self.served: list[tuple[str, str, str]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        caller = scope["state"].get("caller")
        self.served.append((scope["method"], scope["path"], caller.name if caller else "nobody"))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"served %d" % len(body)})


class Here:
    """A server with a token for each role."""

    def __init__(self, port: int, app: App, folder: Path, tokens: dict[str, str], kept: FileTokens) -> None:
        self.port, self.app, self.folder, self.tokens, self.kept = port, app, folder, tokens, kept

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def entries(self) -> list[dict[str, Any]]:
        """What the audit holds."""
        path = self.folder / AUDIT
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    async def log_in(self, word: str) -> str | None:
        """The cookie that a link sets; None where it sets none."""
        host = f"127.0.0.1:{self.port}"
        answer = await self.raw(f"GET /?token={word} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        head = answer.partition(b"\r\n\r\n")[0].decode().splitlines()
        cookies = [line.partition(": ")[2] for line in head if line.lower().startswith("set-cookie:")]
        assert bool(cookies) == head[0].startswith("HTTP/1.1 303"), head
        return cookies[0].partition(";")[0] if cookies else None

    async def raw(self, data: bytes, *, wait: float = 5.0) -> bytes:
        return await anyio.to_thread.run_sync(self._raw, data, wait)

    def _raw(self, data: bytes, wait: float) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as line:
            line.sendall(data)
            found = b""
            try:
                while piece := line.recv(65536):
                    found += piece
                    if b"\r\n\r\n" in found and not data.startswith(b"POST /slow"):
                        line.settimeout(0.2)
            except (TimeoutError, ConnectionResetError):
                pass
            return found

    async def ask(
        self, method: str = "GET", path: str = "/api/v1/runs", role: str | None = ADMIN, **headers: str
    ) -> int:
        given = {"Host": f"127.0.0.1:{self.port}", "Connection": "close"}
        if role is not None:
            given["Authorization"] = f"Bearer {self.tokens.get(role, role)}"
        body = headers.pop("body", "")
        if body:
            given |= {"Content-Length": str(len(body)), "Content-Type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value is not None)
        answer = await self.raw(f"{method} {path} HTTP/1.1\r\n{lines}\r\n{body}".encode())
        return int(answer.split(b" ", 2)[1]) if answer else 0


@asynccontextmanager
async def server(
    folder: Path, clock: Clock | None = None, sessions: Sessions | None = None, *, app: Any = None, **deadlines: Any
) -> AsyncIterator[Here]:
    tokens = FileTokens(folder / "tokens.json")
    clear = {role: tokens.add(role, role, NOW) for role in (VIEWER, OPERATOR, ADMIN)}
    clear["expired"] = tokens.add("old", ADMIN, NOW, NOW - timedelta(seconds=1))
    audit, app = FileAudit(folder), app or App()
    bound = listening(Listen(port=0))
    known = {"hosts": ["flowd.example.org"], "routes": ROUTES_HERE, "most_body": 1000, "sessions": sessions}
    gate = Gate(app, tokens, audit, clock or SystemClock(), **known)
    async with serving(gate, bound, deadlines=Deadlines(**deadlines)):
        yield Here(bound.getsockname()[1], app, folder, clear, tokens)
    audit.close()


def served(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Have a test ask a server of its own: what a fixture opens in one task cannot be closed in another."""

    async def run(tmp_path: Path, **given: Any) -> None:
        async with server(tmp_path) as here:
            await test(here, **given)

    signature = inspect.signature(test)
    parameters = [inspect.Parameter("tmp_path", inspect.Parameter.KEYWORD_ONLY)]
    parameters += [one.replace(kind=one.KEYWORD_ONLY) for name, one in signature.parameters.items() if name != "here"]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
