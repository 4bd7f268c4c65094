"""How attempts end otherwise: errors, retries, time limits, what a task tells by its files."""

from __future__ import annotations

import json

import pytest

from flowd_process import Place, alive, span, states, until

FAIL = "echo x >> tries; test $(wc -l < tries) -gt {n} || exit {code}"


def tried(here: Place, retry: dict[str, object], *, times: int = 5, code_of_run: int = 1) -> dict[str, object]:
    """A task that exits with 7 on its first `times` attempts, under a policy."""
    here.pipeline({"t": {"run": FAIL.format(n=times, code=7), "retry": retry}})
    [task] = here.json("run", code=code_of_run)["tasks"].values()
    return dict(task)


@pytest.mark.parametrize(
    ("policy", "waits"),
    [
        ({"backoff": "constant", "delay": "100ms"}, [0.1, 0.1, 0.1]),
        ({"backoff": "linear", "delay": "50ms"}, [0.05, 0.1, 0.15]),
        ({"backoff": "exponential", "delay": "50ms"}, [0.05, 0.1, 0.2]),
        ({"backoff": "exponential", "delay": "50ms", "max_delay": "80ms"}, [0.05, 0.08, 0.08]),
    ],
)
def test_waits_follow_the_policy(here: Place, policy: dict[str, object], waits: list[float]) -> None:
    """The recorded waits are the policy's, never shorter, within a machine's slowness longer."""
    task = tried(here, {"attempts": 4, **policy}, times=3, code_of_run=0)
    assert (task["state"], task["attempts"]) == ("succeeded", 4)
    events = here.ok("events", "--json").events
    planned = [event["delay_s"] for event in events if event["event"] == "task_retry_scheduled"]
    assert planned == pytest.approx(waits, rel=0.1)
    attempts = task["attempt_list"]
    assert [attempt["exit_code"] for attempt in attempts] == [7, 7, 7, 0]
    for before, after, wait in zip(attempts, attempts[1:], waits, strict=False):
        assert after["waited_s"] >= wait
        assert (span(after)[0] - span(before)[1]).total_seconds() >= wait


@pytest.mark.parametrize(
    ("words", "attempts"),
    [
        ({"on": [7]}, 3),
        ({"on": [8]}, 1),
        ({"never_on": [7]}, 1),
        ({"never_on": [8]}, 3),
        ({"on": [7, 8], "never_on": [7]}, 1),
    ],
)
def test_exit_codes_decide_about_a_retry(here: Place, words: dict[str, object], attempts: int) -> None:
    """`on` and `never_on` name exit codes; what is not listed is not retried."""
    task = tried(here, {"attempts": 3, "delay": "1ms", **words})
    assert (task["state"], task["attempts"]) == ("failed", attempts)


@pytest.mark.parametrize(
    ("words", "attempts"),
    [({"on": ["OSError"]}, 2), ({"on": ["ValueError"]}, 1), ({"never_on": ["ConnectionError"]}, 1), ({}, 2)],
)
def test_exceptions_decide_about_a_retry(here: Place, words: dict[str, object], attempts: int) -> None:
    """A listed exception stands for its subclasses, too."""
    here.write("work.py", "def f():\n    raise ConnectionResetError('gone')\n")
    here.pipeline({"t": {"call": "work:f", "retry": {"attempts": 2, "delay": "1ms", **words}}})
    task = here.json("run", code=1)["tasks"]["t"]
    assert task["attempts"] == attempts
    assert task["error"]["type"] == "ConnectionResetError"


def test_a_timeout_is_not_a_failure(here: Place) -> None:
    """An attempt over its time is ended with all it began, and recorded as timed_out; others go on."""
    here.pipeline(
        {
            "slow": {"run": "sleep 7717 & sleep 7717", "timeout": "200ms", "grace": "100ms"},
            "after": {"run": "true", "needs": ["slow"]},
            "beside": {"run": "true"},
        }
    )
    ended = here.run("run")
    assert ended.code == 1, ended.said
    document = here.json("show")
    assert states(document) == {"slow": "timed_out", "after": "upstream_failed", "beside": "succeeded"}
    assert not alive("sleep\0007717")
    assert "timeout" in ended.out
    assert "200ms" in ended.out or "0.2s" in ended.out


