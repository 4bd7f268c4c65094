"""Runs begun through the API at a rate, readers beside them, and, on demand, those who only hold lines open."""

from __future__ import annotations

import argparse
import re
import socket
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

import anyio
import httpx2

from weighing.serving import Served, served

GOAL_S = 0.05
LISTS_S = 0.05
LAG_S = 1.0
HALF_OPEN = 1000
DEAF = 100
PIPELINE = "name: load\ntasks:\n  work: {call: 'steps:work', cache: false}\n"
STEPS = "async def work():\n    return 1\n"


class Figures:
    """What has been measured, in seconds."""

    def __init__(self) -> None:
        self.starts: list[float] = []
        self.lists: list[float] = []
        self.lags: list[float] = []
        self.events = 0
        self.refused = 0


def percentile(values: Sequence[float], part: float) -> float:
    """The value that this part of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * part), len(ordered) - 1)] if ordered else float("nan")


async def start_runs(client: httpx2.AsyncClient, figures: Figures, rate: int, until: float) -> None:
    """Begin runs when they are due, whether or not those before have been answered."""

    async def begin(due: float) -> None:
        answer = await client.post("/runs", json={"pipeline": "load"})
        figures.starts.append(time.monotonic() - due)
        figures.refused += answer.status_code != 201

    due = time.monotonic()
    async with anyio.create_task_group() as group:
        while due < until:
            await anyio.sleep(max(due - time.monotonic(), 0))
            group.start_soon(begin, due)
            due += 60 / rate


async def list_runs(client: httpx2.AsyncClient, figures: Figures, until: float) -> None:
    """Ask for the newest runs, again and again."""
    while (began := time.monotonic()) < until:
        answer = await client.get("/runs")
        figures.lists.append(time.monotonic() - began)
        figures.refused += answer.status_code != 200
        await anyio.sleep(LISTS_S)


async def read_events(client: httpx2.AsyncClient, figures: Figures) -> None:
    """Follow what happens in all runs."""
    async with client.stream("GET", "/events") as answer:
        async for line in answer.aiter_lines():
            figures.events += line.startswith("data:")


async def watch_lag(client: httpx2.AsyncClient, url: str, figures: Figures) -> None:
    """Ask for the loop's lag as often as the daemon measures it."""
    while True:
        text = (await client.get(f"{url}/metrics")).text
        found = re.search(r"^flowd_loop_lag_seconds (\S+)$", text, re.MULTILINE)
        if found is not None:
            figures.lags.append(float(found[1]))
        await anyio.sleep(LAG_S)


@contextmanager
def held(here: Served) -> Iterator[list[socket.socket]]:
    """Lines that ask for nothing, and some that ask for all events and read none."""
    place = urlsplit(here.url)
    assert place.hostname is not None
    assert place.port is not None
    head = f"GET /api/v1/events HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {here.token}\r\n\r\n"
    lines: list[socket.socket] = []
    try:
        for number in range(DEAF + HALF_OPEN):
            line = socket.socket()
            lines.append(line)
            if number < DEAF:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.settimeout(5)
            line.connect((place.hostname, place.port))
            line.sendall(head.encode() if number < DEAF else b"GET /api/v1/runs HTTP/1.1\r\nX: ")
        yield lines
    finally:
        for line in lines:
            line.close()


async def measure(here: Served, rate: int, seconds: int) -> Figures:
    """All of it, side by side, for so long."""
    figures = Figures()
    headers = {"Authorization": f"Bearer {here.token}"}
    async with httpx2.AsyncClient(base_url=f"{here.url}/api/v1", headers=headers, timeout=30) as client:
        until = time.monotonic() + seconds
        async with anyio.create_task_group() as readers:
            readers.start_soon(read_events, client, figures)
            readers.start_soon(watch_lag, client, here.url, figures)
            async with anyio.create_task_group() as group:
                group.start_soon(start_runs, client, figures, rate, until)
                group.start_soon(list_runs, client, figures, until)
            readers.cancel_scope.cancel()
    return figures


def told(name: str, values: Sequence[float]) -> str:
    """A line about how long something took."""
    if not values:
        return f"{name}: nothing was measured"
    parts = {
        "p50": statistics.median(values),
        "p99": percentile(values, 0.99),
        "max": max(values),
    }
    return f"{name}: {len(values)}, " + ", ".join(f"{part} {value * 1e3:.1f} ms" for part, value in parts.items())


def report(figures: Figures) -> bool:
    """Print the figures; whether the goal is met."""
    print(told("POST /api/v1/runs", figures.starts))
    print(told("GET /api/v1/runs", figures.lists))
    print(told("loop lag", figures.lags))
    print(f"events read: {figures.events}; answers other than asked for: {figures.refused}")
    met = percentile(figures.lists, 0.99) <= GOAL_S and not figures.refused
    print(f"goal: a reader waits {GOAL_S * 1e3:.0f} ms at most, 99 times of 100: {'met' if met else 'MISSED'}")
    return met


def main() -> int:
    """0 where the goal is met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, required=True)
    parser.add_argument("--seconds", type=int, required=True)
    parser.add_argument("--attack", action="store_true")
    options = parser.parse_args()
    with served({"load.yaml": PIPELINE, "steps.py": STEPS}) as here:
        if not options.attack:
            return 0 if report(anyio.run(measure, here, options.rate, options.seconds)) else 1
        with held(here):
            return 0 if report(anyio.run(measure, here, options.rate, options.seconds)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
