"""Messages as they reach real receivers, and what is never connected to."""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
import sys
from email import message_from_bytes
from email.header import decode_header, make_header
from typing import Any

import anyio
import pytest

from flowd.adapters.notifiers import mail, outside, slack, webhook
from flowd.adapters.notifiers.addresses import Allowed
from flowd.adapters.notifiers.routes import Notifiers
from flowd.core.notices import Message
from flowd.ports.notifier import Undelivered
from flowd.testing import FakeClock
from receivers import MailReceiver, WebReceiver

MESSAGE = Message(
    id="0123abcd", subject="[flowd] p: a scheiterte ü", text="it failed\n", document={"text": "it <failed>"}
)
HERE = ["127.0.0.1"]


async def why(url: str, allow: list[str] | None = None, deliver: Any = None) -> Undelivered:
    """How a delivery fails."""
    with pytest.raises(Undelivered) as caught:
        await (deliver or Notifiers(FakeClock(), HERE if allow is None else allow))(url, MESSAGE)
    return caught.value


# --- webhooks ----------------------------------------------------------------------------------------


async def test_a_webhook_gets_the_document_and_its_id() -> None:
    """By POST, as JSON; who logs in does so."""
    with WebReceiver().open() as web:
        await Notifiers(FakeClock(), HERE)(f"json://me:hush@127.0.0.1:{web.port}/a/b?c=d", MESSAGE)
    (got,) = web.requests
    assert (got["path"], got["json"]) == ("/a/b?c=d", MESSAGE.document)
    headers = got["headers"]
    assert headers["idempotency-key"] == headers["webhook-id"] == MESSAGE.id
    assert headers["host"] == f"127.0.0.1:{web.port}"
    assert headers["authorization"] == "Basic " + base64.b64encode(b"me:hush").decode()
    assert "webhook-signature" not in headers


@pytest.mark.parametrize(("written", "key"), [("k%26y", b"k&y"), ("whsec_a2V5a2V5", b"keykey")])
async def test_a_webhook_is_signed_where_its_url_says_with_what(written: str, key: bytes) -> None:
    """As the Standard Webhooks specification has it; the key itself is not sent."""
    with WebReceiver().open() as web:
        url = f"json://127.0.0.1:{web.port}/x?a=1&signing_secret={written}"
        await webhook.Webhook(Allowed(HERE), FakeClock())(url, MESSAGE)
    (got,) = web.requests
    assert got["path"] == "/x?a=1"
    headers = got["headers"]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + got["raw"]
    digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{digest}"


@pytest.mark.parametrize(("status", "for_good"), [(500, False), (404, False), (410, True), (302, False)])
async def test_an_answer_that_is_no_success_is_said(status: int, for_good: bool) -> None:
    """With the host and the status alone; one that is gone is not tried again, and redirects are not followed."""
    with (
        WebReceiver().open() as trap,
        WebReceiver(lambda _n: status, {"Location": f"http://127.0.0.1:{trap.port}/"}).open() as web,
    ):
        error = await why(f"json://127.0.0.1:{web.port}/hush")
    assert f"127.0.0.1 answered {status}" in str(error)
    assert (error.for_good, "hush" in str(error), trap.requests) == (for_good, False, [])


async def test_a_receiver_says_when_to_come_back() -> None:
    """In seconds; a date, or nonsense, is passed over."""
    with WebReceiver(lambda _n: 503, {"Retry-After": "17"}).open() as web:
        assert (await why(f"json://127.0.0.1:{web.port}/")).after == 17
    with WebReceiver(lambda _n: 429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}).open() as web:
        assert (await why(f"json://127.0.0.1:{web.port}/")).after is None


