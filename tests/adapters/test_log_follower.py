"""A run's log lines: their names, fields, levels and places."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import anyio
import anyio.lowlevel
import msgspec
import pytest
import structlog

from flowd.adapters.disk import FileThreads
from flowd.adapters.followers.log import LEVELS, Lines, LogFollower, Sink, append_to
from flowd.core import events as e
from flowd.core.spec import PipelineSpec
from flowd.ports.follower import Signal

AT = datetime(2026, 11, 22, 9, 14, tzinfo=UTC)
ERROR = e.Error(type="ConnectionError", message="reset", where="steps/ingest.py:7")
RUN = [
    e.RunStarted(pipeline="prices", spec="d", params={"n": 1}, tasks=("b", "a")),
    e.TaskFresh(task="a", source="earlier", reason=e.Reason("fresh", "nothing changed since earlier")),
    e.TaskStarted(task="b", attempt=1, executor="thread"),
    e.TaskRetryScheduled(
        task="b", attempt=1, error=ERROR, delay=timedelta(seconds=0.2), retry_at=AT + timedelta(seconds=3.2)
    ),
    e.TaskStarted(task="b", attempt=2, executor="thread"),
    e.TaskSucceeded(
        task="b",
        attempt=2,
        metrics={"rows": 203.0},
        outputs=(e.Artifact(path="data/b.json", size=1, digest="d"),),
        parts={"action": "x"},
    ),
    e.RunFinished(state="succeeded"),
]
ENVELOPES = [e.Envelope("r1", n, AT + timedelta(seconds=n), event) for n, event in enumerate(RUN, 1)]
SAID_AT = AT + timedelta(seconds=5)


def said(kind="log", **fields):
    """Something that the second attempt of b says."""
    return Signal(run="r1", task="b", attempt=2, at=SAID_AT, kind=kind, fields={"level": "info", "event": "x"} | fields)


SAID = said(level="warning", event="odd", rows=3)


class Heard(list):
    """Keeps what a sink was given."""

    def sink(self, **how):
        """A sink that writes here."""
        return Sink(write=self.extend, **how)

    @property
    def objects(self):
        """The lines as JSON objects."""
        return [json.loads(line) for _, line in self]


@pytest.fixture
def heard():
    """An empty ear."""
    return Heard()


def follower(*sinks):
    """A follower of a run of the tasks c, a, b."""
    return LogFollower(sinks, order=["c", "a", "b"])


async def test_each_event_is_a_line_under_its_own_name(heard):
    """Names are the events' own; times are the events'; task and attempt are fields."""
    await follower(heard.sink()).record(ENVELOPES)
    assert [line["event"] for line in heard.objects] == [
        "run_started",
        "task_fresh",
        "task_started",
        "task_retry_scheduled",
        "task_started",
        "task_succeeded",
        "run_finished",
    ]
    assert {line["run"] for line in heard.objects} == {"r1"}
    assert heard.objects[2] == {
        "timestamp": "2026-11-22T09:14:03.000Z",
        "level": "info",
        "event": "task_started",
        "run": "r1",
        "task": "b",
        "attempt": 1,
        "executor": "thread",
    }


async def test_the_lines_say_order_checkpoints_failures_and_outputs(heard):
    """The order of execution at the start, the checkpoint hit, the failed attempt, where outputs are."""
    await follower(heard.sink()).record(ENVELOPES)
    started, fresh, _, retried, _, succeeded, finished = heard.objects
    assert started["order"] == ["a", "b"]
    assert started["params"] == {"n": 1}
    assert fresh["source"] == "earlier"
    assert retried["error"] == "ConnectionError: reset"
    assert retried["where"] == "steps/ingest.py:7"
    assert (retried["delay_s"], retried["level"], retried["duration_s"]) == (0.2, "warning", 1.0)
    assert succeeded["outputs"] == ["data/b.json"]
    assert succeeded["metrics"] == {"rows": 203.0}
    assert succeeded["duration_s"] == 1.0
    assert finished["duration_s"] == 6.0


async def test_every_end_of_a_run_says_how_long_it_took(heard):
    """Also where the run was adopted, or asked for again: since then."""
    at = [AT + timedelta(seconds=n) for n in range(6)]
    again = [e.RunAdopted(owner="o"), e.RunFinished(state="failed"), e.RunReopened(), e.RunFinished(state="succeeded")]
    await follower(heard.sink()).record([e.Envelope("r1", n, at[n], event) for n, event in enumerate(again, 1)])
    assert [line.get("duration_s") for line in heard.objects] == [None, 1.0, None, 1.0]


async def test_a_sink_without_events_hears_tasks_alone(heard):
    """On a terminal the transcript tells of events; what a task logs is always written."""
    log = follower(heard.sink(events=False))
    await log.record(ENVELOPES)
    log.signal(SAID)
    log.signal(said("progress", done=1, total=2))
    assert [(line["event"], line["rows"], line["task"]) for line in heard.objects] == [("odd", 3, "b")]


async def test_levels_keep_lines_out(heard):
    """At `warning` only failures and warnings are left."""
    log = follower(heard.sink(level="warning"))
    await log.record(ENVELOPES)
    log.signal(SAID)
    assert [line["event"] for line in heard.objects] == ["task_retry_scheduled", "odd"]


async def test_console_lines_are_for_people(heard):
    """Without colour there is no escape; name, task and fields stand in one line."""
    await follower(heard.sink(form="console")).record(ENVELOPES)
    line = heard[3][1]
    assert "\x1b" not in line
    assert "task_retry_scheduled" in line
    assert "task=b" in line
    assert "\n" not in line


SAMPLES = {
    str: "word",
    int: 3,
    float: 0.5,
    bool: True,
    datetime: AT,
    timedelta: timedelta(seconds=2),
    e.Artifact: e.Artifact(path="data/b.json", size=1, digest="d"),
    e.Reason: e.Reason("code", "a sentence"),
    e.Error: ERROR,
    e.Ending: e.Ending(exit_code=1, signal="SIGKILL", tail=("last",)),
    e.SentBack: e.SentBack(task="sign", by="ann", comment="too long", at=AT),
    e.Stored: e.Stored(codec="json", digest="d", size=4, inline=msgspec.Raw(b'{"n":1}')),
    PipelineSpec: PipelineSpec(name="p", tasks=()),
    Any: {"n": 1},
}


def sample(hint):
    """A value for a field that is declared so."""
    if get_origin(hint) in {Union, UnionType}:
        return sample(get_args(hint)[0])
    if get_origin(hint) is tuple:
        return (sample(get_args(hint)[0]),)
    if get_origin(hint) is dict:
        return {"n": sample(get_args(hint)[1])}
    return SAMPLES[hint]


@pytest.mark.parametrize("kind", get_args(e.AnyEvent), ids=lambda kind: kind.__name__)
async def test_no_field_of_any_event_shows_what_python_calls_it(heard, kind):
    """`Artifact(path=…)` and `datetime.datetime(…)` are no words for people."""
    event = kind(**{name: sample(hint) for name, hint in get_type_hints(kind).items()})
    await follower(heard.sink(form="console")).record([e.Envelope("r1", 1, AT, event)])
    [(_, line)] = heard
    assert not re.search(r"[A-Za-z]\w*\(", line)


async def test_a_line_without_colour_is_the_renderers_own(heard):
    """Ours is a quicker way to the same text: quotes, levels and tracebacks included."""
    json = Heard()
    log = follower(heard.sink(form="console", level="debug"), json.sink(level="debug"))
    for level in LEVELS:
        log.signal(said(level=level, word="plain", quoted="it's two", empty="", none=None, exception="x\n  y"))
        log.signal(said(level=level, stack="a\nb", exception="x\n  y"))
        log.signal(said(level=level, stack="a\nb", after=" "))
    own = structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, sort_keys=False, repr_native_str=False)
    assert [line for _, line in heard] == [own(None, "", fields) for fields in json.objects]


@pytest.mark.parametrize("colour", [False, True])
async def test_a_field_may_have_any_name_and_value(heard, colour):
    """Some names mean something to a renderer, and must not break it."""
    follower(heard.sink(form="console", colour=colour)).signal(said(stack=5, exception=None, exc_info=3))
    assert len(heard) == 1


async def test_a_line_for_people_names_a_hundred_tasks(heard):
    """The order of a large pipeline would fill a screen; the file that programs read has all of it."""
    order = [f"t{number}" for number in range(105)]
    json, every = Heard(), e.Envelope("r1", 1, AT, e.RunStarted(pipeline="prices", spec="d"))
    await LogFollower([heard.sink(form="console"), json.sink()], order=order).record([every])
    assert "'t99', '… 5 more']" in heard[0][1]
    assert json.objects[0]["order"] == order


async def test_a_line_carries_the_moment_at_which_it_was_said(heard):
    """However late it is written."""
    follower(heard.sink()).signal(SAID)
    assert heard.objects[0]["timestamp"] == "2026-11-22T09:14:05.000Z"


async def test_a_sink_that_fails_takes_no_other_along(heard, caplog):
    """It is said once, and where; the others, before and after it in the list, hear everything."""

    def full(_lines):
        raise OSError(28, "No space left on device")

    told, late = [], Heard()
    log = LogFollower([heard.sink(), Sink(write=full, name="disk.log"), late.sink()], report=told.append)
    await log.record(ENVELOPES)
    log.signal(SAID)
    assert len(heard) == len(late) == len(ENVELOPES) + 1
    assert told == ["log lines go to disk.log no more: OSError: [Errno 28] No space left on device"]
    await LogFollower([Sink(write=full, name="other.log")]).record(ENVELOPES)  # nobody was named to be told
    assert "log lines go to other.log no more" in caplog.text


async def test_a_task_cannot_pass_for_another(heard):
    """What a task logs never overwrites run, task and attempt."""
    follower(heard.sink()).signal(said(task="other", run="other"))
    assert heard.objects[0]["task"] == "b"
    assert heard.objects[0]["run"] == "r1"


async def test_a_file_for_each_task(tmp_path):
    """`{{ task }}` in a path makes one file a task, and `run` for the run's own lines; lines are appended."""
    log = follower(Sink(write=append_to(str(tmp_path / "log" / "{{ task }}.jsonl"))))
    await log.record(ENVELOPES)
    log.signal(SAID)
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == ["a.jsonl", "b.jsonl", "run.jsonl"]
    assert len((tmp_path / "log" / "b.jsonl").read_text().splitlines()) == 5


