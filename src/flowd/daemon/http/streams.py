"""Streams: server-sent events, and what attempts write."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import Request
from starlette.responses import Response, StreamingResponse

from flowd.daemon.feed import Feed, Line
from flowd.daemon.http.errors import failure

_EVENTS = "text/event-stream"
_AS_IT_COMES = {"x-accel-buffering": "no"}


def of_run(feed: Feed, run: str, request: Request) -> Response:
    """The events of a run, from behind the one that the reader had last."""
    last = request.headers.get("last-event-id", "")
    if last and not (last.isascii() and last.isdecimal() and len(last) < 16):
        return failure(422, "bad_request", "Last-Event-ID is no number of an event", "send the `id` that came last")
    return _stream(feed.of_run(run, int(last or 0)))


def of_all(feed: Feed, request: Request) -> Response:
    """The events of all runs."""
    return _stream(feed.all(request.headers.get("last-event-id", "")))


def log_stream(pieces: AsyncIterator[bytes]) -> Response:
    """What an attempt wrote, byte by byte: whoever shows it takes care of what it holds."""
    return StreamingResponse(pieces, media_type="text/plain; charset=utf-8", headers=_AS_IT_COMES)


def _stream(lines: AsyncIterator[Line]) -> Response:
    return StreamingResponse(_sent(lines), media_type=_EVENTS, headers=_AS_IT_COMES)


async def _sent(lines: AsyncIterator[Line]) -> AsyncIterator[bytes]:
    yield b": here\n\n"
    async for line in lines:
        if line.kind == "ping":
            yield b": ping\n\n"
        elif line.kind == "reset":
            yield b"event: reset\nid: %b\ndata: {}\n\n" % line.id.encode()
        else:
            yield b"id: %b\ndata: %b\n\n" % (line.id.encode(), line.data)  # JSON has no line ends of its own