def test_a_timeout_is_retried_where_that_is_asked_for(here: Place) -> None:
    """`on: [timeout]` tries again; the second attempt may succeed."""
    here.pipeline(
        {
            "t": {
                "run": "test $FLOWD_ATTEMPT = 2 || sleep 60",
                "timeout": "300ms",
                "grace": "50ms",
                "retry": {"attempts": 2, "on": ["timeout"], "delay": "1ms"},
            }
        }
    )
    task = here.json("run")["tasks"]["t"]
    assert (task["state"], task["attempts"]) == ("succeeded", 2)


def test_a_deadline_ends_the_run(here: Place) -> None:
    """The run's deadline stops what runs as timed_out, and what had not begun does not begin."""
    here.pipeline(
        {"slow": {"run": "sleep 7718"}, "after": {"run": "touch begun", "needs": ["slow"]}},
        deadline="400ms",
    )
    ended = here.run("run")
    assert ended.code == 1, ended.said
    document = here.json("show")
    assert document["tasks"]["slow"]["state"] == "timed_out"
    assert document["tasks"]["after"]["state"] != "succeeded"
    assert "deadline" in json.dumps(document["reason"])
    assert not (here.folder / "begun").exists()
    assert not alive("sleep\0007718")


def test_a_process_that_computes_is_killed_by_its_timeout(here: Place) -> None:
    """CPU-bound Python in a process of its own does not outlive its time."""
    here.write(
        "work.py",
        "import os\ndef spin():\n    open('pid', 'w').write(str(os.getpid()))\n    while True:\n        pass\n",
    )
    here.pipeline({"t": {"call": "work:spin", "executor": "process", "timeout": "1500ms", "grace": "100ms"}})
    document = here.json("run", code=1)
    assert document["tasks"]["t"]["state"] == "timed_out"
    pid = here.lines("pid")[0]
    with pytest.raises(ProcessLookupError):
        __import__("os").kill(int(pid), 0)


@pytest.mark.parametrize("run", [["no-such-program-7719"], "no-such-program-7719 --flag"])
def test_a_command_that_is_not_there_is_named(here: Place, run: object) -> None:
    """The error says which command was not found, by argv and through the shell."""
    here.pipeline({"t": {"run": run}})
    ended = here.run("run")
    assert ended.code == 1
    error = here.json("show")["tasks"]["t"]["error"]
    assert "no-such-program-7719" in error["message"]
    assert "not found" in error["message"]
    assert "no-such-program-7719" in ended.out


def test_a_missing_output_fails_the_task(here: Place) -> None:
    """Success without a declared output is none."""
    here.pipeline({"t": {"run": "true", "outputs": ["never.txt"]}})
    error = here.json("run", code=1)["tasks"]["t"]["error"]
    assert "never.txt" in error["message"]


def test_outputs_are_listed(here: Place) -> None:
    """An output has the path as written, its size and its digest; one that was not rewritten is marked."""
    here.write("old.txt", "old\n")
    here.pipeline({"t": {"run": "printf 12345 > new.txt", "outputs": ["new.txt", "old.txt"]}})
    outputs = {output["path"]: output for output in here.json("run")["tasks"]["t"]["outputs"]}
    assert outputs["new.txt"]["size"] == 5
    assert outputs["new.txt"]["digest"]
    assert "unchanged" not in outputs["new.txt"]
    assert outputs["old.txt"]["unchanged"] is True


def test_metrics_and_results_by_file(here: Place) -> None:
    """`name=value` lines are metrics, JSON is the result; metrics count after a failure, a result does not."""
    here.pipeline(
        {
            "good": {"run": "echo mae=0.5 >> $FLOWD_METRICS; echo '{\"rows\": 3}' > $FLOWD_RESULT; echo no"},
            "bad": {"run": "echo mae=1e3 >> $FLOWD_METRICS; echo 1 > $FLOWD_RESULT; exit 3"},
            "uses": {"run": "echo {{ tasks.good.result.rows }} > got", "needs": ["good"]},
        }
    )
    tasks = here.json("run", code=1)["tasks"]
    assert (tasks["good"]["metrics"], tasks["good"]["result"]) == ({"mae": 0.5}, {"rows": 3})
    assert (tasks["bad"]["metrics"], tasks["bad"]["result"]) == ({"mae": 1000.0}, None)
    assert tasks["bad"]["error"]["exit_code"] == 3
    assert here.lines("got") == ["3"]