async def test_nobody_listens() -> None:
    """It is said how, and tried again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error = await why(f"json://127.0.0.1:{port}/hush")
    assert "cannot be connected to" in str(error)
    assert not error.for_good
    assert "hush" not in str(error)


@pytest.mark.parametrize(
    "url", ["json://", "json:///x", "json://[::1/x", "json://a b/", "", "nothing", "json://h:99999999/"]
)
async def test_what_is_no_url_is_refused_for_good(url: str) -> None:
    """Without a traceback."""
    assert (await why(url)).for_good


# --- what is never connected to -----------------------------------------------------------------------

LOOPBACK = [
    *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.255.255.254", "localhost"),
    *("[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::127.0.0.1]"),
]
PRIVATE = ["10.0.0.7", "172.16.9.9", "192.168.1.1", "100.64.0.1", "[fd12::1]", "[::ffff:10.0.0.7]", "[fec0::1]"]
NEVER = [
    *("169.254.169.254", "169.254.1.1", "0xa9fea9fe", "2852039166", "[::ffff:169.254.169.254]", "[fe80::1]"),
    *("0.0.0.0", "0", "[::]", "224.0.0.1", "[ff02::1]", "255.255.255.255", "100.100.100.200", "168.63.129.16"),
    *("[fd00:ec2::254]", "[64:ff9b::a9fe:a9fe]", "240.0.0.1"),
]


@pytest.mark.parametrize("host", [*LOOPBACK, *PRIVATE, *NEVER])
async def test_only_the_public_internet_is_told_by_default(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However an address is written; nothing is connected to, and it is not tried again."""
    connected: list[Any] = []
    _trap_connections(monkeypatch, connected)
    error = await why(f"json://{host}:9/x", allow=[])
    assert error.for_good
    assert connected == []


