"""Notices end to end: a daemon's runs, a real receiver, and links that are followed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx2

from flowd.adapters.audit import FILE as AUDIT
from flowd.core.declared import Notify
from flowd.core.settings import Settings
from receivers import MailReceiver, WebReceiver
from serving import Here, daemon

HERE = ("127.0.0.0/8",)


def asking(url: str) -> str:
    """A pipeline that asks its owner, by a form that has a default."""
    return f"""
name: ask
owners: {{boss: {{notify: ["{url}"]}}}}
notify: [{{on: [waiting, succeeded, failed], to: boss}}]
tasks:
  release:
    approve: {{message: "Ship <it>?", by: [boss], form: {{grade: 1}}}}
    run: "echo shipped >> done.txt"
    outputs: [done.txt]
    cache: false
"""


def failing(url: str, name: str = "p") -> str:
    """A pipeline whose task fails, and has an owner."""
    return f"""
name: {name}
owners: {{data: {{notify: ["{url}"]}}}}
notify: [{{on: failed, to: owner}}]
tasks: {{load: {{run: "test -e good", owner: data, cache: false}}}}
"""


async def until_told(receiver: WebReceiver, number: int) -> list[dict[str, Any]]:
    """The notices, once so many have arrived."""
    with anyio.fail_after(20):
        while len(receiver.arrived) < number:
            await anyio.sleep(0.02)
    return [request["json"] for request in receiver.requests]


async def asked(here: Here, receiver: WebReceiver) -> tuple[str, dict[str, str]]:
    """A run that waits, and the links that answer it."""
    run = await here.start("ask")
    await here.until(run, "waiting")
    [notice] = await until_told(receiver, 1)
    return run, notice["links"]


async def test_a_failure_is_told_to_the_tasks_owner_and_to_whom_the_daemon_names(tmp_path: Path) -> None:
    """Each once, with the sentence, what to type, and a page that is there."""
    with WebReceiver().open() as owner, WebReceiver().open() as office:
        everywhere = Notify(on=("failed", "succeeded"), to=(f"json://127.0.0.1:{office.port}/all",))
        settings = Settings(notify=(everywhere,), private=HERE)
        files = {
            "p": failing(f"json://127.0.0.1:{owner.port}/own"),
            "other": "name: other\ntasks: {a: {run: 'true'}}\n",
        }
        async with daemon(tmp_path, settings, **files) as here:
            run = await here.start("p")
            await here.until(run, "failed")
            await here.until(await here.start("other"), "succeeded")
            [own] = await until_told(owner, 1)
            told = await until_told(office, 2)
            page = await here.client.get(own["link"])
            notices = await here.get("/notices")
    assert (own["run"], own["task"], own["happening"]) == (run, "load", "failed")
    assert any(command.startswith(f"flowd retry {run}") for command in own["next"])
    assert {(notice["pipeline"], notice["happening"]) for notice in told} == {("p", "failed"), ("other", "succeeded")}
    assert page.status_code == 200
    assert "<td>load</td><td>failed</td>" in page.text
    assert (notices["delivered"], notices["waiting"], notices["given_up"]) == (3, [], [])


async def test_a_receiver_that_fails_half_of_the_time_gets_each_notice(tmp_path: Path) -> None:
    """As many as were promised: every one, none twice, though many runs end at once."""
    with WebReceiver(answer=lambda n: 503 if n % 2 else 200).open() as receiver:
        settings = Settings(private=HERE)
        async with daemon(tmp_path, settings, p=failing(f"json://127.0.0.1:{receiver.port}/x")) as here:
            runs = [await here.start("p") for _ in range(4)]
            for run in runs:
                await here.until(run, "failed")
            await until_told(receiver, 4)
            with anyio.fail_after(10):
                while (await here.get("/notices"))["delivered"] < 4:
                    await anyio.sleep(0.02)
    assert len(set(receiver.arrived)) == len(receiver.arrived) == 4
    answered = [request["json"]["run"] for n, request in enumerate(receiver.requests) if not n % 2]
    assert Counter(answered) == Counter(runs)


async def test_mail_brings_the_same(tmp_path: Path) -> None:
    """By SMTP, to the address of the URL."""
    with MailReceiver().open() as post:
        settings = Settings(private=HERE)
        url = f"mailto://127.0.0.1:{post.port}?from=flowd@example.org&to=ada@example.org"
        async with daemon(tmp_path, settings, p=failing(url)) as here:
            run = await here.start("p")
            await here.until(run, "failed")
            with anyio.fail_after(20):
                while not post.mails:
                    await anyio.sleep(0.02)
    [(recipients, content)] = post.mails
    assert recipients == ["ada@example.org"]
    assert b"[flowd] p" in content
    assert run.encode() in content


async def test_nobody_reaches_this_machine_by_a_notice_unless_the_daemon_allows_it(tmp_path: Path) -> None:
    """It is given up at once, and says what to write where."""
    with WebReceiver().open() as receiver:
        async with daemon(tmp_path, p=failing(f"json://127.0.0.1:{receiver.port}/x")) as here:
            await here.until(await here.start("p"), "failed")
            with anyio.fail_after(10):
                while not (given_up := (await here.get("/notices"))["given_up"]):
                    await anyio.sleep(0.02)
    assert receiver.requests == []
    assert "add 127.0.0.1 to `private` in flowd.yaml" in given_up[0]["error"]
    assert "notice_given_up" in (tmp_path / "daemon.log").read_text()


async def test_a_link_answers_once_and_a_look_at_it_answers_nothing(tmp_path: Path) -> None:
    """Without any token; the page says what would be done, and the second use is refused, as is the other answer."""
    with WebReceiver().open() as receiver:
        files = {"ask": asking(f"json://127.0.0.1:{receiver.port}/x")}
        async with daemon(tmp_path, Settings(private=HERE), **files) as here:
            run, links = await asked(here, receiver)
            async with httpx2.AsyncClient() as stranger:
                for _ in range(3):
                    shown = await stranger.get(links["approve"])
                assert (await here.get(f"/runs/{run}"))["state"] == "waiting"
                button = {"Origin": _origin(links["approve"]), "Content-Type": "application/x-www-form-urlencoded"}
                filled = await stranger.post(links["approve"], headers=button, content=b"x=1")
                answer = await stranger.post(links["approve"], headers={**button, "Sec-Fetch-Site": "same-origin"})
                again = await stranger.post(links["approve"])
                other = await stranger.post(links["reject"])
                altered = await stranger.get(links["reject"][:-3] + "abc")
            done = await here.until(run, "succeeded")
            audit = (tmp_path / ".flowd" / "daemon" / AUDIT).read_text()
    assert (shown.status_code, filled.status_code) == (200, 415)
    assert "Approve release of ask?" in shown.text
    assert "Ship &lt;it&gt;?" in shown.text
    assert "form-action 'self'" in shown.headers["content-security-policy"]
    assert (answer.status_code, again.status_code, other.status_code, altered.status_code) == (200, 410, 410, 410)
    assert "used before" in again.text
    assert "was answered" in other.text
    assert done["tasks"]["release"]["approval"]["by"] == "boss (by link)"
    assert (tmp_path / "done.txt").read_text() == "shipped\n"
    paths = {json.loads(line)["path"] for line in audit.splitlines()}
    assert paths == {"/api/v1/runs", "/links/…"}


async def test_a_link_that_could_not_be_carried_out_is_good_again(tmp_path: Path) -> None:
    """A form without a default wants a person at a terminal; the other link still answers."""
    with WebReceiver().open() as receiver:
        text = asking(f"json://127.0.0.1:{receiver.port}/x").replace("grade: 1", "grade: {type: int, required: true}")
        async with daemon(tmp_path, Settings(private=HERE), ask=text) as here:
            run, links = await asked(here, receiver)
            async with httpx2.AsyncClient() as stranger:
                refused = [await stranger.post(links["approve"]) for _ in range(2)]
                assert (await here.get(f"/runs/{run}"))["state"] == "waiting"
                rejected = await stranger.post(links["reject"])
            await here.until(run, "failed")
    assert [answer.status_code for answer in refused] == [422, 422]
    assert f"flowd approve {run} release" in refused[1].text
    assert rejected.status_code == 200


async def test_two_clicks_at_once_answer_once(tmp_path: Path) -> None:
    """One is done, the others are told that it was."""
    with WebReceiver().open() as receiver:
        files = {"ask": asking(f"json://127.0.0.1:{receiver.port}/x")}
        async with daemon(tmp_path, Settings(private=HERE), **files) as here:
            run, links = await asked(here, receiver)
            found: list[int] = []

            async def click(client: httpx2.AsyncClient) -> None:
                found.append((await client.post(links["approve"])).status_code)

            async with httpx2.AsyncClient() as stranger, anyio.create_task_group() as group:
                for _ in range(8):
                    group.start_soon(click, stranger)
            await here.until(run, "succeeded")
    assert Counter(found) == {200: 1, 410: 7}
    assert (tmp_path / "done.txt").read_text() == "shipped\n"


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
