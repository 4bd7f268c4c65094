"""What runs together and what does not, judged by the recorded starts and ends and never by this test's clock."""

from __future__ import annotations

import pytest

from flowd_process import Place, overlap, span, states


def fan(
    here: Place, count: int, seconds: float = 0.2, policies: dict[str, object] | None = None, **keys: object
) -> None:
    """A first task and `count` siblings that need it and sleep."""
    siblings = {f"s{n}": {"needs": ["first"], "run": f"sleep {seconds}", **(policies or {})} for n in range(count)}
    here.pipeline({"first": {"run": "true"}, **siblings}, **keys)


def siblings(here: Place, *words: str) -> list[dict[str, object]]:
    here.ok("run", *words)
    document = here.json("show", "last")
    first = span(document["tasks"].pop("first"))
    tasks = list(document["tasks"].values())
    assert all(span(task)[0] >= first[1] for task in tasks), "a start before its need's end"
    return tasks


def test_siblings_run_together(here: Place) -> None:
    """Two independent sleeps after a common task overlap and take about as long as one."""
    fan(here, 2, seconds=1)
    tasks = siblings(here)
    assert overlap(tasks) == 2
    spans = [span(task) for task in tasks]
    assert (max(end for _, end in spans) - min(begin for begin, _ in spans)).total_seconds() < 1.7


@pytest.mark.parametrize("most", [1, 2])
def test_max_concurrency_of_the_pipeline(here: Place, most: int) -> None:
    """Never more at a time than the pipeline allows."""
    fan(here, 4, seconds=0.1, max_concurrency=most)
    assert overlap(siblings(here)) == most


def test_max_concurrency_of_the_command(here: Place) -> None:
    """--max-concurrency bounds it, too."""
    fan(here, 3, seconds=0.1)
    assert overlap(siblings(here, "--max-concurrency", "1")) == 1


def test_named_limits_have_weights(here: Place) -> None:
    """Tasks of weight 2 share a capacity of 5: two at a time."""
    fan(here, 5, seconds=0.1, policies={"uses": {"cpu": 2}}, limits={"cpu": 5})
    assert overlap(siblings(here)) == 2


def test_a_limit_that_can_never_be_met_is_refused(here: Place) -> None:
    """A weight over the capacity, or a limit nobody defines, is a mistake and not a wait for ever."""
    fan(here, 1, policies={"uses": {"cpu": 3}}, limits={"cpu": 2})
    refused = here.run("run")
    assert refused.code == 2, refused.said
    assert "cpu" in refused.err
    assert not here.state.exists()


def test_executors(here: Place) -> None:
    """async, thread, process and shell tasks each run where they say, and their results are told."""
    here.write(
        "work.py",
        "import asyncio, os, threading\n"
        "async def a(ctx):\n    await asyncio.sleep(0)\n    return os.getpid()\n"
        "def t():\n    return [os.getpid(), threading.current_thread() is threading.main_thread()]\n"
        "def p():\n    return os.getpid()\n",
    )
    here.pipeline(
        {
            "a": {"call": "work:a"},
            "t": {"call": "work:t"},
            "p": {"call": "work:p", "executor": "process"},
            "s": {"run": "echo $$ > $FLOWD_RESULT"},
        }
    )
    document = here.json("run")
    assert set(states(document).values()) == {"succeeded"}
    results = {name: task["result"] for name, task in document["tasks"].items()}
    assert results["t"] == [results["a"], False]
    assert len({results["a"], results["p"], results["s"]}) == 3
    started = [event for event in here.ok("events", "--json").events if event["event"] == "task_started"]
    assert {event["task"]: event["executor"] for event in started} == {
        "a": "async",
        "t": "thread",
        "p": "process",
        "s": "shell",
    }
