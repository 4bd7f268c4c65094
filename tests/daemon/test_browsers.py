"""Browsers behind the gate: links that are good once, cookies that other pages cannot use, and strangers who guess."""

import json
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from flowd.core.access import ADMIN, OPERATOR, VIEWER
from flowd.daemon.http.asked import Asked
from flowd.daemon.http.sessions import LINK_FOR, SESSION_FOR, Sessions
from flowd.daemon.http.throttle import Throttle
from flowd.testing import FakeClock
from guarded import NOW, Here, served, server


@served
async def test_a_link_becomes_a_cookie_that_is_no_token(here: Here) -> None:
    """HttpOnly, Strict, of this port alone; neither it nor what is kept of it holds the token."""
    host = f"127.0.0.1:{here.port}"
    answer = await here.raw(
        f"GET /?token={here.tokens[ADMIN]} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
    )
    head = answer.decode()
    assert head.startswith("HTTP/1.1 303")
    assert "HttpOnly; SameSite=Strict" in head
    assert f"set-cookie: flowd-{here.port}=" in head
    assert "location: /\r\n" in head
    assert "referrer-policy: no-referrer" in head
    assert here.tokens[ADMIN][19:] not in head
    cookie = await here.log_in(here.tokens[VIEWER])
    assert cookie is not None
    assert await here.ask(role=None, Cookie=cookie) == 200
    assert await here.ask(role=None, Cookie=f"other=1; {cookie}; more=2") == 200
    assert [served[2] for served in here.app.served] == [VIEWER, VIEWER]


COOKIES: dict[str, tuple[int, dict[str, Any]]] = {
    "its own page changes": (200, {"body": "{}", "Origin": "{own}"}),
    "its own page changes, with nothing to say": (200, {"Origin": "{own}", "X-Flowd-Request": "1"}),
    "its own page, of which the browser knows": (
        200,
        {"body": "{}", "Origin": "{own}", "Sec-Fetch-Site": "same-origin"},
    ),
    "its own page, behind what speaks TLS": (
        200,
        {"body": "{}", "Origin": "https://flowd.example.org", "Host": "flowd.example.org"},
    ),
    "a foreign page changes": (403, {"body": "{}", "Origin": "http://evil.example.com"}),
    "a foreign page looks": (403, {"method": "GET", "Origin": "http://evil.example.com"}),
    "a page on another port looks": (403, {"method": "GET", "Sec-Fetch-Site": "same-site"}),
    "another site's image": (403, {"method": "GET", "Sec-Fetch-Site": "cross-site"}),
    "a page on another port changes": (403, {"body": "{}", "Origin": "http://127.0.0.1:1"}),
    "a page without a name": (403, {"body": "{}", "Origin": "null"}),
    "nobody knows which page": (403, {"body": "{}"}),
    "a form without fields": (403, {"Origin": "{own}"}),
    "a form": (415, {"Origin": "{own}", "body": "a=b", "Content-Type": "application/x-www-form-urlencoded"}),
    "an empty form": (415, {"Origin": "{own}", "Content-Type": "application/x-www-form-urlencoded"}),
    "another daemon's cookie": (401, {"Cookie": "flowd-1={session}", "body": "{}", "Origin": "{own}"}),
    "two of them": (401, {"Cookie": "{cookie}; {cookie}", "body": "{}", "Origin": "{own}"}),
    "a wrong token beside it": (401, {"Authorization": "Bearer x", "body": "{}", "Origin": "{own}"}),
}


@pytest.mark.parametrize("what", COOKIES)
@served
async def test_a_cookie_is_worth_nothing_to_other_pages(here: Here, what: str) -> None:
    """A browser sends it whoever has it ask; a change comes from the daemon's own page, and as no form can."""
    cookie = await here.log_in(here.tokens[OPERATOR])
    assert cookie is not None
    status, asked = COOKIES[what]
    given = {"method": "POST", "Cookie": "{cookie}"} | asked
    session = cookie.partition("=")[2]
    marks = {"{own}": here.origin, "{cookie}": cookie, "{session}": session}
    for mark, text in marks.items():
        given = {name: value.replace(mark, text) for name, value in given.items()}
    assert await here.ask(role=None, **given) == status
    assert len(here.app.served) == (status == 200)


