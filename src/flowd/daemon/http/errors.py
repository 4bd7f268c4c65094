"""Every error as `{"error": {"code", "message", "hint"}}`, the framework's own included."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from flowd.core.access import without_tokens
from flowd.core.errors import (
    BadParameters,
    BadPipeline,
    BadRequest,
    FlowdError,
    NoSuchRun,
    StateDamaged,
    StateLocked,
    StorageFailing,
)

_STATUS: Final[Mapping[type[FlowdError], tuple[int, str]]] = {
    BadPipeline: (422, "bad_pipeline"),
    BadParameters: (422, "bad_parameters"),
    NoSuchRun: (404, "no_such_run"),
    StateLocked: (409, "held_elsewhere"),
    StorageFailing: (503, "storage_failing"),
    StateDamaged: (500, "state_damaged"),
    BadRequest: (422, "bad_request"),
}
_OF_FRAMEWORK: Final = {404: "not_found", 405: "wrong_method", 400: "bad_request"}

_FAILURE: Final = {"$ref": "#/components/schemas/Failure"}
"""By name: a model of its own for each status of each route would take megabytes. One route declares it."""

RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    status: {"description": text, "content": {"application/json": {"schema": _FAILURE}}}
    for status, text in {
        400: "It is not JSON.",
        401: "The caller is not known.",
        403: "The caller may not do this.",
        404: "There is no such run, task or page.",
        409: "Another process holds the run, and did not answer.",
        413: "The body is too large.",
        415: "The body is not JSON.",
        421: "The daemon does not go by this name.",
        422: "It cannot be done as it was asked for.",
        500: "The run's record is damaged, or flowd has a defect.",
        503: "The disk is failing.",
    }.items()
}
"""What every route may answer besides its own."""


def document(status: int, content: Any) -> Response:
    """JSON."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def failure(status: int, code: str, message: str, hint: str = "", problems: Any = ()) -> Response:
    """What is given in place of what was asked for."""
    error = {"code": code, "message": message, "hint": hint}
    return document(status, {"error": error, **({"problems": problems} if problems else {})})


def install(app: FastAPI) -> None:
    """Have an application answer so."""
    app.add_exception_handler(FlowdError, _of_flowd)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_framework)
    app.add_exception_handler(Exception, _of_defect)


async def _of_flowd(_request: Request, error: Exception) -> Response:
    assert isinstance(error, FlowdError)
    status, code = next((known for kind, known in _STATUS.items() if isinstance(error, kind)), (422, "cannot_be_done"))
    problems = getattr(error, "problems", ())
    message, _, hint = (problems[0].message, "", problems[0].hint) if problems else str(error).partition("; ")
    return failure(status, code, message, hint, msgspec.to_builtins(problems))


async def _of_validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    if any(one["type"] == "json_invalid" for one in error.errors()):
        return failure(400, "bad_json", "the body is not JSON", "send one JSON object")
    problems = [{"key": ".".join(map(str, one["loc"])), "message": one["msg"]} for one in error.errors()]
    first = problems[0]
    return failure(422, "bad_request", f"{first['key']}: {first['message']}", "see /openapi.json", problems)


async def _of_framework(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _OF_FRAMEWORK.get(error.status_code, "refused")
    found = failure(error.status_code, code, str(error.detail), "see /openapi.json for what there is")
    found.headers.update(error.headers or {})
    return found


async def _of_defect(request: Request, error: Exception) -> Response:
    path = without_tokens(request.url.path)
    logging.getLogger("flowd.daemon").error(
        "request_failed", exc_info=error, extra={"fields": {"method": request.method, "path": path}}
    )
    return failure(500, "defect", "flowd has failed over this request; the daemon's log says how")
