"""A service in a host program: begun, waited for, stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowd import BadRequest, Engine, Pipeline
from web_server import SERVER


async def test_a_host_stops_a_service_and_knows_that_it_is_stopped(tmp_path: Path) -> None:
    """The run has then succeeded; what does not serve cannot be stopped."""
    (tmp_path / "server.py").write_text(SERVER)
    made = Pipeline("p", folder=tmp_path)
    ready = {"http": "/", "every": "50ms"}
    made.service("api", ["python", "server.py", "{{ port }}"], port="auto", ready=ready, keep="run")
    async with Engine(tmp_path / ".flowd") as engine:
        run = await engine.start(made)
        async for event in run.events():
            if event["event"] == "task_serving":
                break
        with pytest.raises(BadRequest):
            await run.stop("nothing")
        await run.stop("api")
        result = await run.wait()
    assert result.ok
    assert result.tasks["api"].metrics == {"requests": 1}  # its probe