async def test_a_link_is_good_once_and_for_a_while(tmp_path: Path) -> None:
    """So that it may stand in a log: used, too old or made up, it opens nothing."""
    clock = FakeClock(NOW)
    sessions = Sessions(clock)
    async with server(tmp_path, clock, sessions) as here:
        [admin] = [token.id for token in here.kept.all() if token.name == ADMIN]
        word = sessions.invite(admin)
        cookie = await here.log_in(word)
        assert cookie is not None
        assert await here.ask(role=None, Cookie=cookie) == 200
        assert await here.log_in(word) is None
        late = sessions.invite(admin)
        clock.advance(LINK_FOR.total_seconds())
        assert await here.log_in(late) is None
        assert await here.log_in("made-up") is None
        assert await here.ask(role=None, method="HEAD", path=f"/?token={sessions.invite(admin)}") == 401
        assert await here.ask(role=None, Cookie=cookie) == 200
        clock.advance(SESSION_FOR.total_seconds())
        assert await here.ask(role=None, Cookie=cookie) == 401


@served
async def test_who_loses_the_token_loses_the_cookie(here: Here) -> None:
    """At once, and so does whoever holds a token of the same name that was made later."""
    cookie = await here.log_in(here.tokens[VIEWER])
    assert cookie is not None
    assert await here.ask(role=None, Cookie=cookie) == 200
    here.kept.revoke(VIEWER)
    assert await here.ask(role=None, Cookie=cookie) == 401
    here.kept.add(VIEWER, ADMIN, NOW)
    assert await here.ask(role=None, Cookie=cookie) == 401
    assert await here.ask(role=VIEWER) == 401


async def test_who_loses_the_token_reads_no_further(tmp_path: Path) -> None:
    """A stream that has begun ends soon after; before that it goes on."""
    clock = FakeClock(NOW)

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(1000):
            await send({"type": "http.response.body", "body": b"%d\n" % number, "more_body": True})
            await anyio.sleep(0.02)
            clock.advance(1)
            if number == 20:
                here.kept.revoke(VIEWER)

    async with server(tmp_path, clock, app=stream) as here:
        given = f"Host: 127.0.0.1\r\nConnection: close\r\nAuthorization: Bearer {here.tokens[VIEWER]}"
        answer = await here.raw(f"GET /api/v1/events HTTP/1.1\r\n{given}\r\n\r\n".encode())
        assert answer.endswith(b"\r\n0\r\n\r\n")
        assert b"\n19\n" in answer
        assert b"\n40\n" not in answer


async def test_wrong_tokens_are_counted_and_right_ones_let_in(tmp_path: Path) -> None:
    """Who guesses is told to wait; who has a token is not shut out by guesses from the same machine."""
    clock = FakeClock(NOW)
    async with server(tmp_path, clock) as here:
        assert [await here.ask(role="wrong") for _ in range(12)] == [401] * 10 + [429] * 2
        answer = await here.raw(
            b"GET /api/v1/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n"
        )
        assert b"retry-after: 60\r\n" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_often"
        assert await here.log_in("wrong") is None
        assert await here.ask(role=None) == 401  # nothing was tried
        assert await here.ask(role=VIEWER) == 200
        clock.advance(60)
        assert await here.ask(role="wrong") == 401


@served
async def test_strangers_push_nothing_out_of_the_audit(here: Here) -> None:
    """Of what they try so much is kept; what those with a token do is kept all."""
    for _ in range(70):
        await here.ask("POST", role=None)
    assert await here.ask("POST", role=OPERATOR, body="{}") == 200
    assert [entry["who"] for entry in here.entries()] == [None] * 60 + [OPERATOR]


@served
async def test_no_token_is_in_the_audit(here: Here) -> None:
    """Wherever it was put; who came in by a link is there by name."""
    for token in (here.tokens[ADMIN], here.tokens["expired"]):
        await here.log_in(token)
        await here.ask("POST", f"/api/v1/runs/{token}/cancel?token={token}", role=VIEWER)
        await here.ask("POST", f"/api/v1/runs/{token}/cancel", role=None)
    text = json.dumps(here.entries())
    assert not any(token[19:] in text for token in here.tokens.values())
    assert "/api/v1/runs/flowd_***/cancel" in text
    assert [(one["who"], one["status"]) for one in here.entries() if one["path"] == "/"] == [(ADMIN, 303), (None, 401)]


