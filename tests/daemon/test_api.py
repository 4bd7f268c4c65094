"""The API over real runs: what each route gives, every error's shape, streams that go on where they were left."""

import json
import sys
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from flowd.core.access import ROUTES
from flowd.daemon.http.errors import install
from serving import Here, daemon

PIPELINE = """
name: work
params: {size: {type: int, default: 1, min: 0}}
schedule: {cron: "0 6 * * mon", timezone: Europe/Berlin}
tasks:
  make: {run: "echo made {{ params.size }}; echo x > out.txt", outputs: [out.txt], cache: false}
  ask: {approve: {message: "Go on?", form: {grade: 1}}, needs: [make]}
"""
SLOW = """
name: slow
tasks:
  wait: {run: "echo begun; sleep 600", grace: 1s}
"""
FAILING = """
name: failing
tasks:
  fail: {run: "test -e good"}
"""
FILES = {"work": PIPELINE, "slow": SLOW, "failing": FAILING}

STREAMS = {"/api/v1/events", "/api/v1/runs/{run}/events"}
"""They go on, and have tests of their own."""
NOT_OURS = [ignored_auth, positive_data_acceptance]
"""Who may ask is the gate's; and that a name is one of a run or a pipeline that there is, no document says."""
ALL = list(HealthCheck)


async def test_a_run_from_its_start_to_a_persons_answer(tmp_path: Path) -> None:
    """Started by name, shown as `show --json` shows it, answered under the caller's name."""
    async with daemon(tmp_path, **FILES) as here:
        run = await here.start("work", params={"size": 3})
        shown = await here.until(run, "waiting")
        assert shown["trigger"] == {"kind": "api", "by": "admin"}
        assert shown["params"] == {"size": 3}
        assert shown["tasks"]["make"]["outputs"][0]["path"] == "out.txt"
        log = await here.client.get(f"/runs/{run}/tasks/make/log")
        assert log.text == "made 3\n"
        assert log.headers["content-type"].startswith("text/plain")
        assert (await here.get(f"/artifacts?run={run}"))["artifacts"][0]["task"] == "make"
        answered = await here.post(f"/runs/{run}/tasks/ask/approve", {"comment": "fine", "values": {"grade": 2}})
        assert answered["tasks"]["ask"]["approval"]["by"] == "admin"
        ended = await here.until(run, "succeeded")
        assert ended["tasks"]["ask"]["result"]["grade"] == 2


async def test_a_key_names_one_run(tmp_path: Path) -> None:
    """201 for the first, 200 for the same again, 422 with other parameters."""
    async with daemon(tmp_path, **FILES) as here:
        asked = {"pipeline": "work", "run_id": "monday"}
        assert (await here.post("/runs", asked, 201))["run"] == "monday"
        assert (await here.post("/runs", asked, 200))["run"] == "monday"
        refused = await here.post("/runs", {**asked, "params": {"size": 7}}, 422)
        assert "other parameters" in refused["error"]["message"]


async def test_runs_are_stopped_paused_gone_on_with_and_tried_again(tmp_path: Path) -> None:
    """Each by the run's own document."""
    async with daemon(tmp_path, **FILES) as here:
        run = await here.start("slow")
        await here.until(run, "running")
        assert (await here.post(f"/runs/{run}/pause"))["state"] in {"running", "paused"}
        await here.post(f"/runs/{run}/resume")
        await here.post(f"/runs/{run}/cancel", {"reason": "enough"})
        assert (await here.until(run, "cancelled"))["reason"]["sentence"]
        refused = await here.post(f"/runs/{run}/cancel", status=422)
        assert refused["error"]["message"] == f"run {run} has already cancelled"
        failed = await here.start("failing")
        await here.until(failed, "failed")
        (tmp_path / "good").touch()
        await here.post(f"/runs/{failed}/retry")
        assert (await here.until(failed, "succeeded"))["tasks"]["fail"]["attempts"] == 2


