"""What begins runs besides the clock: files, ends of other pipelines, webhooks; each happening once."""

import asyncio
import hmac
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from fastapi import FastAPI

from agendas import MemoryAgenda, Shelf
from flowd import Engine, Pipeline
from flowd.adapters.journal.file import FileJournal
from flowd.authoring.loading import load
from flowd.core import agenda as facts
from flowd.core.agenda import AnyFact
from flowd.core.errors import BadParameters
from flowd.daemon.after_triggers import AfterTriggers
from flowd.daemon.file_triggers import FileTriggers
from flowd.daemon.http.errors import install
from flowd.daemon.http.hooks import hooks_router
from flowd.daemon.triggering import Triggering
from flowd.daemon.webhooks import NoSuchHook, Webhooks, WrongSignature
from flowd.testing import FakeClock
from flowd.wiring.reading import reading
from flowd.wiring.serving.archive import FileArchive

START = datetime(2026, 1, 1, tzinfo=UTC)


class Here:
    """An engine on a state directory, with pipelines from texts."""

    def __init__(
        self, engine: Engine, journal: FileJournal, pipelines: Sequence[Pipeline], store: MemoryAgenda
    ) -> None:
        self.engine, self.store = engine, store
        self.clock = FakeClock(START)
        self.triggering = Triggering(engine, Shelf(*pipelines), store)
        self.files = FileTriggers(self.triggering, self.clock)
        self.after = AfterTriggers(self.triggering, FileArchive(journal), self.clock)
        self.webhooks = Webhooks(self.triggering, self.clock, _secret)

    async def look(self, seconds: float = 0) -> None:
        self.clock.advance(seconds)
        await self.files.turn(self.clock.now())

    async def begun(self) -> list[dict[str, Any]]:
        """The documents of all runs that a trigger began, once they have ended, oldest first."""
        found = []
        for run in reversed(self.engine.runs()):
            await run.wait()
            document = await run.snapshot()
            if document["trigger"]["kind"] != "hand":
                found.append(document)
        return sorted(found, key=lambda one: str(one["trigger"].get("file", "")))

    def of(self, kind: type[AnyFact]) -> list[Any]:
        return [fact for fact in self.store.told if isinstance(fact, kind)]


async def _secret(_pipeline: Pipeline, template: str) -> str:
    return f"key of {template}"


@asynccontextmanager
async def place(folder: Path, *texts: str, kept: Sequence[AnyFact] = ()) -> AsyncIterator[Here]:
    pipelines = []
    for number, text in enumerate(texts):
        path = folder / f"p{number}.yaml"
        path.write_text(text)
        pipelines.append(load(str(path)))
    with reading(folder / ".flowd") as journal:
        async with Engine(folder / ".flowd") as engine:
            yield Here(engine, journal, pipelines, MemoryAgenda(kept))


FILES = 'name: load\ntrigger: [{file: "inbox/*.csv", settle: 5s}]\ntasks: {a: {run: "true"}}\n'


def put(path: Path, text: str, at: float = 1000.0) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(path, (at, at))


async def test_a_file_that_was_left_alone_begins_one_run(tmp_path: Path) -> None:
    """Not before it has settled, not while it grows, and not again; what stood there before begins nothing."""
    put(tmp_path / "inbox" / "old.csv", "x")
    async with place(tmp_path, FILES) as here:
        await here.look()
        put(tmp_path / "inbox" / "new.csv", "1")
        await here.look(4)
        put(tmp_path / "inbox" / "new.csv", "1,2", 1003)
        await here.look(4)
        await here.look(4)
        assert await here.begun() == []
        await here.look(2)
        await here.look(60)
        [run] = await here.begun()
        assert run["trigger"]["file"] == "inbox/new.csv"
        assert run["state"] == "succeeded"


async def test_a_file_that_is_written_again_begins_another_run(tmp_path: Path) -> None:
    """Each version of it is a happening of its own; several files begin a run each, the oldest first."""
    async with place(tmp_path, FILES) as here:
        await here.look()
        put(tmp_path / "inbox" / "b.csv", "1", 2000)
        put(tmp_path / "inbox" / "a.csv", "1", 3000)
        await here.look()
        await here.look(6)
        put(tmp_path / "inbox" / "b.csv", "1", 4000)
        await here.look()
        await here.look(6)
        assert [run["trigger"]["file"] for run in await here.begun()] == ["inbox/a.csv", "inbox/b.csv", "inbox/b.csv"]
        assert [fact.time.timestamp() for fact in here.of(facts.Fired)] == [2000, 3000, 4000]


async def test_what_came_while_nobody_looked_begins_its_run_later(tmp_path: Path) -> None:
    """What is known outlives the process, and what was begun is not begun again."""
    async with place(tmp_path, FILES) as here:
        await here.look()
        put(tmp_path / "inbox" / "a.csv", "1")
        await here.look()
        await here.look(6)
        told = here.store.told
    put(tmp_path / "inbox" / "b.csv", "1")
    async with place(tmp_path, FILES, kept=told) as here:
        await here.look()
        await here.look(6)
        assert len(here.of(facts.Fired)) == 2
        assert len(here.engine.runs()) == 2


async def test_a_death_before_the_record_begins_no_second_run(tmp_path: Path) -> None:
    """The run is there under the name that the happening has by its nature."""
    async with place(tmp_path, FILES) as here:
        await here.look()
        told = list(here.store.told)
        put(tmp_path / "inbox" / "a.csv", "1")
        await here.look()
        await here.look(6)
        await here.begun()
    async with place(tmp_path, FILES, kept=told) as here:
        await here.look()
        await here.look(6)
        assert len(here.engine.runs()) == 1