@served
async def test_nobody_is_let_in_while_it_cannot_be_known_who_may(here: Here) -> None:
    """A file of tokens that others may read is believed no more from that moment; health still answers."""
    assert await here.ask() == 200
    (here.folder / "tokens.json").chmod(0o644)
    assert await here.ask() == 503
    assert await here.ask("POST", role=None, body="{}") == 401
    assert await here.log_in(here.tokens[ADMIN]) is None
    assert await here.ask(path="/healthz", role=None) == 200
    (here.folder / "tokens.json").chmod(0o600)
    assert await here.ask() == 200
    (here.folder / "tokens.json").write_text("{")
    assert await here.ask() == 503
    assert stat.S_IMODE((here.folder / "tokens.json").stat().st_mode) == 0o600


TWICE = ("Origin", "Authorization", "Content-Type", "Cookie", "Sec-Fetch-Site")


@pytest.mark.parametrize("name", TWICE)
@served
async def test_a_header_that_is_there_twice_hides_nothing(here: Here, name: str) -> None:
    """Which of the two is meant is nobody's guess."""
    lines = f"Host: 127.0.0.1\r\nAuthorization: Bearer {here.tokens[ADMIN]}\r\nContent-Type: application/json\r\n"
    lines += f"Content-Length: 2\r\nConnection: close\r\n{name}: a\r\n{name}: b\r\n"
    answer = await here.raw(f"POST /api/v1/runs HTTP/1.1\r\n{lines}\r\n{{}}".encode())
    assert answer.startswith(b"HTTP/1.1 400")
    assert here.app.served == []


ODD = (
    "/api/v1/runs/..",
    "/api/v1/runs/%2e%2e/cancel",
    "/healthz/../x",
    "/api/v1/runs/r%0a",
    "http://evil/api/v1/runs",
    "*",
)


@pytest.mark.parametrize("path", ODD)
@served
async def test_a_path_that_may_mean_two_things_is_refused(here: Here, path: str) -> None:
    """With an admin's token, too."""
    assert await here.ask(path=path) == 404
    assert await here.ask(path=path, role=None) == 401
    assert here.app.served == []


HOSTS = ("127.0.0.1@evil.com", "evil.com#127.0.0.1", "127.0.0.1/x", "127.0.0.1:80:80", "[::1", "::1", "localhost.", "")


@pytest.mark.parametrize("host", HOSTS)
@served
async def test_only_a_whole_name_is_a_host(here: Here, host: str) -> None:
    """Nothing beside it, before it or behind it."""
    assert await here.ask(Host=host) == 421


@served
async def test_a_refusal_reaches_whoever_still_sends(here: Here) -> None:
    """A large body is taken and thrown away for a while, lest the answer be lost with the connection."""
    for head in ("Content-Length: 3000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n2dc6c0\r\n"):
        lines = f"Host: 127.0.0.1\r\nAuthorization: Bearer {here.tokens[ADMIN]}\r\nContent-Type: application/json\r\n"
        answer = await here.raw(f"POST /api/v1/runs HTTP/1.1\r\n{lines}{head}{'x' * 3_000_000}".encode())
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_large"


def test_what_is_remembered_is_bounded() -> None:
    """Of links, of sessions, and of who has failed; a network of IPv6 counts as one."""
    clock = FakeClock(NOW)
    sessions = Sessions(clock)
    first, second = sessions.begin("a"), sessions.begin("b")
    for _ in range(999):
        sessions.begin("c")
    assert sessions.token_of(first) is None
    assert sessions.token_of(second) == "b"
    throttle = Throttle(clock, 2)
    for number in range(2000):
        throttle.is_over(f"10.0.{number // 256}.{number % 256}")
    assert len(throttle._counts) == 1024
    assert [throttle.is_over(f"2001:db8::{number}") for number in range(1, 4)] == [False, False, True]
    assert not throttle.is_over("2001:db8:0:1::1")
    clock.advance(timedelta(minutes=1).total_seconds())
    assert not throttle.is_over("2001:db8::9")


def test_its_own_address_is_a_name_of_the_daemon() -> None:
    """One that listens everywhere is asked by whichever address was reached, and by that alone."""
    scope = {"path": "/", "method": "GET", "headers": [(b"host", b"192.0.2.7:8470")], "server": ("192.0.2.7", 8470)}
    asked = Asked(scope)
    assert asked.host() == asked.own_address() == "192.0.2.7"
    assert Asked({**scope, "server": None}).own_address() is None