async def test_pages_go_on_where_they_ended_whatever_begins_meanwhile(tmp_path: Path) -> None:
    """Each run once, newest first; filtered by pipeline and state."""
    async with daemon(tmp_path, **FILES) as here:
        begun = [await here.start("failing") for _ in range(5)]
        for run in begun:
            await here.until(run, "failed")
        page = await here.get("/runs?limit=2")
        newer = await here.start("failing")
        found = [row["run"] for row in page["runs"]]
        while page["next"]:
            page = await here.get(f"/runs?limit=2&cursor={page['next']}")
            found += [row["run"] for row in page["runs"]]
        assert found == begun[::-1]
        await here.until(newer, "failed")
        assert [row["run"] for row in (await here.get("/runs?state=failed&limit=1"))["runs"]] == [newer]
        assert (await here.get("/runs?pipeline=work"))["runs"] == []
        lost = await here.client.get("/runs?cursor=gone")
        assert lost.status_code == 422
        assert "begin anew" in lost.json()["error"]["hint"] + lost.json()["error"]["message"]


ERRORS: dict[str, tuple[str, str, Any, int, str]] = {
    "an unknown run": ("GET", "/runs/nope", None, 404, "no_such_run"),
    "no id of a run": ("GET", "/runs/a%20b", None, 422, "bad_request"),
    "a way out": ("GET", "/runs/..%2f..%2ftoken", None, 404, "not_found"),
    "dots": ("GET", "/runs/%2e%2e/tasks/a/log", None, 404, "not_found"),
    "an unknown task's log": ("GET", "/runs/{run}/tasks/nope/log", None, 422, "bad_request"),
    "a path for a task": ("GET", "/runs/{run}/tasks/..%2f..%2f..%2ftoken/log", None, 404, "not_found"),
    "an attempt that never was": ("GET", "/runs/{run}/tasks/fail/log?attempt=9", None, 422, "bad_request"),
    "an unknown pipeline": ("POST", "/runs", {"pipeline": "nope"}, 422, "bad_request"),
    "a wrong parameter": ("POST", "/runs", {"pipeline": "work", "params": {"size": -1}}, 422, "bad_parameters"),
    "an unknown parameter": ("POST", "/runs", {"pipeline": "work", "params": {"sice": 1}}, 422, "bad_parameters"),
    "an unknown task": ("POST", "/runs", {"pipeline": "work", "tasks": ["nope"]}, 422, "bad_request"),
    "an unknown field": ("POST", "/runs", {"pipeline": "work", "code": "import os"}, 422, "bad_request"),
    "no body": ("POST", "/runs", None, 422, "bad_request"),
    "a list": ("POST", "/runs", [], 422, "bad_request"),
    "an approval of nothing": ("POST", "/runs/{run}/tasks/fail/approve", {}, 422, "bad_request"),
    "a verdict on nothing": ("POST", "/runs/{run}/tasks/fail/resolve", {"verdict": "failed"}, 422, "bad_request"),
    "a stop of no service": ("POST", "/runs/{run}/tasks/fail/stop", None, 422, "bad_request"),
    "an unknown schedule": ("POST", "/schedules/nope/pause", None, 422, "bad_request"),
    "an unknown route": ("GET", "/nope", None, 404, "not_found"),
    "a wrong method": ("POST", "/pipelines", None, 405, "wrong_method"),
    "a limit of nothing": ("GET", "/runs?limit=0", None, 422, "bad_request"),
    "a limit of a million": ("GET", "/runs?limit=1000000", None, 422, "bad_request"),
}


async def test_every_error_has_a_code_a_message_and_a_hint(tmp_path: Path) -> None:
    """Whoever is to blame: no traceback, no HTML, and nothing that was not asked about."""
    async with daemon(tmp_path, **FILES) as here:
        run = await here.start("failing")
        await here.until(run, "failed")
        for what, (method, path, body, status, code) in ERRORS.items():
            answer = await here.client.request(method, path.format(run=run), json=body)
            assert answer.status_code == status, (what, answer.text)
            error = answer.json()["error"]
            assert set(error) == {"code", "message", "hint"}, what
            assert error["code"] == code, (what, error)
            assert error["message"], what
            assert "Traceback" not in answer.text
        wrong = await here.client.post("/runs", content=b"{", headers={"Content-Type": "application/json"})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "bad_json")