async def test_too_many_files_are_said_and_begin_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once; whoever has files pile up moves them away."""
    monkeypatch.setattr("flowd.daemon.file_triggers.MOST_FILES", 3)
    for number in range(5):
        put(tmp_path / "inbox" / f"{number}.csv", "")
    async with place(tmp_path, FILES) as here:
        await here.look()
        await here.look(10)
        assert here.engine.runs() == []
    assert [record.message for record in caplog.records].count("trigger_too_wide") == 1


AFTER = [
    """
name: first
params: {bad: false}
tasks:
  a: {run: "true", when: "not params.bad"}
  b: {run: "false", when: "params.bad"}
""",
    'name: then\ntrigger: [{after: first}]\ntasks: {a: {run: "true"}}\n',
    'name: rescue\ntrigger: [{after: first, on: [failed]}]\ntasks: {a: {run: "true"}}\n',
]


async def test_the_end_of_a_run_begins_what_comes_after_it(tmp_path: Path) -> None:
    """By how it ended, once, and knowing whose end it was; an end before the trigger was seen begins nothing."""
    async with place(tmp_path, *AFTER) as here:
        first = load(str(tmp_path / "p0.yaml"))
        await here.engine.run(first, run_id="early")
        await asyncio.sleep(0.01)
        await here.after.turn(datetime.now(UTC))
        await here.engine.run(first, run_id="good")
        await here.engine.run(first, run_id="bad", params={"bad": True})
        for _ in range(3):
            await here.after.turn(datetime.now(UTC))
        begun = {run["pipeline"]: run["trigger"] for run in await here.begun()}
        assert {name: trigger["upstream"] for name, trigger in begun.items()} == {"then": "good", "rescue": "bad"}
        assert begun["then"]["kind"] == "after"
        assert len(here.of(facts.Fired)) == 2


async def test_an_end_while_no_daemon_ran_is_followed_later(tmp_path: Path) -> None:
    """From the journals of all processes."""
    async with place(tmp_path, *AFTER) as here:
        await here.after.turn(datetime.now(UTC))
        told = here.store.told
        await here.engine.run(load(str(tmp_path / "p0.yaml")), run_id="alone")
    async with place(tmp_path, *AFTER, kept=told) as here:
        await here.after.turn(datetime.now(UTC) + timedelta(hours=3))
        assert [run["trigger"]["upstream"] for run in await here.begun()] == ["alone"]


HOOKS = [
    """
name: deploy
params: {branch: main}
secrets: {KEY: {env: NOWHERE}}
trigger: [{webhook: push, secret: "{{ secrets.KEY }}"}]
tasks: {a: {run: "true"}}
""",
    'name: open\ntrigger: [{webhook: door}]\ntasks: {a: {run: "true"}}\n',
]


def signed(body: bytes, **more: str) -> dict[str, str]:
    key = b"key of {{ secrets.KEY }}"
    return {"x-hub-signature-256": f"sha256={hmac.new(key, body, sha256).hexdigest()}", **more}


async def test_a_signed_delivery_begins_a_run_once(tmp_path: Path) -> None:
    """With its parameters; the same delivery again begins none."""
    body = json.dumps({"params": {"branch": "dev"}, "code": "import os"}).encode()
    async with place(tmp_path, *HOOKS) as here:
        headers = signed(body, **{"x-github-delivery": "d1"})
        [run] = await here.webhooks.deliver("push", headers, body)
        assert await here.webhooks.deliver("push", headers, body) == []
        [document] = await here.begun()
        assert document["run"] == run
        assert document["params"] == {"branch": "dev"}
        assert document["trigger"]["delivery"] == "d1"


async def test_a_delivery_that_is_not_signed_begins_nothing(tmp_path: Path) -> None:
    """Nor one with another body's signature, in another form, or of no hook at all; wrong parameters are refused."""
    async with place(tmp_path, *HOOKS) as here:
        for headers in ({}, signed(b"other"), {"x-hub-signature-256": "sha256=é"}, {"x-hub-signature": "x"}):
            with pytest.raises(WrongSignature):
                await here.webhooks.deliver("push", headers, b"{}")
        with pytest.raises(NoSuchHook):
            await here.webhooks.deliver("nope", {}, b"{}")
        wrong = b'{"params": {"brunch": 1}}'
        with pytest.raises(BadParameters):
            await here.webhooks.deliver("push", signed(wrong), wrong)
        assert here.engine.runs() == []
        assert here.webhooks.is_signed("push")
        assert not here.webhooks.is_signed("door")
        assert not here.webhooks.is_signed("nope")


async def test_the_route_of_webhooks(tmp_path: Path) -> None:
    """202 with the runs, 401 for a wrong signature, 404 for none of that name."""
    async with place(tmp_path, *HOOKS) as here:
        app = FastAPI()
        app.include_router(hooks_router(here.webhooks))
        install(app)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://here") as client:
            good = await client.post("/hooks/push", content=b"{}", headers=signed(b"{}"))
            assert (good.status_code, len(good.json()["runs"])) == (202, 1)
            wrong = await client.post("/hooks/push", content=b"{ }", headers=signed(b"{}"))
            assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "wrong_signature")
            assert (await client.post("/hooks/nope")).status_code == 404
            bad = await client.post("/hooks/door", content=b"{")
            assert (bad.status_code, bad.json()["error"]["code"]) == (422, "bad_request")
        with anyio.fail_after(5):
            await here.begun()
