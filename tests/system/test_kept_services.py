"""`keep: always`: services that a daemon keeps, over its own ends and over later runs of their pipeline."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from typing import Any

import pytest
from faulting.living import within

from daemon_process import facts, serve, stop
from flowd_process import Place, end_of, until
from web_server import SERVER

READY = {"http": "/", "every": "50ms", "marker": "up.json"}


@pytest.fixture
def kept(here: Place) -> Place:
    """A pipeline whose service is always kept, and asked once by a task; a schedule begins it."""
    here.write("kept_server.py", SERVER)
    here.pipeline(
        {
            "api": {
                "service": ["python", "kept_server.py", "{{ port }}"],
                "port": "auto",
                "ready": READY,
                "keep": "always",
            },
            "ask": {"needs": "api", "run": "echo asked >> asked"},
        },
        schedule={"every": "2s"},
    )
    return here


def answers(here: Place) -> bool:
    """Whether the newest instance answers at the URL of its marker."""
    try:
        url = json.loads((here.folder / "up.json").read_text())["url"]
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def processes() -> list[str]:
    """The servers that run."""
    return subprocess.run(["pgrep", "-f", "kept_server.py"], capture_output=True, text=True, check=False).stdout.split()


def states(here: Place) -> list[str]:
    """How the runs stand, the newest first."""
    return [run["state"] for run in here.json("runs")["runs"]]


def begun(here: Place) -> int:
    """How many runs the schedule has begun."""
    path = here.state / "daemon" / "agenda.jsonl"
    return len(facts(here, "fired")) if path.exists() else 0


def test_it_holds_up_no_schedule_and_each_run_takes_it_over(kept: Place) -> None:
    """No time is skipped; the older run has succeeded, and one server is left."""
    process = serve(kept)
    until(lambda: begun(kept) >= 3 and len(kept.lines("asked")) >= 3)
    kept.ok("schedule", "pause", "p")
    until(lambda: states(kept).count("running") == 1)
    assert answers(kept)
    assert facts(kept, "skipped") == []
    found = states(kept)
    assert found[0] == "running"
    assert set(found[1:]) == {"succeeded"}
    assert within(5.0, lambda: len(processes()) == 1)
    assert stop(process).code == 0
    assert within(5.0, lambda: not processes())


@pytest.mark.parametrize("ended", ["killed", "stopped"])
def test_it_comes_back_with_the_next_daemon(kept: Place, ended: str) -> None:
    """In the same run, what was done is not done again; nothing is left running in between."""
    process = serve(kept)
    until(lambda: begun(kept) >= 1 and answers(kept) and bool(kept.lines("asked")))
    kept.ok("schedule", "pause", "p")
    until(lambda: states(kept).count("running") == 1 and len(kept.lines("asked")) == begun(kept))
    runs, asked = kept.json("runs")["runs"], len(kept.lines("asked"))
    if ended == "killed":
        process.kill()
        end_of(process)
    else:
        assert stop(process).code == 0
    assert within(5.0, lambda: not processes())
    again = serve(kept)
    until(lambda: answers(kept))
    found: list[dict[str, Any]] = kept.json("runs")["runs"]
    assert [(run["run"], run["state"]) for run in found] == [(run["run"], run["state"]) for run in runs]
    assert len(kept.lines("asked")) == asked
    assert stop(again).code == 0
    assert within(5.0, lambda: not processes())


def test_without_a_daemon_it_is_refused_before_anything_begins(kept: Place) -> None:
    """With what to do instead; a part of the pipeline without it runs."""
    ended = kept.run("run")
    assert ended.code == 2, ended.said
    assert "service api is kept always, which the daemon does; begin it by a schedule" in ended.err
    assert not kept.has("asked")()
    assert kept.json("runs")["runs"] == []
    assert kept.ok("plan").code == 0