async def test_the_events_of_a_run_go_on_behind_the_last_one_that_was_seen(tmp_path: Path) -> None:
    """Each once, under its number; the stream ends with the run."""
    async with daemon(tmp_path, **FILES) as here:
        run = await here.start("failing")
        first = await events(here, f"/runs/{run}/events", most=2)
        rest = await events(here, f"/runs/{run}/events", after=first[-1][0])
        assert [int(ident) for ident, _ in first + rest] == list(range(1, len(first + rest) + 1))
        assert rest[-1][1]["event"] == "run_finished"
        wrong = await here.client.get(f"/runs/{run}/events", headers={"Last-Event-ID": "x"})
        assert wrong.status_code == 422


async def test_the_events_of_all_runs_say_when_some_were_missed(tmp_path: Path) -> None:
    """Resumed within what is kept, nothing is missing; with an id of another life the reader is told to load anew."""
    async with daemon(tmp_path, **FILES) as here, anyio.create_task_group() as group:
        found: list[tuple[str, Any]] = []

        async def read() -> None:
            found.extend(await events(here, "/events", most=3))

        group.start_soon(read)
        await anyio.sleep(0.2)
        run = await here.start("failing")
        await here.until(run, "failed")
        with anyio.fail_after(5):
            while len(found) < 3:
                await anyio.sleep(0.02)
        rest = await events(here, "/events", after=found[-1][0], most=1)
        assert [line["run"] for _, line in found + rest] == [run] * 4
        assert [line["seq"] for _, line in found + rest] == [1, 2, 3, 4]
        async with here.client.stream("GET", "/events", headers={"Last-Event-ID": "0-5"}) as stream:
            lines = stream.aiter_lines()
            assert [await anext(lines) for _ in range(3)][2] == "event: reset"


async def events(here: Here, path: str, *, after: str = "", most: int = 1000) -> list[tuple[str, Any]]:
    """The events of a stream, each with its id, up to its end or `most`."""
    found, ident = [], ""
    headers = {"Last-Event-ID": after} if after else {}
    with anyio.fail_after(10):
        async with here.client.stream("GET", path, headers=headers) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            async for line in stream.aiter_lines():
                if line.startswith("id: "):
                    ident = line[4:]
                elif line.startswith("data: "):
                    found.append((ident, json.loads(line[6:])))
                    if len(found) == most:
                        break
    return found


async def test_a_log_is_followed_until_its_attempt_ends(tmp_path: Path) -> None:
    """What is there comes at once, the rest as it is written."""
    async with daemon(tmp_path, **FILES) as here:
        run = await here.start("slow")
        with anyio.fail_after(10):
            while (await here.get(f"/runs/{run}"))["tasks"]["wait"]["state"] != "running":
                await anyio.sleep(0.02)
            async with here.client.stream("GET", f"/runs/{run}/tasks/wait/log?follow=1") as stream:
                pieces = stream.aiter_bytes()
                assert await anext(pieces) == b"begun\n"
                await here.post(f"/runs/{run}/cancel")
                assert [piece async for piece in pieces] == []


async def test_a_run_of_another_process_is_seen_and_asked(tmp_path: Path) -> None:
    """`flowd run` beside the daemon: its events come through, and a cancel through the API reaches it."""
    async with daemon(tmp_path, **FILES) as here, anyio.create_task_group() as group:
        found: list[tuple[str, Any]] = []

        async def read() -> None:
            found.extend(await events(here, "/events", most=2))

        group.start_soon(read)
        await anyio.sleep(0.1)
        command = [sys.executable, "-m", "flowd", "run", "slow.yaml", "--run-id", "beside"]
        async with await anyio.open_process(command, cwd=tmp_path) as process:
            with anyio.fail_after(10):
                while len(found) < 2:
                    await anyio.sleep(0.05)
            assert (await here.get("/runs/beside"))["state"] == "running"
            cancelled = await here.post("/runs/beside/cancel", {"reason": "from afar"})
            assert cancelled["run"] == "beside"
            assert (await here.until("beside", "cancelled"))["counts"] == {"cancelled": 1}
            assert await process.wait() == 1
        assert {line["run"] for _, line in found} == {"beside"}


