"""The API as an application: routes over `Control` and `Feed`. Who may use which is the gate's to say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Query, Request
from starlette.responses import HTMLResponse, Response

from flowd.core.access import Caller
from flowd.daemon.control import MOST_LISTED, Control
from flowd.daemon.feed import Feed
from flowd.daemon.http import models
from flowd.daemon.http.errors import RESPONSES, document, failure, install
from flowd.daemon.http.page import POLICY, page, run_page
from flowd.daemon.http.streams import log_stream, of_all, of_run

Run = Annotated[str, Path(pattern=models.RUN_ID, description="A run's id.")]
Task = Annotated[str, Path(pattern=models.TASK, description="A task's name.")]
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,201}$", description="A schedule's name.")]
Attempt = Annotated[int | None, Query(ge=1, le=1_000_000)]


Document = Callable[[], dict[str, Any]]


def router(control: Control, feed: Feed, status: Document, notices: Document) -> APIRouter:
    """The routes below `/api/v1`, for any application; errors are its own to show (`errors.install`)."""
    routes = APIRouter(prefix="/api/v1", responses=RESPONSES)
    _add_runs(routes, control, feed)
    _add_tasks(routes, control)
    _add_rest(routes, control, status, notices)
    return routes


def create_app(
    control: Control,
    feed: Feed,
    status: Document,
    notices: Document,
    *,
    ready: Callable[[], bool],
    metrics: Callable[[], bytes],
    version: str,
    more: Sequence[APIRouter] = (),
) -> FastAPI:
    """The whole application: the API, the page, and what is asked by those who watch the daemon."""
    app = FastAPI(title="flowd", version=version, docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    install(app)
    app.include_router(router(control, feed, status, notices))
    for routes in more:
        app.include_router(routes)

    @app.get("/healthz", response_model=models.Health)
    async def healthz() -> Response:
        """Whether it lives: as long as this is answered, it does."""
        return document(200, {"ok": True})

    @app.get("/readyz", response_model=models.Health, responses=RESPONSES | {503: {"model": models.Failure}})
    async def readyz() -> Response:
        """Whether it takes part in everything: unfinished runs are recovered, and it is not ending."""
        if not ready():
            return failure(503, "not_ready", "the daemon is starting or ending")
        return document(200, {"ok": True})

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics_() -> Response:
        """Counters and gauges, in Prometheus' text format."""
        return Response(metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> Response:
        runs = await control.runs(limit=20)
        text = page(control.pipelines(), control.schedules(), runs["runs"])
        return HTMLResponse(text, headers={"content-security-policy": POLICY})

    @app.get("/runs/{run}", response_class=HTMLResponse, include_in_schema=False)
    async def run_(run: Run) -> Response:
        return HTMLResponse(run_page(await control.run(run)), headers={"content-security-policy": POLICY})

    return app


def _by(request: Request) -> str:
    """Who asks, by name; in an application without a gate it is the API itself."""
    caller: Caller | None = getattr(request.state, "caller", None)
    return caller.name if caller is not None else "api"


def _add_runs(routes: APIRouter, control: Control, feed: Feed) -> None:
    @routes.get("/runs", response_model=models.Page)
    async def runs(
        cursor: Annotated[str | None, Query(pattern=models.RUN_ID)] = None,
        limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 50,
        pipeline: Annotated[str | None, Query(pattern=models.NAME)] = None,
        state: Annotated[str | None, Query(pattern="^[a-z_]{1,30}$")] = None,
    ) -> Response:
        """Runs, newest first, a page at a time."""
        return document(200, await control.runs(cursor, limit, pipeline, state))

    @routes.post(
        "/runs", status_code=201, response_model=models.RunDocument, responses={200: {"model": models.RunDocument}}
    )
    async def start(given: models.StartRun, request: Request) -> Response:
        """Begin a run of a pipeline; a known `run_id` gives the run that has it, with 200."""
        found, new = await control.start(
            given.pipeline, given.tasks, params=given.params, run_id=given.run_id, force=given.force, by=_by(request)
        )
        return document(201 if new else 200, found)

    @routes.get("/runs/{run}", response_model=models.RunDocument)
    async def show(run: Run) -> Response:
        """A run, as `flowd show --json` prints it."""
        return document(200, await control.run(run))

    @routes.get("/runs/{run}/events", response_class=Response, responses={200: {"content": {"text/event-stream": {}}}})
    async def events(run: Run, request: Request) -> Response:
        """Its events as they become durable, until it goes on no more; from behind `Last-Event-ID`, its `seq`."""
        await control.run(run)
        return of_run(feed, run, request)

    @routes.get("/events", response_class=Response, responses={200: {"content": {"text/event-stream": {}}}})
    async def all_events(request: Request) -> Response:
        """The events of all runs; an event `reset` says that some were missed, and that the rest has to be loaded."""
        return of_all(feed, request)

    @routes.post("/runs/{run}/cancel", response_model=models.RunDocument)
    async def cancel(run: Run, request: Request, given: models.Cancel | None = None) -> Response:
        """Stop a run for good."""
        return document(200, await control.cancel(run, given.reason if given else "", _by(request)))

    @routes.post("/runs/{run}/pause", response_model=models.RunDocument)
    async def pause(run: Run, request: Request) -> Response:
        """Start nothing new in a run until it is resumed."""
        return document(200, await control.pause(run, _by(request)))

    @routes.post("/runs/{run}/resume", response_model=models.RunDocument)
    async def resume(run: Run, request: Request) -> Response:
        """Go on with a run."""
        return document(200, await control.resume(run, _by(request)))

    @routes.post("/runs/{run}/retry", response_model=models.RunDocument)
    async def retry(run: Run, request: Request, given: models.Retry | None = None) -> Response:
        """Run tasks again, or all that did not end well."""
        asked = given or models.Retry()
        found = await control.retry(
            run, asked.tasks, downstream=asked.downstream, failed_items=asked.failed_items, by=_by(request)
        )
        return document(200, found)


def _add_tasks(routes: APIRouter, control: Control) -> None:
    place = "/runs/{run}/tasks/{task}"

    @routes.get(f"{place}/log", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def log(run: Run, task: Task, follow: bool = False, attempt: Attempt = None) -> Response:
        """What an attempt (the newest) wrote; with `follow` as it is written, until the attempt ends."""
        return log_stream(await control.log(run, task, attempt, follow=follow))

    @routes.post(f"{place}/approve", response_model=models.RunDocument)
    async def approve(run: Run, task: Task, request: Request, given: models.Approve | None = None) -> Response:
        """Say yes to a task that waits for an answer."""
        asked = given or models.Approve()
        return document(200, await control.approve(run, task, asked.comment, asked.values, _by(request)))

    @routes.post(f"{place}/reject", response_model=models.RunDocument)
    async def reject(run: Run, task: Task, request: Request, given: models.Reject | None = None) -> Response:
        """Say no to a task that waits for an answer."""
        asked = given or models.Reject()
        return document(200, await control.reject(run, task, asked.comment, asked.back_to, _by(request)))

    @routes.post(f"{place}/resolve", response_model=models.RunDocument)
    async def resolve(run: Run, task: Task, request: Request, given: models.Resolve) -> Response:
        """Say what became of a task whose end is unknown."""
        return document(200, await control.resolve(run, task, given.verdict, given.result, _by(request)))

    @routes.post(f"{place}/stop", response_model=models.RunDocument)
    async def stop(run: Run, task: Task, request: Request) -> Response:
        """Stop a service."""
        return document(200, await control.stop(run, task, _by(request)))


def _add_rest(routes: APIRouter, control: Control, status: Document, notices: Document) -> None:
    @routes.get("/pipelines", response_model=models.Pipelines)
    async def pipelines() -> Response:
        """The pipelines' files, and what is wrong with them."""
        return document(200, {"pipelines": control.pipelines()})

    @routes.get("/schedules", response_model=models.Schedules)
    async def schedules() -> Response:
        """The schedules, and when each is due next."""
        return document(200, {"schedules": control.schedules()})

    @routes.post("/schedules/{name}/pause", response_model=models.ScheduleDocument)
    async def pause(name: Name, request: Request) -> Response:
        """Have a schedule begin nothing until it is resumed."""
        return document(200, await control.pause_schedule(name, _by(request)))

    @routes.post("/schedules/{name}/resume", response_model=models.ScheduleDocument)
    async def resume(name: Name, request: Request) -> Response:
        """Have a schedule begin runs again, from now on."""
        return document(200, await control.resume_schedule(name, _by(request)))

    @routes.get("/limits", response_model=models.Limits)
    async def limits() -> Response:
        """Each limit: its use, its holders and who waits."""
        return document(200, control.limits())

    @routes.get("/services", response_model=models.Services)
    async def services() -> Response:
        """The services of the runs that go on."""
        return document(200, {"services": await control.services()})

    @routes.get("/artifacts", response_model=models.Artifacts)
    async def artifacts(run: Annotated[str, Query(pattern=models.RUN_ID)]) -> Response:
        """The outputs of a run."""
        return document(200, {"artifacts": await control.artifacts(run)})

    @routes.get("/notices", response_model=models.Notices)
    async def notices_() -> Response:
        """Who is still to be told of what, what is wrong there, and what could not be delivered."""
        return document(200, notices())

    @routes.get("/status", response_model=models.Status)
    async def status_() -> Response:
        """The daemon itself."""
        return document(200, status())
