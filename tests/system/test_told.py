"""Notices of a daemon that is a process: what its death does to them, runs of others, and the examples' people."""

from __future__ import annotations

import shutil
from email import message_from_bytes
from email.policy import default
from pathlib import Path
from typing import Any

import anyio
import httpx2

from daemon_process import said, serve, stop
from examples import CONFIGS, PRODUCED
from flowd.core.settings import Settings
from flowd_process import Place, end_of, until
from receivers import MailReceiver, WebReceiver
from serving import daemon

PRIVATE = 'private: ["127.0.0.1"]\n'


def prepare(here: Place, port: int) -> None:
    """A pipeline that fails and tells a web server on this machine."""
    url = f"json://127.0.0.1:{port}/x"
    here.pipeline({"a": {"run": "test -e good"}}, notify=[{"on": "failed", "to": url}])


def test_killed_with_a_notice_in_its_hands_the_next_one_brings_it(here: Place) -> None:
    """By SIGKILL, while the receiver refuses: it comes once, under the id under which it was tried."""
    refusing = True
    with WebReceiver(answer=lambda _n: 503 if refusing else 200).open() as receiver:
        prepare(here, receiver.port)
        process = serve(here, config=PRIVATE)
        assert here.run("run").code == 1
        until(lambda: bool(receiver.requests))
        process.kill()
        end_of(process)
        assert receiver.arrived == []
        refusing = False
        process = serve(here, config=PRIVATE)
        until(lambda: bool(receiver.arrived))
        assert stop(process).code == 0
        again = serve(here, config=PRIVATE)
        assert stop(again).code == 0
    ids = {request["json"]["id"] for request in receiver.requests}
    assert len(receiver.arrived) == 1
    assert set(receiver.arrived) == ids


def test_what_ended_while_there_was_no_daemon_is_told_by_the_next_one(here: Place) -> None:
    """Whoever ran it; what ended before there ever was a daemon is old news."""
    with WebReceiver().open() as receiver:
        prepare(here, receiver.port)
        old = here.run("run", "--json").document["run"]
        assert stop(serve(here, config=PRIVATE)).code == 0
        new = here.run("run", "--json").document["run"]
        process = serve(here, config=PRIVATE)
        until(lambda: bool(receiver.arrived))
        assert stop(process).code == 0
    assert [request["json"]["run"] for request in receiver.requests] == [new], old


def test_no_secret_of_an_address_is_seen(here: Place) -> None:
    """The URL is a secret: it is delivered to, and stands in no log, no outbox and no answer."""
    with WebReceiver(answer=lambda n: 200 if n else 503).open() as receiver:
        here.pipeline(
            {"a": {"run": "false"}},
            secrets={"HOOK": {"file": "hook"}},
            notify=[{"on": "failed", "to": "{{ secrets.HOOK }}"}],
        )
        here.write("hook", f"json://127.0.0.1:{receiver.port}/k3y-of-the-hook\n")
        process = serve(here, config=PRIVATE)
        assert here.run("run").code == 1
        until(lambda: bool(receiver.arrived))
        assert stop(process).code == 0
    assert receiver.requests[0]["path"] == "/k3y-of-the-hook"
    assert "notice_not_delivered" in said(here)
    assert "k3y-of" not in said(here)
    for path in here.state.rglob("*"):
        assert not path.is_file() or b"k3y-of" not in path.read_bytes(), path


async def test_the_people_of_the_examples_are_told(tmp_path: Path) -> None:
    """`scoring` asks its analyst, by the weekly schedule's tasks; a step that breaks is told to its owner."""
    with MailReceiver(answer=lambda n: 451 if n % 2 else 250).open() as post:
        folder = tmp_path / "scoring"
        shutil.copytree(CONFIGS / "scoring", folder, ignore=PRODUCED)
        file = folder / "pipeline.yaml"
        file.write_text(file.read_text().replace("localhost:2525", f"127.0.0.1:{post.port}"))
        settings = Settings(private=("127.0.0.1",), pipelines=("scoring/pipeline.yaml",))
        async with daemon(tmp_path, settings) as here:
            weekly = next(one for one in (await here.get("/schedules"))["schedules"] if one["name"] == "scoring.weekly")
            assert weekly["tasks"] == ["report"]
            run = await here.start("scoring", tasks=weekly["tasks"])
            with anyio.fail_after(60):
                while (await here.get(f"/runs/{run}"))["state"] != "waiting":
                    await anyio.sleep(0.1)
            [asked] = await mails(post, 1)
            link = next(line.split()[-1] for line in asked["text"].splitlines() if line.startswith("To approve: "))
            async with httpx2.AsyncClient() as analyst:
                assert (await analyst.post(link)).status_code == 200
            await here.until(run, "succeeded")
            (folder / "data/raw.csv").write_text("not,a,table\n")
            broken = await here.start("scoring", tasks=["train_or_score"])
            with anyio.fail_after(60):
                while (await here.get(f"/runs/{broken}"))["state"] != "failed":
                    await anyio.sleep(0.1)
            both = await mails(post, 2)
    assert asked["to"] == "analyst@127.0.0.1"
    assert "new quarters, the latest at" in asked["text"]
    assert [mail["to"] for mail in both] == ["analyst@127.0.0.1", "data-eng@127.0.0.1"]
    assert f"flowd retry {broken}" in both[1]["text"]


async def mails(post: MailReceiver, number: int) -> list[dict[str, Any]]:
    """The mails, once so many have arrived."""
    with anyio.fail_after(30):
        while len(post.mails) < number:
            await anyio.sleep(0.02)
    found = []
    for to, content in post.mails:
        body = message_from_bytes(content, policy=default).get_body(("plain",))
        assert body is not None
        found.append({"to": to[0], "text": body.get_content()})
    return found