async def test_schedules_pipelines_limits_services_and_the_daemon_itself(tmp_path: Path) -> None:
    """All lists have their shapes; a schedule is paused under the caller's name, and stays so."""
    async with daemon(tmp_path, **FILES) as here:
        [schedule] = (await here.get("/schedules"))["schedules"]
        assert (schedule["name"], schedule["when"]) == ("work", "At 06:00 on Monday (Europe/Berlin)")
        assert schedule["next"].endswith("Z")
        assert (await here.post("/schedules/work/pause"))["paused"] == "admin"
        assert (await here.get("/schedules"))["schedules"][0]["next"] is None
        assert (await here.post("/schedules/work/resume"))["paused"] is None
        (tmp_path / "broken.yaml").write_text("name: broken\ntasks: {a: {run: x, needz: [b]}}\n")
        here.daemon.reload()
        with anyio.fail_after(5):
            while len(found := (await here.get("/pipelines"))["pipelines"]) < 4:
                await anyio.sleep(0.02)
        [broken] = [one for one in found if one["problems"]]
        assert broken["name"] is None
        assert "did you mean `needs`?" in broken["problems"][0]["hint"]
        assert await here.get("/limits") == {"limits": {}, "waiting": []}
        assert await here.get("/services") == {"services": []}
        status = await here.get("/status")
        assert {part["name"] for part in status["parts"]} >= {"pipelines", "schedules", "feed"}
        assert all(part["error"] is None for part in status["parts"])
        root = here.client.base_url.join("/")
        assert (await here.client.get(root.join("/readyz"))).json() == {"ok": True}
        assert "flowd_runs_total" in (await here.client.get(root.join("/metrics"))).text
        page = await here.client.get(root.join("/"))
        assert "At 06:00 on Monday" in page.text


async def test_what_others_wrote_is_text_on_the_page(tmp_path: Path) -> None:
    """Names and problems cannot become markup."""
    async with daemon(tmp_path, evil="name: '<script>alert(1)</script>'\ntasks: {}\n") as here:
        page = (await here.client.get(here.client.base_url.join("/"))).text
        assert "<script" not in page
        assert "&lt;script&gt;" in page


async def test_every_route_is_in_the_table_of_who_may(tmp_path: Path) -> None:
    """And nothing is in the table that there is not."""
    async with daemon(tmp_path, **FILES) as here:
        schema = (await here.client.get(here.client.base_url.join("/openapi.json"))).json()
    routes = {(method.upper(), path) for path, methods in schema["paths"].items() for method in methods}
    public = {("GET", "/healthz")}
    assert routes - public == set(ROUTES) - {("GET", "/openapi.json"), ("GET", "/"), ("GET", "/runs/{run}")}


async def test_a_host_application_can_have_the_routes(tmp_path: Path) -> None:
    """As a router of its own, with flowd's errors."""
    from flowd.daemon.http.app import router

    class Nothing:
        def limits(self) -> dict[str, Any]:
            return {"limits": {}, "waiting": []}

    app = FastAPI()
    app.include_router(router(Nothing(), Nothing(), dict, dict), prefix="/flowd")  # type: ignore[arg-type]
    install(app)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://host") as client:
        assert (await client.get("/flowd/api/v1/limits")).json() == {"limits": {}, "waiting": []}
        assert (await client.get("/flowd/api/v1/nope")).json()["error"]["code"] == "not_found"


@pytest.mark.timeout(180)
async def test_no_request_that_the_document_allows_or_forbids_breaks_it(tmp_path: Path) -> None:
    """Schemathesis makes requests of the API's own document, good and bad, and looks at every answer."""
    async with daemon(tmp_path, **FILES) as here:
        run = await here.start("failing", run_id="known")
        await here.until(run, "failed")
        url = str(here.client.base_url.join("/openapi.json"))
        token = here.client.headers["authorization"]
        await anyio.to_thread.run_sync(_fuzz, url, token)
        log = (tmp_path / "daemon.log").read_text()
    assert "request_failed" not in log


def _fuzz(url: str, token: str) -> None:
    schema = schemathesis.openapi.from_url(url, headers={"Authorization": token})
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path not in STREAMS:
            _attack(operation, token)


def _attack(operation: Any, token: str) -> None:
    @hypothesis_settings(max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=ALL)
    @given(case=operation.as_strategy())
    def attempt(case: Any) -> None:
        case.call_and_validate(headers={"Authorization": token}, excluded_checks=NOT_OURS, timeout=20)

    attempt()
