"""What the API takes and gives, as its OpenAPI document says it.

What is given is made by `core.views` and sent as it is: the models describe it, and are open to more fields.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

RUN_ID = r"^[A-Za-z0-9._-]{1,128}$"
NAME = r"^[A-Za-z_][A-Za-z0-9_.-]{0,99}$"
TASK = r"^[^/\x00-\x1f\x7f]{1,300}$"

RunId = Annotated[str, Field(pattern=RUN_ID)]
TaskName = Annotated[str, Field(pattern=TASK)]


class Given(BaseModel):
    """What comes in: nothing that is not known is passed over."""

    model_config = ConfigDict(extra="forbid", strict=True)


class StartRun(Given):
    """A run to begin."""

    pipeline: Annotated[str, Field(pattern=NAME, description="The name of a pipeline.")]
    params: Annotated[dict[str, Any], Field(description="Its parameters; what is left out has its default.")] = {}
    run_id: Annotated[RunId | None, Field(description="An idempotency key: given again, it names the same run.")] = None
    tasks: Annotated[list[TaskName], Field(description="These and what they need; all where there are none.")] = []
    force: Annotated[bool, Field(description="Run tasks that are fresh, too.")] = False


class Cancel(Given):
    """Why a run is cancelled."""

    reason: Annotated[str, Field(max_length=2000)] = ""


class Retry(Given):
    """What of a run is run again; all that did not end well where nothing is named."""

    tasks: list[TaskName] = []
    downstream: Annotated[bool, Field(description="What depends on them, too.")] = False
    failed_items: Annotated[bool, Field(description="Of tasks with items only those that did not end well.")] = False


class Approve(Given):
    """A yes, with the fields of the question's form."""

    comment: Annotated[str, Field(max_length=10_000)] = ""
    values: dict[str, Any] = {}


class Reject(Given):
    """A no, which may send the run back to a task."""

    comment: Annotated[str, Field(max_length=10_000)] = ""
    back_to: Annotated[str, Field(max_length=300)] = ""


class Resolve(Given):
    """What became of a task whose end is unknown."""

    verdict: Literal["succeeded", "failed", "rerun"]
    result: Annotated[Any, Field(description="The result of one that succeeded.")] = None


class Told(BaseModel):
    """What goes out."""

    model_config = ConfigDict(extra="allow")


class Summary(Told):
    """A run in a list."""

    run: str
    state: str
    pipeline: str | None = None
    exit_code: int | None = None
    started: str | None = None
    ended: str | None = None
    duration_s: float | None = None
    counts: dict[str, int] = {}
    trigger: dict[str, Any] = {}


class Page(Told):
    """Runs, newest first; `next` is the cursor of those after them."""

    runs: list[Summary]
    next: str | None


class RunDocument(Summary):
    """A run: what `flowd show --json` prints."""

    reason: dict[str, Any] | None = None
    params: dict[str, Any] = {}
    warnings: list[Any] = []
    tasks: dict[str, dict[str, Any]] = {}


class Pipelines(Told):
    """The files of pipelines."""

    pipelines: list[dict[str, Any]]


class ScheduleDocument(Told):
    """A schedule, and when it is due next."""

    name: str
    pipeline: str
    when: str
    paused: str | None
    next: str | None


class Schedules(Told):
    """All schedules."""

    schedules: list[ScheduleDocument]


class Limits(Told):
    """Limits by name, and who waits for what."""

    limits: dict[str, Any]
    waiting: list[dict[str, Any]]


class Services(Told):
    """The services that run."""

    services: list[dict[str, Any]]


class Artifacts(Told):
    """The outputs of a run."""

    artifacts: list[dict[str, Any]]


class Delivered(Told):
    """The runs that a delivery has begun."""

    runs: list[str]


class Notices(Told):
    """What is told to people: how many were since the start, who waits for what, and what was given up."""

    since: str
    delivered: int
    waiting: list[dict[str, Any]]
    given_up: list[dict[str, Any]]


class Status(Told):
    """The daemon itself: its parts, and what ended them last."""

    state_dir: str
    started: str | None
    parts: list[dict[str, Any]]


class Health(Told):
    """That it lives."""

    ok: bool


class Error(BaseModel):
    """What was wrong, under a stable code, and what to do."""

    code: str
    message: str
    hint: str = ""


class Failure(BaseModel):
    """What is given in place of what was asked for."""

    error: Error
    problems: list[dict[str, Any]] = []
