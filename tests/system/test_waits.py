"""`wait` over a SIGKILL: the moment is on disk, and the next owner waits for that one."""

from __future__ import annotations

from datetime import datetime

from flowd_process import Place, until


def test_a_killed_engine_leaves_the_moment(here: Place) -> None:
    """Killed while nothing but the wait goes on; resumed, it ends at the moment that was written down."""
    here.write("pipeline.yaml", "name: w\ntasks: {pause: {wait: 3s}, after: {needs: pause, run: echo after >> did}}\n")
    process = here.begin("run")
    until(lambda: here.recorded("task_timer_started"))
    process.kill()
    process.wait()
    assert here.json("show")["tasks"]["pause"]["state"] == "waiting"
    here.ok("resume")
    [begun] = [event for event in here.run("events", "--json").events if event["event"] == "task_timer_started"]
    ended = here.json("show")["tasks"]["pause"]["ended"]
    assert datetime.fromisoformat(ended) >= datetime.fromisoformat(begun["until"])
    assert here.lines("did") == ["after"]