@pytest.mark.parametrize("host", NEVER)
async def test_some_addresses_are_never_told(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where all networks are allowed, and the host by its name."""
    connected: list[Any] = []
    _trap_connections(monkeypatch, connected)
    error = await why(f"json://{host}:9/x", allow=["0.0.0.0/0", "::/0"])
    assert error.for_good
    assert "never" in str(error)
    assert connected == []


def _trap_connections(monkeypatch: pytest.MonkeyPatch, connected: list[Any]) -> None:
    async def connect(*args: Any, **kwargs: Any) -> Any:
        connected.append((args, kwargs))
        raise OSError("trapped")

    monkeypatch.setattr(anyio, "connect_tcp", connect)


@pytest.mark.parametrize("allow", [["127.0.0.0/8"], ["127.0.0.1"], ["LocalHost."], ["10.0.0.0/8", "localhost", "::1"]])
async def test_what_the_configuration_allows_is_told(allow: list[str]) -> None:
    """A network, an address, a name."""
    with WebReceiver().open() as web:
        await Notifiers(FakeClock(), [*allow, "::1"])(f"json://localhost:{web.port}/x", MESSAGE)
    assert len(web.requests) == 1


@pytest.mark.parametrize("name", ["10.0.0.0/99", "localhost:80", "", "http://x"])
def test_what_is_no_network_is_refused(name: str) -> None:
    """By name, with what to write."""
    with pytest.raises(ValueError, match="is no network; write"):
        Notifiers(FakeClock(), [name])


async def test_a_name_that_changes_its_address_is_told_where_it_was_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resolved once: the second answer, which would be the trap, is never asked for; the name is still the host."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in {"rebind.example", b"rebind.example"}:
            return real(host, port, *args, **kwargs)
        asked.append(str(host))
        return real("127.0.0.2" if len(asked) == 1 else "127.0.0.1", port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    with WebReceiver().open() as trap:
        error = await why(f"json://rebind.example:{trap.port}/x", allow=["127.0.0.2"])
    assert "cannot be connected to" in str(error)  # 127.0.0.2 has no listener
    assert (len(asked), trap.requests) == (1, [])


async def test_a_name_with_one_bad_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The good one beside it does not help."""
    real = socket.getaddrinfo
    two = lambda _host, port, *a, **k: real("8.8.8.8", port, *a, **k) + real("169.254.169.254", port, *a, **k)  # noqa: E731
    monkeypatch.setattr(socket, "getaddrinfo", two)
    assert (await why("jsons://mixed.example/x", allow=[])).for_good


# --- slack -------------------------------------------------------------------------------------------


async def test_slack_webhooks_get_a_text() -> None:
    """By the three tokens, once for each channel that is named; nothing in it is Slack's own markup."""
    with WebReceiver().open() as web:
        sender = slack.Slack(Allowed(HERE), hooks=f"http://127.0.0.1:{web.port}/services")
        await sender("slack://T1/B2/c3", MESSAGE)
        await sender("slack://bot@T1/B2/c3/ops", Message(id="i", subject="<!channel>", text="a & b", document={}))
    assert [got["path"] for got in web.requests] == ["/services/T1/B2/c3"] * 2
    assert web.requests[0]["json"] == {"text": "*[flowd] p: a scheiterte ü*\nit failed\n"}
    assert web.requests[1]["json"] == {"text": "*&lt;!channel&gt;*\na &amp; b", "channel": "#ops"}


async def test_a_slack_bot_is_believed_only_where_it_says_ok() -> None:
    """Slack answers 200 to whatever it refuses."""
    with WebReceiver(body=b'{"ok": false, "error": "channel_not_found"}').open() as web:
        sender = slack.Slack(Allowed(HERE), api=f"http://127.0.0.1:{web.port}/api")
        error = await why("slack://xoxb-hush/%23ops", deliver=sender)
    assert "channel_not_found" in str(error)
    assert web.requests[0]["headers"]["authorization"] == "Bearer xoxb-hush"
    assert web.requests[0]["json"]["channel"] == "ops"
    with WebReceiver(body=b'{"ok": true}').open() as web:
        await slack.Slack(Allowed(HERE), api=f"http://127.0.0.1:{web.port}/api")("slack://xoxb-hush/ops", MESSAGE)
    assert (await why("slack://xoxb-hush", deliver=sender)).for_good
    assert (await why("slack://T1/B2", deliver=sender)).for_good


def test_a_secret_may_hold_the_url_of_a_slack_webhook() -> None:
    """It gets what Slack reads, not the document."""
    assert slack.is_hook("https://hooks.slack.com/services/T/B/c")
    assert not slack.is_hook("https://hooks.slack.com.example.org/services/T/B/c")


# --- mail --------------------------------------------------------------------------------------------


async def test_a_mail_reaches_all_whom_its_url_names() -> None:
    """By the server that it names; with a subject in UTF-8 and an id that is the notice's."""
    with MailReceiver().open() as server:
        await Notifiers(FakeClock())(f"mailto://ada@127.0.0.1:{server.port}?to=b@x.org,c@x.org", MESSAGE)
        await Notifiers(FakeClock())(f"mailto://ada@127.0.0.1:{server.port}", MESSAGE)
    assert [to for to, _ in server.mails] == [["b@x.org", "c@x.org"], ["ada@127.0.0.1"]]
    got = message_from_bytes(server.mails[0][1])
    assert str(make_header(decode_header(got["Subject"]))) == MESSAGE.subject
    assert (got["Message-ID"], got["Auto-Submitted"]) == (f"<{MESSAGE.id}@flowd>", "auto-generated")
    assert got.get_payload(decode=True) == b"it failed\r\n"


async def test_who_was_refused_is_tried_again_and_nobody_else() -> None:
    """One of three recipients is not taken at first."""
    refusals = iter(["450 later", "550 no", ""])
    with MailReceiver(refuse=lambda to: next(refusals) if to == "b@x.org" else "").open() as server:
        sender = Notifiers(FakeClock())
        url = f"mailto://ada@127.0.0.1:{server.port}/a@x.org/b@x.org/c@x.org"
        assert "refused b@x.org: 450 later" in str(await why(url, deliver=sender))
        assert "550 no" in str(await why(url, deliver=sender))
        await sender(url, MESSAGE)
    assert [to for to, _ in server.mails] == [["a@x.org", "c@x.org"], ["b@x.org"]]


async def test_a_mail_server_that_fails_is_said_without_the_password() -> None:
    """It answers badly; or nobody is there."""
    with MailReceiver(lambda _n: 451).open() as server:
        error = await why(f"mailto://ada@127.0.0.1:{server.port}")
        assert "451 come back later" in str(error)
        login = await why(f"mailto://ada:hushhush@127.0.0.1:{server.port}")
        assert "hush" not in str(login)
    gone = await why(f"mailto://ada:hushhush@127.0.0.1:{server.port}")
    assert "hush" not in str(gone)
    assert not gone.for_good


@pytest.mark.parametrize(
    ("url", "route"),
    [
        ("mailto://ada@host", ("host", 25, "", ("ada@host",), "flowd@host", False)),
        ("mailto://ada:pw%40@host", ("host", 25, "ada", ("ada@host",), "ada@host", False)),
        ("mailtos://a%40b.org:pw@host", ("host", 587, "a@b.org", ("a@b.org",), "a@b.org", True)),
        ("mailtos://a:pw@host:465?to=x@y.z&from=f@g.h", ("host", 465, "a", ("x@y.z",), "f@g.h", True)),
        ("mailto://me:pw@host/x@y.z?smtp=relay&user=login", ("relay", 25, "login", ("x@y.z",), "me@host", False)),
    ],
)
def test_a_url_says_how_a_mail_goes(url: str, route: tuple[Any, ...]) -> None:
    """Server, port, login, recipients, sender, and whether TLS has to be."""
    found = mail.route_of(url)
    assert (found.host, found.port, found.user, found.to, found.sender, found.secure) == route


@pytest.mark.parametrize(
    "url", ["mailto://host", "mailto://", "mailto://a@h:x", "mailto://a@h/b c@d", "mailto://a@h/%0aB@c"]
)
async def test_what_names_nobody_is_refused(url: str) -> None:
    """A line end in an address, too: it would be a header."""
    assert (await why(url)).for_good


# --- the others --------------------------------------------------------------------------------------


KEY = "0123456789abcdef"


async def test_other_services_are_apprise_s() -> None:
    """In a process of its own; False instead of an exception is a failure all the same."""
    with WebReceiver().open() as web:
        await Notifiers(FakeClock(), HERE)(f"apprise://127.0.0.1:{web.port}/{KEY}?method=json", MESSAGE)
        assert web.requests[0]["json"]["body"] == "it failed"
    with WebReceiver(lambda _n: 500).open() as web:
        error = await why(f"apprise://127.0.0.1:{web.port}/{KEY}?method=json")
        assert "did not take it" in str(error)
    assert "cannot read its URL" in str(await why("gotify://"))


async def test_other_services_connect_to_nothing_that_is_refused() -> None:
    """Whatever the service's own rules are: the connection itself is looked at."""
    with WebReceiver().open() as trap:
        error = await why(f"apprise://localhost:{trap.port}/{KEY}?method=json", allow=[])
        assert error.for_good
        assert "loopback" in str(error)
        redirects = WebReceiver(lambda _n: 307, {"Location": f"http://127.0.0.2:{trap.port}/x"})
        with redirects.open() as web:
            await why(f"apprise://127.0.0.1:{web.port}/{KEY}?method=json")
    assert trap.requests == []


@pytest.mark.parametrize(
    ("module", "url", "extra"),
    [("httpx2", "json://127.0.0.1:9/", "notify"), ("aiosmtplib", "mailto://a@127.0.0.1:9", "notify")],
)
async def test_a_missing_extra_is_named(module: str, url: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line, with what to type; once it is there the notice goes out."""
    monkeypatch.setitem(sys.modules, module, None)
    error = await why(url)
    assert f"pip install 'flowd[{extra}]'" in str(error)
    assert not error.for_good


async def test_missing_apprise_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same."""
    monkeypatch.setattr(outside, "find_spec", lambda _name: None)
    assert "pip install 'flowd[apprise]'" in str(await why("gotify://host/token"))


async def test_nothing_is_logged_of_a_url(caplog: pytest.LogCaptureFixture) -> None:
    """Its path may be a key; what others fetch by the same library is logged as ever."""
    import httpx2

    caplog.set_level("DEBUG")
    with WebReceiver().open() as web:
        await Notifiers(FakeClock(), HERE)(f"json://127.0.0.1:{web.port}/hushhush?signing_secret=hushhush", MESSAGE)
        assert "hushhush" not in caplog.text
        httpx2.post(f"http://127.0.0.1:{web.port}/mine", json={}, trust_env=False)
    assert "/mine" in caplog.text
