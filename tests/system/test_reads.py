"""What the commands that read print: their shapes, that they agree, and which run is meant."""

from __future__ import annotations

import json
import re

from flowd_process import Ended, Place, end_of, states, until

RUN_KEYS = {
    *("run", "pipeline", "state", "exit_code", "reason", "params", "trigger", "started", "ended", "duration_s"),
    *("counts", "warnings", "tasks", "state_dir"),
}
TASK_KEYS = {
    *("state", "attempts", "reason", "started", "ended", "result", "metrics", "outputs", "error", "allowed"),
    *("approval", "url", "log", "items", "attempt_list"),
}
ATTEMPT_KEYS = {"n", "started", "ended", "waited_s", "exit_code", "error"}
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def mixed(here: Place) -> None:
    """One task succeeds with an output, one fails, one does not run."""
    here.pipeline(
        {
            "good": {"run": "echo out; echo n=1 > $FLOWD_METRICS; echo x > a", "outputs": ["a"]},
            "bad": {"run": "echo oops >&2; exit 3", "needs": ["good"]},
            "after": {"run": "true", "needs": ["bad"]},
        },
        params={"colour": "red"},
    )


def check_shape(document: dict[str, object]) -> None:
    assert set(document) >= RUN_KEYS
    for moment in (document["started"], document["ended"]):
        assert MOMENT.fullmatch(str(moment))
    for task in document["tasks"].values():
        assert set(task) >= TASK_KEYS
        assert task["reason"] is None or {"code", "sentence"} <= set(task["reason"])
        assert task["error"] is None or {"type", "message"} <= set(task["error"])
        for output in task["outputs"]:
            assert {"path", "size", "digest"} <= set(output)
        for attempt in task["attempt_list"]:
            assert set(attempt) >= ATTEMPT_KEYS
            assert MOMENT.fullmatch(attempt["started"])
            assert MOMENT.fullmatch(attempt["ended"])


def check_events(events: list[dict[str, object]], run: str) -> None:
    """Numbered without a gap, in order of time, from the run's start to its end."""
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert all({"seq", "at", "run", "event"} <= set(event) for event in events)
    assert {event["run"] for event in events} == {run}
    moments = [str(event["at"]) for event in events]
    assert moments == sorted(moments)
    assert (events[0]["event"], events[-1]["event"]) == ("run_started", "run_finished")


def test_run_show_events_and_runs_agree(here: Place) -> None:
    """`run --json` prints one object on stdout, the same that `show --json` prints, and what events and runs say."""
    mixed(here)
    ran = here.json("run", code=1)
    check_shape(ran)
    assert (ran["pipeline"], ran["state"], ran["exit_code"]) == ("p", "failed", 1)
    assert ran["params"] == {"colour": "red"}
    assert ran["trigger"]["kind"] == "hand"
    assert states(ran) == {"good": "succeeded", "bad": "failed", "after": "upstream_failed"}
    assert ran["counts"] == {"succeeded": 1, "failed": 1, "upstream_failed": 1}
    assert here.json("show", "last") == ran
    events = here.ok("events", "last", "--json").events
    check_events(events, ran["run"])
    succeeded = [event for event in events if event["event"] == "task_succeeded"]
    assert [(event["task"], event["attempt"]) for event in succeeded] == [("good", 1)]
    listed = here.json("runs")["runs"]
    assert [(row["run"], row["state"], row["pipeline"]) for row in listed] == [(ran["run"], "failed", "p")]


def test_resume_of_a_finished_run_prints_its_end(here: Place) -> None:
    """A finished run is not run again: its document, and the exit code that belongs to it."""
    mixed(here)
    ran = here.json("run", code=1)
    assert here.json("resume", code=1) == ran
    assert here.json("resume", ran["run"], code=1) == ran
    assert here.run("resume").code == 1


def test_events_of_a_running_run(here: Place) -> None:
    """--events prints each event as a line on stdout, and the file of the journal holds no other."""
    mixed(here)
    ended = here.run("run", "--events")
    assert ended.code == 1
    events = ended.events
    check_events(events, events[0]["run"])
    assert events == here.ok("events", "--json").events


def test_a_run_is_followed_to_its_end(here: Place) -> None:
    """`events -f` prints what is durable as it comes, and ends with the run; `show` says meanwhile that it runs."""
    here.pipeline({"t": {"run": "echo x > begun; while test ! -e go; do sleep 0.02; done"}})
    process = here.begin("run", "--run-id", "r")
    until(here.has("begun"))
    following = here.begin("events", "r", "-f", "--json")
    assert following.stdout is not None
    first = json.loads(following.stdout.readline())
    assert (first["event"], first["seq"]) == ("run_started", 1)
    document = here.json("show", "r")
    assert (document["state"], document["ended"], states(document)) == ("running", None, {"t": "running"})
    here.write("go", "")
    check_events([first, *(json.loads(line) for line in following.stdout)], "r")
    assert end_of(following).code == 0
    assert end_of(process).code == 0


