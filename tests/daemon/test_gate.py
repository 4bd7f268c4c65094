"""What strangers and hostile pages try: a real server on loopback, raw sockets, and nothing that is served."""

import json
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from flowd.adapters.audit import FILE as AUDIT
from flowd.core.access import ADMIN, OPERATOR, VIEWER, may, needed_for
from flowd.core.errors import BadRequest
from flowd.core.settings import Listen, Tls
from flowd.daemon.http.server import check_tls, listening
from guarded import Here, served, server


@served
async def test_who_has_a_token_is_served_as_its_holder(here: Here) -> None:
    """Each role may do what those before it may."""
    assert await here.ask(role=VIEWER) == 200
    assert await here.ask("POST", role=OPERATOR, body="{}") == 200
    assert await here.ask("POST", "/api/v1/unheard-of", role=ADMIN, body="{}") == 200
    assert here.app.served == [
        ("GET", "/api/v1/runs", VIEWER),
        ("POST", "/api/v1/runs", OPERATOR),
        ("POST", "/api/v1/unheard-of", ADMIN),
    ]


REFUSED: dict[str, tuple[int, dict[str, Any]]] = {
    "no token": (401, {"role": None}),
    "a wrong token": (401, {"role": "flowd_000000000000_" + "A" * 43}),
    "no token at all": (401, {"role": "x"}),
    "an expired token": (401, {"role": "expired"}),
    "the token as a query": (401, {"role": None, "path": "/api/v1/runs?token={admin}"}),
    "basic authorization": (401, {"role": None, "Authorization": "Basic YWRtaW46YWRtaW4="}),
    "a viewer who starts": (403, {"method": "POST", "role": VIEWER, "body": "{}"}),
    "a viewer who cancels": (403, {"method": "POST", "path": "/api/v1/runs/r/cancel", "role": VIEWER}),
    "an operator at what no table names": (
        403,
        {"method": "POST", "path": "/api/v1/tokens", "role": OPERATOR, "body": "{}"},
    ),
    "a foreign host": (421, {"Host": "evil.example.com"}),
    "a host that ends alike": (421, {"Host": "evil-flowd.example.org"}),
    "another address": (421, {"Host": "192.168.0.7:8470"}),
    "a foreign origin": (403, {"method": "POST", "body": "{}", "Origin": "http://evil.example.com"}),
    "no origin to speak of": (403, {"method": "POST", "body": "{}", "Origin": "null"}),
    "the own host on another port": (403, {"method": "POST", "body": "{}", "Origin": "http://127.0.0.1:1"}),
    "another site": (403, {"method": "POST", "body": "{}", "Sec-Fetch-Site": "cross-site"}),
    "the token as a cookie": (401, {"role": None, "Cookie": "flowd={admin}"}),
    "a form": (415, {"method": "POST", "body": "a=b", "Content-Type": "application/x-www-form-urlencoded"}),
    "a form with a file": (415, {"method": "POST", "body": "a=b", "Content-Type": "multipart/form-data"}),
    "a form as text": (415, {"method": "POST", "body": '{"a":1}', "Content-Type": "text/plain"}),
    "JSON of no type": (415, {"method": "POST", "body": "{}", "Content-Type": ""}),
    "a large body": (413, {"method": "POST", "body": "x" * 1001}),
    "a body of ten gigabytes": (413, {"method": "POST", "body": "x", "Content-Length": "10000000000"}),
    "PUT": (405, {"method": "PUT"}),
    "DELETE": (405, {"method": "DELETE", "path": "/api/v1/runs/r"}),
    "OPTIONS, before a page of another origin": (403, {"method": "OPTIONS", "Origin": "http://evil.example.com"}),
    "TRACE": (405, {"method": "TRACE"}),
    "another method in a header": (
        403,
        {"method": "POST", "path": "/api/v1/x", "role": VIEWER, "X-HTTP-Method-Override": "GET"},
    ),
    "a path that ends in health": (401, {"role": None, "path": "/api/v1/runs/healthz"}),
    "a path with two slashes": (401, {"role": None, "path": "//healthz"}),
    "a path through health": (401, {"role": None, "path": "/healthz/../api/v1/runs"}),
    "health with something behind": (401, {"role": None, "path": "/healthz/"}),
    "health by another letter": (401, {"role": None, "path": "/HEALTHZ"}),
    "health in escapes": (401, {"role": None, "path": "/api/v1/runs%2f..%2fhealthz"}),
    "health with a parameter": (401, {"role": None, "path": "/healthz;x"}),
}