async def test_any_value_can_be_logged(heard):
    """A value that JSON does not know is written as text."""
    follower(heard.sink()).signal(said(path={1, 2}, odd=object))
    assert "class" in heard.objects[0]["odd"]


def test_nothing_global_is_configured():
    """structlog comes with the first follower, without rich, and stays as the host configured it."""
    code = (
        "import sys; from flowd.adapters.followers import log\n"
        "assert 'structlog' not in sys.modules\n"
        "log.LogFollower([log.Sink(write=print)])\n"
        "import structlog; assert not structlog.is_configured(); assert 'rich' not in sys.modules\n"
        "import rich"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def test_a_file_that_takes_no_lines_for_a_while_holds_no_loop() -> None:
    """Lines wait in their thread, in the order in which they were said, and nobody else waits for them."""
    disk_answers, written = threading.Event(), list[str]()

    def write(lines: Lines) -> None:
        disk_answers.wait()
        written.extend(json.loads(line)["event"] for _, line in lines)

    threads = FileThreads(1, "test-log")
    log = LogFollower([Sink(write=write, level="debug", threads=threads)])
    log.signal(said(event="first"))
    async with anyio.create_task_group() as group:
        group.start_soon(log.record, [e.Envelope("r", 1, AT, e.TaskStarted(task="t", attempt=1))])
        await anyio.lowlevel.checkpoint()
        log.signal(said(event="last"))
        assert written == []
        disk_answers.set()
    await threads.run(lambda: None)
    assert written == ["first", "task_started", "last"]
    threads.close()


async def test_a_file_that_fails_in_its_thread_is_said_once() -> None:
    """What cannot be written is told by whoever hears of it, and the sink is left out."""

    def write(_lines: Lines) -> None:
        raise OSError(28, "No space left on device")

    told: list[str] = []
    threads = FileThreads(1, "test-log")
    log = LogFollower([Sink(write=write, name="run.log", threads=threads)], report=told.append)
    log.signal(said(event="first"))
    log.signal(said(event="second"))
    await threads.run(lambda: None)
    await anyio.lowlevel.checkpoint()
    await log.record([e.Envelope("r", 1, AT, e.TaskStarted(task="t", attempt=1))])
    assert told == ["log lines go to run.log no more: OSError: [Errno 28] No space left on device"]
    threads.close()
