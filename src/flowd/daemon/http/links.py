"""`/links/TOKEN`: answer a question from a message. A look changes nothing: what fetches pages ahead answers nobody."""

from __future__ import annotations

from shlex import quote
from typing import Final

import anyio
from fastapi import APIRouter
from starlette.responses import HTMLResponse, Response

from flowd.core.errors import FlowdError
from flowd.core.links import Link, LinkRefused
from flowd.daemon.answer_links import AnswerLinks
from flowd.daemon.control import Control
from flowd.daemon.http.page import FORM_POLICY, POLICY, answered, question, refused
from flowd.ports.clock import Clock

_FORM: Final = {
    "content-security-policy": FORM_POLICY,
    "referrer-policy": "same-origin",  # with none at all, a browser hides from where its form comes
}


def links_router(links: AnswerLinks, control: Control, clock: Clock) -> APIRouter:
    """The page that asks whether to answer, and the answer; whoever holds the link may, and needs no token."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/links/{token}")
    async def show(token: str) -> Response:
        try:
            found = await links.describe(token, clock.now())
        except LinkRefused as error:
            return _page(410, refused(str(error)))
        return HTMLResponse(question(found), headers=_FORM)

    @routes.post("/links/{token}")
    async def answer(token: str) -> Response:
        try:
            link = await links.use(token, clock.now())
        except LinkRefused as error:
            return _page(410, refused(str(error)))
        try:
            await _answer(control, link)
        except BaseException as error:
            # where it was answered after all, the link is good for nothing: the question is not asked any more
            with anyio.CancelScope(shield=True):
                await links.release(link, clock.now())
            if not isinstance(error, FlowdError):
                raise
            return _page(422, refused(f"{error}; in a terminal: flowd {link.answer} {link.run} {quote(link.task)}"))
        return _page(200, answered(link.run, link.task, link.answer))

    return routes


async def _answer(control: Control, link: Link) -> None:
    if link.answer == "approve":
        await control.approve(link.run, link.task, "", {}, link.by)
    else:
        await control.reject(link.run, link.task, "", "", link.by)


def _page(status: int, text: str) -> Response:
    return HTMLResponse(text, status, headers={"content-security-policy": POLICY})