@pytest.mark.parametrize("what", REFUSED)
@served
async def test_a_stranger_gets_nothing(here: Here, what: str) -> None:
    """Each with its own status, as JSON, and nothing comes through."""
    status, asked = REFUSED[what]
    filled = {
        name: text.format(**here.tokens) if "{admin}" in text else text
        for name, text in asked.items()
        if text is not None
    }
    if "role" in asked and asked["role"] is None:
        filled["role"] = None
    assert await here.ask(**filled) == status
    assert here.app.served == []


LOOK = b"GET /api/v1/runs HTTP/1.1\r\nAuthorization: Bearer %b\r\n"
CHANGE = (
    b"POST /api/v1/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %b\r\nContent-Type: application/json\r\n"
)
SMUGGLED = {
    "no host": LOOK + b"\r\n",
    "two hosts": LOOK + b"Host: 127.0.0.1\r\nHost: evil\r\n\r\n",
    "an address of another": LOOK.replace(b"/api", b"http://evil/api") + b"Host: evil\r\n\r\n",
    "two tokens": LOOK + b"Host: 127.0.0.1\r\nAuthorization: x\r\n\r\n",
    "a negative length": CHANGE + b"Content-Length: -1\r\n\r\n",
    "two lengths": CHANGE + b"Content-Length: 2\r\nContent-Length: 9\r\n\r\n{}",
    "a length in hex": CHANGE + b"Content-Length: 0x2\r\n\r\n{}",
    "chunks that are none": CHANGE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "an odd encoding": CHANGE + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks beyond the most": CHANGE + b"Transfer-Encoding: chunked\r\n\r\n400\r\n" + b"x" * 0x400 + b"\r\n0\r\n\r\n",
    "a header of a megabyte": LOOK + b"Host: 127.0.0.1\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
    "no HTTP at all": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03%b",
}


@pytest.mark.parametrize("what", SMUGGLED)
@served
async def test_what_is_no_proper_request_is_not_served(here: Here, what: str) -> None:
    """With a good token, too: what two readers could understand in two ways is refused."""
    answer = await here.raw(SMUGGLED[what].replace(b"%b", here.tokens[ADMIN].encode()))
    assert here.app.served == []
    assert answer == b"" or answer.split(b" ", 2)[1] in {b"400", b"401", b"413", b"421", b"431", b"501"}


@served
async def test_a_length_beside_chunks_smuggles_no_second_request(here: Here) -> None:
    """Whichever of the two is believed, what follows is not taken for a request."""
    hidden = CHANGE.replace(b"/runs", b"/hidden").replace(b"%b", here.tokens[ADMIN].encode()) + b"\r\n"
    both = b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (5 + len(hidden))
    answer = await here.raw(CHANGE.replace(b"%b", here.tokens[VIEWER].encode()) + both + hidden)
    assert b" 403 " in answer.split(b"\r\n")[0] or b" 400 " in answer.split(b"\r\n")[0]
    assert [path for _, path, _ in here.app.served] in (
        [],
        ["/api/v1/hidden"],
    )  # as a second request of its own, at most


@served
async def test_health_is_for_everybody_and_nothing_else_is(here: Here) -> None:
    """By that path alone; the daemon's own names are known."""
    assert await here.ask(path="/healthz", role=None) == 200
    for name in ("localhost", f"localhost:{here.port}", "[::1]:80", "flowd.example.org", "FLOWD.example.org:8470"):
        assert await here.ask(Host=name) == 200
    assert await here.ask(path="/metrics", role=None) == 401


@served
async def test_answers_say_nothing_to_pages_of_others(here: Here) -> None:
    """No CORS header is ever sent, and a browser is told to keep, frame and guess nothing."""
    answer = await here.raw(
        f"GET /api/v1/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example.com\r\nConnection: close\r\n"
        f"Authorization: Bearer {here.tokens[ADMIN]}\r\n\r\n".encode()
    )
    head = answer.split(b"\r\n\r\n")[0].decode().lower()
    assert "access-control-" not in head
    for header in (
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "frame-ancestors 'none'",
        "no-referrer",
    ):
        assert header in head


