"""Clients that dawdle, read nothing, speak no HTTP, or come by the hundred: a real server and raw sockets."""

import contextlib
import json
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from flowd.core.settings import Listen, Tls
from flowd.daemon.http.connections import Connection, Deadlines, Waiting
from flowd.daemon.http.server import listening, serving

LARGE = b"x" * 65536
ASK = b"GET /ok HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


class App:
    """Answers `/ok` at once, and `/stream` with more than anybody keeps, as fast as it is taken."""

    def __init__(self) -> None:
        self.streams = 0
        self.ended = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] != "/stream":
            if scope["path"] == "/body":
                while (await receive()).get("more_body"):
                    pass
            await send({"type": "http.response.body", "body": b"ok"})
            return
        self.streams += 1
        try:
            with anyio.CancelScope() as over:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._until_gone, receive, over)
                    while True:
                        await send({"type": "http.response.body", "body": LARGE, "more_body": True})
                        await anyio.lowlevel.checkpoint()
        finally:
            self.ended += 1

    async def _until_gone(self, receive: Any, over: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        over.cancel()


@asynccontextmanager
async def server(listen: Listen | None = None, tls: Tls | None = None, **deadlines: Any) -> AsyncIterator[Any]:
    """An app, and a function that opens a line to its server."""
    app, bound = App(), listening(listen or Listen(port=0))
    lines: list[socket.socket] = []

    def line(data: bytes = b"", receives: int = 0) -> socket.socket:
        made = socket.socket(bound.family)
        lines.append(made)
        made.settimeout(8)
        if receives:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        made.connect(bound.getsockname())
        made.sendall(data)
        return made

    try:
        async with serving(app, bound, tls=tls, deadlines=Deadlines(**deadlines)):
            yield app, line
    finally:
        for one in lines:
            one.close()


async def read(line: socket.socket) -> bytes:
    """What comes until it is closed."""

    def all_of_it() -> bytes:
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := line.recv(65536):
                found += piece
        return found

    return await anyio.to_thread.run_sync(all_of_it)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


async def test_what_comes_too_late_or_is_no_http_is_answered_as_every_error() -> None:
    """With its own status and a code, and the line is closed behind it."""
    begun = b"POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx"
    odd = {
        b"GET / HTTP/1.1\r\nHost": (408, "too_slow"),
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 40_000: (431, "bad_http"),
        b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n": (501, "bad_http"),
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n": (400, "bad_http"),
        b"\x16\x03\x01\x02\x00\x01": (400, "bad_http"),
    }
    async with server(headers_s=0.2, body_s=0.2) as (_, line):
        for data, (status, code) in odd.items():
            answer = await read(line(data))
            assert status_of(answer) == status, data
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == code
        assert await read(line()) == b""
        assert (await read(line(begun))).count(b"HTTP/1.1") == 1  # it had begun to answer: no second answer within


async def test_the_time_for_a_body_begins_with_its_headers(tmp_path: Path) -> None:
    """A byte now and then gives it no more."""
    async with server(body_s=0.4) as (_, line):
        slow = line(b"POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n")

        def trickle() -> float:
            began = time.monotonic()
            with contextlib.suppress(OSError):
                for _ in range(100):
                    slow.sendall(b"x")
                    time.sleep(0.05)
            return time.monotonic() - began

        assert await anyio.to_thread.run_sync(trickle) < 3


async def test_a_line_that_was_answered_may_ask_again() -> None:
    """Its first request's times are over with that; half of a second request has a time of its own."""
    async with server(headers_s=0.3) as (_, line):
        kept = line(ASK.replace(b"Connection: close\r\n", b""))
        await anyio.sleep(0.8)
        kept.sendall(ASK)
        assert (await read(kept)).count(b" 200 ") == 2
        kept = line(ASK.replace(b"Connection: close\r\n", b"") + b"GET /ok HTT")
        assert b" 408 " in await read(kept)


async def test_who_is_served_keeps_the_place_of_half_open_requests() -> None:
    """However many those are: the oldest of them makes room, and each that asks properly is answered."""
    async with server(most_connections=20, headers_s=30) as (_, line):
        half = [line(b"GET /ok HTTP/1.1\r\nX: ") for _ in range(100)]
        for _ in range(10):
            assert status_of(await read(line(ASK))) == 200
        await anyio.sleep(0.1)
        assert sum(is_open(one) for one in half) <= 20
        assert is_open(half[-1])


async def test_where_all_are_served_one_more_is_closed() -> None:
    """None who reads a stream is thrown out for one who comes later."""
    async with server(most_connections=3, ending_s=0.2) as (app, line):
        streams = [line(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n") for _ in range(3)]
        with anyio.fail_after(5):
            while app.streams < 3:
                await anyio.sleep(0.01)
        assert await read(line(ASK)) == b""
        assert all(one.recv(10) for one in streams)


async def test_who_reads_nothing_is_let_go() -> None:
    """Whether the answer goes on or has ended; one who reads slowly is not."""
    async with server(reading_s=0.5, ending_s=0.2) as (app, line):
        deaf = [line(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n", 4096) for _ in range(20)]
        reads = line(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
        reads.setblocking(False)
        with anyio.fail_after(8):
            while app.ended < 20:
                with contextlib.suppress(BlockingIOError):
                    assert reads.recv(1 << 20)
                await anyio.sleep(0.01)
        assert app.ended == 20
        assert len(deaf) == 20


async def test_the_end_waits_for_no_reader() -> None:
    """A stream that nobody reads ends with its server, within the grace."""
    began = time.monotonic()
    async with server(ending_s=0.3) as (app, line):
        line(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n", 4096)
        line(b"GET /half")
        with anyio.fail_after(5):
            while not app.streams:
                await anyio.sleep(0.01)
    assert app.ended == 1
    assert time.monotonic() - began < 5


async def test_a_server_that_is_cancelled_ends_in_order() -> None:
    """An answer that has begun is given to its end before anybody goes on."""
    answers: list[bytes] = []

    async def finish(asked: socket.socket) -> None:
        await anyio.sleep(0.2)
        asked.sendall(b"}")
        answers.append(await read(asked))

    with socket.socket() as asked:
        async with anyio.create_task_group() as group:
            with anyio.CancelScope() as scope:
                async with server() as (_, line):
                    asked.connect(line().getpeername())
                    asked.sendall(b"POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{")
                    await anyio.sleep(0.1)
                    group.start_soon(finish, asked)
                    scope.cancel()
            assert scope.cancelled_caught
    assert status_of(answers[0]) == 200
    assert answers[0].endswith(b"ok\r\n0\r\n\r\n")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = str(folder / "cert.pem"), str(folder / "key.pem")
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1")
    made = ("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1")
    subprocess.run([*made, "-keyout", key, "-out", cert, *names], check=True, capture_output=True)
    return Tls(cert=cert, key=key)


async def test_tls_is_spoken_and_who_agrees_on_nothing_is_cut_off(certificate: Tls) -> None:
    """Half-open handshakes have the time of headers, and make room as half-open requests do."""
    context = ssl.create_default_context(cafile=certificate.cert)

    def ask(line: socket.socket) -> bytes:
        with context.wrap_socket(line, server_hostname="localhost") as safe:
            safe.sendall(ASK)
            return safe.recv(12)

    async with server(tls=certificate, headers_s=2, most_connections=10) as (_, line):
        silent = [line() for _ in range(30)]
        assert await anyio.to_thread.run_sync(ask, line()) == b"HTTP/1.1 200"
        assert b"HTTP" not in await read(line(ASK))  # no TLS
        with anyio.fail_after(8):
            while any(is_open(one) for one in silent):
                await anyio.sleep(0.05)


@pytest.mark.skipif(not socket.has_ipv6, reason="this system has no IPv6")
async def test_the_other_loopback_address_serves() -> None:
    """`[::1]` is this machine's, too."""
    try:
        async with server(Listen(host="::1", port=0)) as (_, line):
            assert status_of(await read(line(ASK))) == 200
    except Exception as error:
        if "EADDRNOTAVAIL" in str(error):
            pytest.skip("no IPv6 here")
        raise


def test_the_longest_waiting_is_first_to_go() -> None:
    """Of what is waited for each has its own time, and a second beginning of the same is none."""
    waiting = Waiting(Deadlines(headers_s=10, body_s=30))
    first, second = Connection.__new__(Connection), Connection.__new__(Connection)
    waiting.begin("headers", first, 0)
    waiting.begin("headers", second, 5)
    waiting.begin("headers", first, 9)
    waiting.begin("the next request", second, 5)
    assert waiting.oldest() is first
    assert list(waiting.late(9.9)) == []
    assert list(waiting.late(10)) == [("headers", first)]
    waiting.over(first)
    assert waiting.oldest() is second
    waiting.over(second, "headers")
    assert list(waiting.late(1e9)) == []
    assert waiting.oldest() is second


def is_open(line: socket.socket) -> bool:
    line.setblocking(False)
    try:
        return line.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