def test_json_and_events_exclude_each_other(here: Place) -> None:
    """Both want stdout: a usage error, before anything is written."""
    mixed(here)
    assert here.run("run", "--json", "--events").code == 2
    assert not here.state.exists()


def test_which_run_is_meant(here: Place) -> None:
    """An id, a unique beginning, `last`, or nothing for the newest; anything else is exit 2 and says what there is."""
    mixed(here)
    empty = here.run("show")
    assert (empty.code, "flowd run" in empty.err) == (2, True), empty.said
    for run in ("alpha-one", "alpha-two", "beta"):
        here.run("run", "--run-id", run)
    listed = [row["run"] for row in here.json("runs")["runs"]]
    assert listed == ["beta", "alpha-two", "alpha-one"]

    def shown(*words: str) -> str:
        return str(here.json("show", *words)["run"])

    assert [shown(), shown("last"), shown("beta"), shown("b"), shown("alpha-o")] == [
        *("beta", "beta", "beta", "beta", "alpha-one"),
    ]
    ambiguous = here.run("show", "alpha")
    assert (ambiguous.code, ambiguous.out) == (2, "")
    assert "alpha-one" in ambiguous.err
    assert "alpha-two" in ambiguous.err
    for command in ("show", "events", "logs", "resume", "retry", "cancel"):
        unknown = here.run(command, "gamma")
        assert (unknown.code, unknown.out) == (2, ""), unknown.said
        assert "gamma" in unknown.err
        assert "Traceback" not in unknown.err
    for words in (("logs", "last", "nothing"), ("retry", "last", "nothing")):
        unknown = here.run(*words)
        assert (unknown.code, "nothing" in unknown.err) == (2, True), unknown.said


def test_reading_exits_0_whatever_it_shows(here: Place) -> None:
    """A failed run is no failure of the command that shows it; and none of them writes anything."""
    mixed(here)
    here.run("run")
    before = {path: path.stat().st_mtime_ns for path in here.state.rglob("*") if path.is_file()}
    for words in (("show",), ("runs",), ("events",), ("logs",), ("logs", "last", "bad"), ("plan",), ("list",)):
        for json_too in ((), ("--json",)):
            ended = here.ok(*words, *json_too)
            assert ended.out, ended.said
    assert {path: path.stat().st_mtime_ns for path in here.state.rglob("*") if path.is_file()} == before


def test_logs_hold_what_tasks_wrote(here: Place) -> None:
    """The text of both streams, under the attempt it belongs to."""
    mixed(here)
    here.run("run")
    assert here.ok("logs", "last", "good").out == "out\n"
    assert here.ok("logs", "last", "bad").out.splitlines()[0] == "oops"
    assert "==> bad, attempt 1 <==" in here.ok("logs").out
    rows = here.json("logs")["logs"]
    assert [(row["task"], row["text"].splitlines()[0]) for row in rows] == [("good", "out"), ("bad", "oops")]
    assert here.ok("logs", "last", "good", "--attempt", "1").out == "out\n"


def test_logs_of_an_attempt_that_never_was(here: Place) -> None:
    """Exit 2, and which the newest is."""
    mixed(here)
    here.run("run", "--run-id", "r")
    for words, said in (
        (("good", "--attempt", "9"), "task good of run r has no attempt 9; the newest is 1"),
        (("after", "--attempt", "1"), "task after of run r has no attempt 1; none has begun"),
        (("--attempt", "2"), "run r has no attempt 2; the newest is 1"),
    ):
        refused = here.run("logs", "r", *words)
        assert (refused.code, refused.out, refused.err.strip()) == (2, "", said), refused.said


def test_no_run_is_called_last(here: Place) -> None:
    """It would hide the newest."""
    mixed(here)
    refused = here.run("run", "--run-id", "last")
    assert (refused.code, "the newest" in refused.err) == (2, True), refused.said
    assert not list(here.state.glob("runs/*"))


def test_a_graph_names_every_task(here: Place) -> None:
    """Each form of the graph holds every task, and writes no state."""
    mixed(here)
    for form in ("text", "mermaid", "dot"):
        out = here.ok("graph", "pipeline.yaml", "--format", form).out
        assert all(name in out for name in ("good", "bad", "after"))
    assert json.loads(here.ok("graph", "pipeline.yaml", "--json").out)
    assert not here.state.exists()