@pytest.mark.parametrize(
    ("script", "named"),
    [
        ("printf 'a=1\\nb=x\\n' > $FLOWD_METRICS", "b=x"),
        ("printf 'a=1\\nnonsense\\n' > $FLOWD_METRICS", "nonsense"),
        ("printf 'a=nan\\n' > $FLOWD_METRICS", "a=nan"),
        ("printf '{\"a\": 1,\\n}' > $FLOWD_RESULT", "line 2"),
    ],
)
def test_a_bad_line_fails_the_task_and_is_named(here: Place, script: str, named: str) -> None:
    """What cannot be read is said with its line, and never taken for nothing."""
    here.pipeline({"t": {"run": script}})
    assert named in here.json("run", code=1)["tasks"]["t"]["error"]["message"]


def test_the_environment_of_a_shell_task(here: Place) -> None:
    """Run, task, attempt, absolute inputs and outputs; and the interpreter of flowd comes first on PATH."""
    here.write("in put", "")
    here.pipeline(
        {
            "t": {
                "run": "env > environment; command -v python > which; touch out",
                "inputs": ["in put"],
                "outputs": ["out"],
                "env": {"MINE": "{{ 1 + 1 }}"},
            }
        }
    )
    document = here.json("run")
    environment = dict(line.split("=", 1) for line in here.lines("environment") if "=" in line)
    assert environment["FLOWD_RUN_ID"] == document["run"]
    assert (environment["FLOWD_TASK"], environment["FLOWD_ATTEMPT"]) == ("t", "1")
    assert environment["FLOWD_INPUT_0"] == str(here.folder / "in put")
    assert environment["FLOWD_OUTPUT_0"] == str(here.folder / "out")
    assert environment["MINE"] == "2"
    assert {"FLOWD_METRICS", "FLOWD_RESULT"} <= set(environment)
    assert here.lines("which")[0].startswith(__import__("sys").prefix)


def test_the_log_plan(here: Place) -> None:
    """A name of `logs` that was neither logged, a metric nor in the result is a warning, and no failure."""
    here.write(
        "work.py", "def f(ctx):\n    ctx.log.info('x', rows=1)\n    ctx.metric('mae', 2)\n    return {'r2': 3}\n"
    )
    here.pipeline({"t": {"call": "work:f", "logs": ["rows", "mae", "r2", "lost"]}})
    document = here.json("run")
    [warning] = document["warnings"]
    assert "log_plan_missing" in warning
    assert "lost" in warning
    assert "rows" not in warning


def test_output_is_captured_live_and_complete(here: Place) -> None:
    """Both streams of an attempt are readable while it runs and whole at its end, whatever their length."""
    here.pipeline(
        {
            "t": {
                "run": "echo early; echo oops >&2; while test ! -e go; do sleep 0.02; done; "
                "seq 1 20000; printf 'no newline'"
            }
        }
    )
    process = here.begin("run", "--log-format", "json")
    until(lambda: here.state.exists() and "oops" in here.run("logs", "last", "t").out)
    following = here.begin("logs", "last", "-f")
    here.write("go", "")
    process.communicate(timeout=30)
    out = here.ok("logs", "last", "t").out
    assert out.splitlines() == sorted(["early", "oops"], key=out.find) + [str(n) for n in range(1, 20001)] + [
        "no newline"
    ]
    assert following.communicate(timeout=30)[0].splitlines()[-20001:] == out.splitlines()[-20001:]


def test_each_attempt_has_its_own_log(here: Place) -> None:
    """Attempts have a file each, named in the document, with their own error in it."""
    here.pipeline({"t": {"run": "echo this is $FLOWD_ATTEMPT; test $FLOWD_ATTEMPT = 2", "retry": {"attempts": 2}}})
    document = here.json("run")
    assert here.ok("logs", "last", "t", "--attempt", "1").out.startswith("this is 1\n")
    assert here.ok("logs", "last", "t", "--attempt", "2").out == "this is 2\n"
    rows = here.json("logs", "last")["logs"]
    assert [(row["task"], row["attempt"]) for row in rows] == [("t", 1), ("t", 2)]
    assert document["tasks"]["t"]["log"] == rows[1]["path"]


def test_retry_means_the_newest_run_where_none_is_named(here: Place) -> None:
    """`flowd retry` alone, as the commands that read."""
    here.pipeline({"t": {"run": FAIL.format(n=1, code=7)}})
    assert here.run("run").code == 1
    retried = here.run("retry")
    assert retried.code == 0, retried.said
    assert here.json("show")["tasks"]["t"]["attempts"] == 2
