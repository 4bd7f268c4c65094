"""`POST /hooks/NAME`: where webhooks come in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from flowd.daemon.http import models
from flowd.daemon.http.errors import RESPONSES, document, failure
from flowd.daemon.webhooks import NoSuchHook, Webhooks, WrongSignature

Name = Annotated[str, Path(pattern=models.NAME, description="What the trigger calls the webhook.")]


def hooks_router(webhooks: Webhooks) -> APIRouter:
    """The route of all webhooks."""
    routes = APIRouter(responses=RESPONSES)

    @routes.post("/hooks/{name}", status_code=202, response_model=models.Delivered)
    async def deliver(name: Name, request: Request) -> Response:
        """Begin the runs that the webhook NAME triggers; a delivery that came before begins none."""
        headers = {key.lower(): value for key, value in request.headers.items()}
        try:
            return document(202, {"runs": await webhooks.deliver(name, headers, await request.body())})
        except NoSuchHook as error:
            return failure(404, "no_such_hook", str(error))
        except WrongSignature as error:
            hint = "send X-Hub-Signature-256: sha256=HMAC, in hex, of the body with the trigger's secret"
            return failure(401, "wrong_signature", str(error), hint)

    return routes