@served
async def test_every_change_is_on_record_with_who_asked(here: Here) -> None:
    """Also what was refused; no token is in it."""
    await here.ask()
    await here.ask("POST", role=OPERATOR, body="{}")
    await here.ask("POST", "/api/v1/runs/r/cancel", role=VIEWER)
    await here.ask("POST", "/api/v1/runs/r/cancel", role=None)
    text = (here.folder / AUDIT).read_text()
    entries = [json.loads(line) for line in text.splitlines()]
    assert [(one["who"], one["path"], one["status"]) for one in entries] == [
        (OPERATOR, "/api/v1/runs", 200),
        (VIEWER, "/api/v1/runs/r/cancel", 403),
        (None, "/api/v1/runs/r/cancel", 401),
    ]
    assert not any(token[19:] in text for token in here.tokens.values())
    assert stat.S_IMODE((here.folder / AUDIT).stat().st_mode) == 0o600


SLOW: dict[str, Callable[[Here], bytes]] = {
    "nothing": lambda _here: b"",
    "half a header": lambda _here: b"GET /healthz HTTP/1.1\r\nHost: 127",
    "half a body": lambda here: (
        b"POST /slow HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
        b"Authorization: Bearer " + here.tokens[ADMIN].encode() + b"\r\n\r\n{"
    ),
}


@pytest.mark.parametrize("what", SLOW)
async def test_who_dawdles_is_cut_off(tmp_path: Path, what: str) -> None:
    """The connection is closed; nothing of it was served."""
    async with server(tmp_path, headers_s=0.3, body_s=0.3) as here:
        with anyio.fail_after(4):
            assert b" 200 " not in await here.raw(SLOW[what](here), wait=10)
        assert here.app.served == []


async def test_a_trickle_of_headers_gets_no_more_time(tmp_path: Path) -> None:
    """A byte now and then does not hold a connection open."""
    async with server(tmp_path, headers_s=0.5) as here:

        def trickle() -> int:
            with socket.create_connection(("127.0.0.1", here.port), timeout=5) as line:
                line.settimeout(0.05)
                for number in range(100):
                    try:
                        line.sendall(b"GET / HTTP/1.1\r\nX: "[number % 18 : number % 18 + 1])
                        told = line.recv(1)
                    except TimeoutError:
                        continue
                    except OSError:
                        return number
                    assert told in {b"", b"H"}  # closed, or told so first
                    return number
            return 100

        assert await anyio.to_thread.run_sync(trickle) < 60


async def test_hundreds_of_half_open_requests_keep_nobody_from_being_served(tmp_path: Path) -> None:
    """Those over the most are closed at once, and whoever asks properly is answered."""
    async with server(tmp_path, most_connections=150) as here:
        lines = []
        try:
            for _ in range(140):
                line = socket.create_connection(("127.0.0.1", here.port), timeout=5)
                line.sendall(b"GET /healthz HTTP/1.1\r\n")
                lines.append(line)
            assert await here.ask() == 200
            lines += [socket.create_connection(("127.0.0.1", here.port), timeout=5) for _ in range(30)]
            await anyio.sleep(0.1)
            closed = sum(_is_closed(line) for line in lines)
            assert closed >= 15
        finally:
            for line in lines:
                line.close()
        await anyio.sleep(0.1)
        assert await here.ask() == 200


def _is_closed(line: socket.socket) -> bool:
    line.setblocking(False)
    try:
        return line.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


# --- places -------------------------------------------------------------------------------------------


def test_a_busy_port_and_a_bad_certificate_are_said(tmp_path: Path) -> None:
    """Before anything is served."""
    bound = listening(Listen(port=0))
    with bound:
        bound.listen()
        taken = Listen(port=bound.getsockname()[1])
        with pytest.raises(BadRequest, match=r"cannot listen at 127\.0\.0\.1:\d+: .*; another program listens there"):
            listening(taken)
    with pytest.raises(BadRequest, match="cannot listen at no such host"):
        listening(Listen(host="no such host"))
    with pytest.raises(BadRequest, match=r"tls: .* cannot be used"):
        check_tls(Tls(cert=str(tmp_path / "c"), key=str(tmp_path / "k")))


def test_what_a_request_needs() -> None:
    """By its whole path; what is in no table needs an admin."""
    assert needed_for("GET", "/api/v1/runs/r1") == VIEWER
    assert needed_for("HEAD", "/api/v1/runs/r1") == VIEWER
    assert needed_for("POST", "/api/v1/runs/r1/tasks/t/approve") == OPERATOR
    assert needed_for("POST", "/api/v1/schedules/a.b/pause") == OPERATOR
    for path in ("/api/v1/runs/", "/api/v1/runs//cancel", "/api/v1/runs/r/cancel/x", "/api/v2/runs"):
        assert needed_for("POST", path) == ADMIN
    assert may(ADMIN, OPERATOR)
    assert not may(VIEWER, OPERATOR)
    assert not may("nobody", VIEWER)