def test_list_names_pipelines_and_their_state(here: Place) -> None:
    """The pipelines here and below, each with its file and its name, a broken one with what is wrong."""
    mixed(here)
    here.write("broken/pipeline.yaml", "name: q\ntasks: {t: {rum: x}}\n")
    rows = {row["file"]: row for row in here.json("list")["pipelines"]}
    assert rows["pipeline.yaml"]["pipeline"] == "p"
    assert rows["broken/pipeline.yaml"]["error"]


def test_list_imports_nothing(here: Place) -> None:
    """A script without a guard, and a module that a file calls, do not run; what cannot be told is said so."""
    ran = "open('ran', 'w').close()\n"
    here.write("steps.py", ran + "def f(): pass\n")
    here.pipeline({"t": {"call": "steps:f", "executor": "thread"}, "u": {"call": "nowhere:g", "needs": ["t"]}})
    here.write("one.py", f"from flowd import Pipeline\n{ran}p = Pipeline('one')\n")
    here.write(
        "two.py", f"import flowd\na = flowd.Pipeline('x', folder='/srv')\nb: object = flowd.Pipeline('y')\n{ran}"
    )
    here.write("three.py", f"from flowd import Pipeline\np = Pipeline('f' + 'g')\n{ran}")
    here.write("bad.py", "from flowd import Pipeline\np = Pipeline(\n")
    rows = {row["file"]: row for row in here.json("list")["pipelines"]}
    assert not (here.folder / "ran").exists()
    assert {file: row.get("pipeline") for file, row in rows.items()} == {
        "pipeline.yaml": "p",
        "one.py": "one",
        "two.py:a": "x",
        "two.py:b": "y",
        "three.py": None,
        "bad.py": None,
    }
    assert (rows["pipeline.yaml"]["tasks"], rows["one.py"]["tasks"]) == (2, None)
    assert (rows["two.py:a"]["state_dir"], rows["one.py"]["state_dir"]) == ("/srv/.flowd", str(here.state))
    assert "cannot be read as Python" in rows["bad.py"]["error"]
    shown = here.ok("list").out
    assert "named when it is imported, tasks told when it is imported" in shown
    assert "p, 2 tasks, state in" in shown


def test_run_without_a_file_says_what_is_there(here: Place) -> None:
    """No pipeline.yaml here: exit 2, and the ones found below are named."""
    here.write("sub/pipeline.yaml", "name: q\ntasks: {t: {run: 'true'}}\n")
    ended = here.run("run")
    assert (ended.code, "flowd run sub/pipeline.yaml" in ended.err) == (2, True), ended.said


def test_logs_as_json_lines(here: Place) -> None:
    """--log-format json: every line on stderr is an object with the event's stable name, run, task and attempt."""
    mixed(here)
    ended = here.run("run", "--json", "--log-format", "json", "--log-file", "own.log")
    lines = [json.loads(line) for line in ended.err.splitlines() if line.startswith("{")]
    assert {line["event"] for line in lines} >= {"run_started", "task_started", "task_succeeded", "task_failed"}
    assert all(line["run"] == ended.document["run"] for line in lines)
    started = [line for line in lines if line["event"] == "task_started"]
    assert all({"task", "attempt", "timestamp", "level"} <= set(line) for line in started)
    done = [line for line in lines if line["event"] == "task_succeeded"]
    assert all(line["duration_s"] >= 0 for line in done)
    assert [json.loads(line) for line in here.lines("own.log")] == lines


def test_an_unknown_word_is_a_usage_error(here: Place) -> None:
    """Exit 2 and what was meant, for commands and options alike."""

    def refused(*words: str) -> Ended:
        ended = here.run(*words)
        assert (ended.code, ended.out) == (2, ""), ended.said
        assert "Traceback" not in ended.err
        return ended

    mixed(here)
    assert "resume" in refused("resum").err
    assert "--force" in refused("run", "--forc").err
    assert "good" in refused("run", "pipeline.yaml", "goood").err
    assert "good" in refused("run", "--force-task", "goood").err
    assert "no-such.yaml" in refused("run", "no-such.yaml").err
    refused("run", "--only", "good", "--until", "bad")
    refused("run", "--max-concurrency", "0")
    refused("run", "--run-id", "../../up")
    refused("run", "--run-id", "x" * 129)
    refused("run", "--run-id", "")
    assert not here.state.exists()


def test_the_resolved_specification(here: Place) -> None:
    """`show --resolved` is YAML for people and one object with --json; both say the same."""
    import yaml

    here.pipeline({"t": {"run": "echo {{ params.n }}"}}, params={"n": 1}, grace="3s")
    here.ok("run", "-p", "n=5")
    document = here.json("show", "last", "--resolved")
    assert yaml.safe_load(here.ok("show", "--resolved").out) == document
    assert (document["params"]["n"]["value"], document["folder"]) == (5, str(here.folder))
    assert (document["tasks"]["t"]["run"], document["tasks"]["t"]["grace"]) == ("echo 5", "3s")
