"""`logs` and `log`: whether what was to be logged has come, and the same lines on the console and in files."""

from __future__ import annotations

import json
import re
import textwrap

import pytest

from flowd_process import Place

STEPS = textwrap.dedent(
    """
    def tell(ctx):
        ctx.log.info("an_event", a_field=1)
        ctx.metric("a_metric", 2)
        print("read a_pair=3, b_pair=")
        print('{"a_key": 1, "event": "json_event"}')
        print("almost_a_pair=3 not=a_name half_a=")
        return {"a_result": 3}

    async def tell_async(ctx):
        return tell(ctx)
    """
)
SHELL = """\
echo "a_metric=2" > "$FLOWD_METRICS"
echo '{"a_result": 3}' > "$FLOWD_RESULT"
echo 'read a_pair=3'
echo '{"a_key": 1, "event": "json_event", "msg": "an_event"}' >&2
echo '{"a_field": 1}'
echo '{ no json, "lost": 1'
echo 'lost a_name almost_a_name=1 lost= x.lost=1'
"""
COME = ["an_event", "a_field", "a_metric", "a_pair", "a_key", "json_event", "a_result"]


def test_names_come_in_many_ways_from_every_executor(here: Place) -> None:
    """What has not come is a warning that names the task and the names, and no failure."""
    here.write("steps.py", STEPS)
    plan = [*COME, "lost", "a_name"]
    here.pipeline(
        {
            "async": {"call": "steps:tell_async", "logs": plan},
            "thread": {"call": "steps:tell", "logs": plan},
            "process": {"call": "steps:tell", "executor": "process", "logs": plan},
            "shell": {"run": SHELL, "logs": plan},
            "argv": {"run": ["echo", "lost=1"], "logs": ["lost"]},
            "silent": {"run": "true", "logs": ["lost"]},
            "without": {"run": "true"},
        }
    )
    document = here.json("run")
    says = "neither logged, nor a metric, nor in the result"
    four = [f"{name}: log_plan_missing: lost, a_name {says}" for name in ("async", "thread", "process", "shell")]
    assert document["warnings"] == [*four, f"silent: log_plan_missing: lost {says}"]
    assert document["state"] == "succeeded"
    assert f"! silent    warning: log_plan_missing: lost {says}" in here.ok("run", "--force").out


def test_a_task_that_fails_says_why_and_nothing_of_its_plan(here: Place) -> None:
    """It has not come to its end."""
    here.pipeline({"t": {"run": "exit 3", "logs": ["lost"]}})
    assert here.json("run", code=1)["warnings"] == []


def logged(here: Place, form: str, level: str, **keys: str) -> tuple[str, str]:
    """What a run of two tasks that log at two levels prints to stderr, and its id."""
    here.write("steps.py", "def f(ctx):\n    ctx.log.debug('fine')\n    ctx.log.warning('odd', rows=3)\n")
    tasks = {"a": {"call": "steps:f"}, "b": {"call": "steps:f", "executor": "process", "needs": ["a"]}}
    here.pipeline(tasks, log={"format": form, "level": level, **keys})
    ended = here.ok("run", "--run-id", "r-1")
    return ended.err, "r-1"


@pytest.mark.parametrize("form", ["console", "json"])
@pytest.mark.parametrize("level", ["debug", "info", "warning"])
def test_the_same_lines_go_to_the_file(here: Place, form: str, level: str) -> None:
    """Letter by letter, each task's in its own file where that is asked for, and the run's own in another."""
    said, run = logged(here, form, level, file="logs/{{ run.id }}/{{task}}.log")
    files = {path.stem: path.read_text().splitlines() for path in here.folder.glob(f"logs/{run}/*.log")}
    lines = said.splitlines()
    assert sorted(line for file in files.values() for line in file) == sorted(lines)
    for task in ("a", "b"):
        assert [line for line in lines if re.search(rf'task("?[=:]"?){task}\b', line)] == files[task]
        assert sum("odd" in line for line in files[task]) == 1
        assert sum("fine" in line for line in files[task]) == (level == "debug")
    assert ("run" in files) == (level != "warning")
    if form == "json":
        assert {json.loads(line)["run"] for line in lines} == {run}


def test_both_on_stdout(here: Place) -> None:
    """`console: stdout` has the lines on stdout, the file the same, and stderr none of them."""
    here.pipeline({"t": {"run": "true"}}, log={"console": "stdout", "file": "one.log", "format": "json"})
    ended = here.ok("run")
    assert next(json.loads(line)["event"] for line in ended.out.splitlines()) == "run_started"
    assert ended.out.splitlines() == here.lines("one.log")
    assert "run_started" not in ended.err
    refused = here.run("run", "--json")
    assert (refused.code, "log.console is stdout" in refused.err) == (2, True), refused.said
