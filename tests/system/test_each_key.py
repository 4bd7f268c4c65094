"""Each key of the format does what is said of it: in a small pipeline here, or in the test that is named.

A key that is neither here nor there fails `test_no_key_is_left_out`. Those of which the format says that
nothing acts on them yet are declared only: see `tests/authoring/test_declarations.py`.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from flowd import Engine, Pipeline
from flowd.authoring import format as table

TESTS = Path(__file__).parent.parent

STEPS = """
import os

def add(x, y=1):
    return x + y

def pid():
    return os.getpid()

def none(ctx):
    ctx.log.info("loaded", rows=3)
"""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "name": (
        """
        tasks: {a: {run: 'true'}}
        """,
        {"pipeline": "p", "state": "succeeded"},
    ),
    "params, with, call": (
        """
        params: {n: 3}
        tasks: {a: {call: 'steps:add', with: {x: '{{ params.n }}'}}}
        """,
        {"tasks.a.result": 4},
    ),
    "max_concurrency, tasks, needs, run": (
        """
        max_concurrency: 1
        tasks:
          b: {run: echo b >> did, needs: a}
          a: {run: echo a >> did; sleep 0.05; echo end >> did}
          c: {run: echo c >> did; sleep 0.05; echo end >> did, needs: [b]}
        """,
        {"did": ["a", "end", "b", "c", "end"]},
    ),
    "limits, LIMIT.capacity, uses": (
        """
        limits: {db: {capacity: 2}}
        tasks:
          a: {run: echo + >> did; sleep 0.1; echo - >> did, uses: {db: 2}}
          b: {run: echo + >> did; sleep 0.1; echo - >> did, uses: {db: 1}}
        """,
        {"did": ["+", "-", "+", "-"]},
    ),
    "priority": (
        """
        max_concurrency: 1
        tasks: {a: {run: echo a >> did},
          b: {run: echo b >> did, priority: 1}}
        """,
        {"did": ["b", "a"]},
    ),
    "defaults": (
        """
        defaults: {allow_failure: true}
        tasks: {a: {run: exit 3}}
        """,
        {"state": "succeeded", "tasks.a.state": "failed", "tasks.a.allowed": True},
    ),
    "allow_failure": (
        """
        tasks:
          a: {run: exit 3, allow_failure: [3]}
          b: {run: exit 4, allow_failure: [3]}
          c: {run: exit 5, allow_failure: error.exit_code == 5}
          d: {run: 'true', needs: [a, c]}
        """,
        {"state": "failed", "tasks.a.allowed": True, "tasks.b.allowed": False, "tasks.d.state": "succeeded"},
    ),
    "deadline": (
        """
        deadline: 200ms
        tasks: {a: {run: sleep 30},
          b: {run: 'true', needs: a}}
        """,
        {"state": "failed", "tasks.a.state": "timed_out", "tasks.b.state": "cancelled", "reason.code": "deadline"},
    ),
    "timeout, grace, TASK.grace": (
        """
        grace: 30s
        tasks: {a: {run: trap '' TERM; sleep 20 & wait; sleep 20, timeout: 600ms, grace: 100ms}}
        """,
        {"tasks.a.state": "timed_out", "tasks.a.attempt_list.0.ending.signal": "SIGKILL"},
    ),
    "fail_fast": (
        """
        fail_fast: true
        tasks: {a: {run: exit 1},
          b: {run: sleep 30}}
        """,
        {"state": "failed", "tasks.a.state": "failed", "tasks.b.state": "cancelled"},
    ),
    "stop_after_failures": (
        """
        stop_after_failures: 1
        tasks: {a: {run: exit 1},
          b: {run: 'sleep 0.1', uses: {slow: 1}},
          c: {run: 'true', needs: b}}
        limits: {slow: 1}
        """,
        {"state": "paused", "tasks.b.state": "succeeded", "tasks.c.state": "pending"},
    ),
    "env, TASK.env": (
        """
        env: {A: one, B: one}
        tasks: {a: {run: 'echo $A $B >> did', env: {B: two}}}
        """,
        {"did": ["one two"]},
    ),
    "shell, TASK.shell": (
        """
        shell: bash
        tasks:
          a: {run: 'echo {1..3} >> did; false | true; echo never >> did'}
          b: {run: 'echo {1..3} >> did', shell: sh, needs: a, trigger_rule: all_done}
        """,
        {"did": ["1 2 3", "{1..3}"], "tasks.a.state": "failed"},
    ),
    "workdir, cwd": (
        """
        workdir: sub
        tasks: {a: {run: 'touch here; mkdir -p deep'},
          b: {run: 'touch there', cwd: sub/deep, needs: a}}
        """,
        {"files": ["sub/deep/there", "sub/here"]},
    ),
    "finally": (
        """
        tasks: {a: {run: exit 1}}
        finally: {z: {run: 'echo {{ run.state }} {{ run.failed[0] }} >> did'}}
        """,
        {"state": "failed", "did": ["failed a"]},
    ),
    "pipeline, result": (
        """
        tasks: {a: {pipeline: inner.yaml, with: {n: 4}}}
        """,
        {"tasks.a.result": 5},
    ),
    "wait": (
        """
        tasks: {a: {wait: 50ms},
          b: {run: 'true', needs: a}}
        """,
        {"tasks.a.state": "succeeded", "counts": {"succeeded": 2}},
    ),
    "trigger_rule": (
        """
        tasks: {a: {run: exit 1},
          b: {run: 'true', needs: a, trigger_rule: any_failed},
          c: {run: 'true', needs: a}}
        """,
        {"tasks.b.state": "succeeded", "tasks.c.state": "upstream_failed"},
    ),
    "when": (
        """
        tasks: {a: {call: 'steps:add', with: {x: 1}},
          b: {run: 'true', needs: a, when: tasks.a.result > 2}}
        """,
        {"tasks.b.state": "skipped", "tasks.b.reason.code": "when_false"},
    ),
    "inputs, outputs, OUTPUT.path, INPUT.path": (
        """
        tasks:
          b: {run: 'cp {{ inputs[0] }} {{ outputs[0] }}', inputs: [{path: a.txt}], outputs: [{path: b.txt}]}
          a: {run: echo x > a.txt, outputs: [a.txt]}
        """,
        {"again": {"a": "fresh", "b": "fresh"}, "tasks.b.outputs.0.path": "b.txt"},
    ),
    "OUTPUT.optional": (
        """
        tasks: {a: {run: 'true', outputs: [{path: a.txt, optional: true}]},
          b: {run: 'true', outputs: [b.txt]}}
        """,
        {"tasks.a.state": "succeeded", "tasks.b.state": "failed", "tasks.b.error.type": "MissingOutput"},
    ),
    "cache": (
        """
        tasks: {a: {run: echo x > a.txt, outputs: [a.txt], cache: false},
          b: {run: 'true', cache: true}}
        """,
        {"again": {"a": "succeeded", "b": "fresh"}},
    ),
    "retry, RETRY.attempts, RETRY.backoff, RETRY.delay": (
        """
        tasks: {a: {run: 'echo x >> did; test $(wc -l < did) = 3',
           retry: {attempts: 3, backoff: linear, delay: 20ms}}}
        """,
        {"tasks.a.attempts": 3, "tasks.a.state": "succeeded", "waits": [0.02, 0.04]},
    ),
    "repeat, REPEAT.until, REPEAT.every": (
        """
        tasks: {a: {run: 'echo x >> did', repeat: {until: round == 2, every: 30ms}}}
        """,
        {"did": ["x", "x"], "tasks.a.attempt_list.1.round": 2, "waits": [0.03]},
    ),
    "REPEAT.max": (
        """
        tasks: {a: {run: 'echo x >> did', repeat: {until: round == 9, every: 1ms, max: 2}}}
        """,
        {"did": ["x", "x"], "tasks.a.reason.code": "repeat_exhausted"},
    ),
    "executor": (
        """
        tasks: {a: {call: 'steps:pid'},
          b: {call: 'steps:pid', executor: process},
          c: {run: 'true'}}
        """,
        {"differ": ("tasks.a.result", "tasks.b.result")},
    ),
    "foreach": (
        """
        tasks: {a: {call: 'steps:add', foreach: [1, 2], with: {x: '{{ item }}', y: '{{ index }}'}}}
        """,
        {"tasks.a.result": [1, 3], "tasks.a.items.0.state": "succeeded"},
    ),
    "FOREACH.over, FOREACH.key, FOREACH.min_success": (
        """
        tasks:
          a: {run: 'test {{ item.n }} != 2',
           foreach: {over: [{n: 1}, {n: 2}], key: '{{ item.n }}', min_success: 0.5}}
          b: {run: 'true', needs: a}
        """,
        {
            "state": "partial",
            "tasks.a.state": "partial",
            "tasks.b.state": "succeeded",
            "tasks.a.items.2.state": "failed",
        },
    ),
    "matrix": (
        """
        tasks: {a: {run: 'echo {{ matrix.x }}{{ matrix.y }} >> did',
           uses: {one: 1},
           matrix: {x: [1, 2], y: [a, b], exclude: [{x: 1, y: b}]}}}
        limits: {one: 1}
        """,
        {"did sorted": ["1a", "2a", "2b"]},
    ),
    "logs": (
        """
        tasks: {a: {call: 'steps:none', logs: [rows, never]}}
        """,
        {"tasks.a.state": "succeeded", "warns": "log_plan_missing"},
    ),
    "gate, GATE.check, GATE.severity, GATE.name": (
        """
        tasks: {a: {run: 'echo r2=0.1 >> $FLOWD_METRICS',
           gate: [{check: metrics.r2 > 0.5, severity: warn, name: quality}, metrics.r2 > 0.2]},
          b: {run: 'true', needs: a}}
        """,
        {"tasks.a.state": "failed", "tasks.a.reason.code": "gate_failed", "tasks.b.state": "upstream_failed"},
    ),
    "approve, APPROVE.message, APPROVE.by": (
        """
        owners: {ops: {notify: ['json://localhost']}}
        tasks: {a: {approve: {message: go on?, by: [ops]}},
          b: {run: 'true', needs: a}}
        """,
        {"state": "waiting", "tasks.a.approval.message": "go on?", "tasks.a.approval.owners": ["ops"]},
    ),
}

INNER = """
    name: inner
    params: {n: {type: int, required: true}}
    tasks: {x: {call: 'steps:add', with: {x: '{{ params.n }}'}}}
    result: tasks.x.result
"""

RUN_CONTROL = "engine/test_run_control.py::"
PACE = ("every", "timeout")
SERVES, LOOPS = "system/test_services.py::test_", "system/test_services.py::test_a_crash_loop_ends_and_says_so"
SERVICE_TABLES = ("READY", "RESTART", "STOP")
TOLD = "daemon/test_telling.py::test_a_failure_is_told_to_the_tasks_owner_and_to_whom_the_daemon_names"
ELSEWHERE = {
    "schedule": "daemon/test_planner.py::test_each_time_begins_one_run_that_knows_it",
    "trigger": "daemon/test_triggers.py::test_a_file_that_was_left_alone_begins_one_run",
    "owners": TOLD,
    "notify": TOLD,
    "owner": TOLD,
    "expect": "core/test_notices.py::test_a_run_is_late_once_and_then_done",
    "retention": "wiring/test_pruning.py::test_what_a_pipeline_says_is_kept_of_it",
    "OUTPUT.retention": "wiring/test_pruning.py::test_an_output_goes_only_where_it_says_so_and_is_as_it_was_left",
    "OUTPUT.delete": "wiring/test_pruning.py::test_an_output_goes_only_where_it_says_so_and_is_as_it_was_left",
    "service": SERVES + "what_needs_it_starts_once_it_serves_and_it_stops_with_the_last_of_them",
    "READY.marker": SERVES + "what_needs_it_starts_once_it_serves_and_it_stops_with_the_last_of_them",
    "port": SERVES + "one_that_dies_comes_back_on_its_port_and_is_counted",
    "ready": SERVES + "each_probe",
    **{f"READY.{name}": SERVES + "each_probe" for name in ("http", "tcp", "file", "log", "command")},
    **{f"READY.{name}": SERVES + "a_probe_that_never_passes_fails_the_task_with_its_last_words" for name in PACE},
    **dict.fromkeys(("restart", *(f"RESTART.{name}" for name in ("attempts", "backoff", "delay", "max_delay"))), LOOPS),
    "keep": SERVES + "once_only_services_are_left_the_first_signal_ends_them_well",
    "lifetime": SERVES + "one_that_will_not_go_leaves_nothing",
    "STOP.grace": SERVES + "one_that_will_not_go_leaves_nothing",
    "stop": SERVES + "it_is_stopped_by_the_signal_that_it_wants",
    "STOP.signal": SERVES + "it_is_stopped_by_the_signal_that_it_wants",
    "description": "authoring/test_same_pipeline.py::test_yaml_and_python_are_one_specification_and_one_plan",
    "TASK.description": "authoring/test_same_pipeline.py::test_yaml_and_python_are_one_specification_and_one_plan",
    "secrets": "system/test_secret_canary.py::test_every_executor_sings_in_vain",
    "log": "system/test_log_keys.py::test_the_same_lines_go_to_the_file",
    "LOG.file": "system/test_log_keys.py::test_the_same_lines_go_to_the_file",
    "LOG.console": "system/test_log_keys.py::test_both_on_stdout",
    "LOG.format": "system/test_log_keys.py::test_the_same_lines_go_to_the_file",
    "LOG.level": "adapters/test_log_follower.py::test_levels_keep_lines_out",
    "targets": "authoring/test_including.py::test_targets_are_groups_of_tasks",
    "include": "authoring/test_including.py::test_what_stands_in_the_file_wins_then_what_is_included_last",
    "LIMIT.rate": "engine/test_sharing.py::test_a_rate_spreads_starts",
    "idempotent": "engine/test_resolving.py::test_an_uncertain_task_is_never_run_again_by_itself",
    "reconcile": "engine/test_resolving.py::test_a_tasks_own_reconcile_is_asked_before_a_person",
    "fresh_for": "engine/test_freshness_runs.py::test_an_expired_checkpoint_does_not_count",
    "code": "engine/test_glob_outputs.py::test_brackets_are_globs_of_inputs_outputs_and_code",
    "OUTPUT.checkpoint": "system/test_example_scoring.py::test_the_scores_alone_are_the_checkpoint",
    "RETRY.max_delay": "system/test_failures.py::test_waits_follow_the_policy",
    "RETRY.jitter": "engine/test_run_control.py::test_jitter_adds_up_to_so_much",
    "RETRY.max_elapsed": RUN_CONTROL + "test_a_retry_that_would_need_one_more_attempt_fails_with_their_number",
    "RETRY.on": "engine/test_run_control.py::test_only_the_listed_failures_are_tried_again",
    "RETRY.never_on": "engine/test_run_control.py::test_only_the_listed_failures_are_tried_again",
    "FOREACH.max_concurrency": "engine/test_items.py::test_no_more_items_run_at_once_than_their_task_allows",
    "FOREACH.fail_fast": "engine/test_items.py::test_fail_fast_begins_nothing_more_and_stops_what_runs",
    "APPROVE.timeout": "engine/test_approvals.py::test_silence_counts_from_when_it_was_asked",
    "APPROVE.then": "engine/test_approvals.py::test_silence_counts_from_when_it_was_asked",
    "APPROVE.form": "engine/test_approvals.py::test_a_question_outlives_its_engine_and_the_answer_starts_the_action",
    "APPROVE.show": "engine/test_approvals.py::test_an_answer_stands_only_for_what_was_shown",
    "REPEAT.timeout": "engine/test_rounds.py::test_no_round_begins_after_the_time_is_over",
    "WAIT.until": "engine/test_waits.py::test_until_when",
    "WAIT.timezone": "engine/test_waits.py::test_until_when",
}


def look_up(document: Any, path: str) -> Any:
    """What stands at a place of a document: `tasks.a.state`."""
    for step in path.split("."):
        document = document[int(step)] if isinstance(document, list) else document[step]
    return document


async def run(folder: Path) -> dict[str, Any]:
    """The document of a run of the pipeline in this folder."""
    async with Engine(folder / ".flowd") as engine:
        return (await engine.run(Pipeline.load(folder / "pipeline.yaml"))).document


@pytest.mark.parametrize("keys", CASES)
async def test_it_does_what_is_said_of_it(tmp_path: Path, keys: str) -> None:
    """The pipeline of each key ends as the key promises."""
    text, expected = CASES[keys]
    for name, what in {"pipeline.yaml": text, "inner.yaml": INNER, "steps.py": STEPS}.items():
        head = "name: p\n" if what is text else ""
        (tmp_path / name).write_text(head + textwrap.dedent(what))
    (tmp_path / "sub").mkdir()
    document = await run(tmp_path)
    did = (tmp_path / "did").read_text().splitlines() if (tmp_path / "did").exists() else []
    for path, value in expected.items():
        if path.startswith("did"):
            assert (sorted(did) if path == "did sorted" else did) == value
        elif path == "files":
            assert sorted(str(p.relative_to(tmp_path)) for p in (tmp_path / "sub").rglob("*") if p.is_file()) == value
        elif path == "again":
            again = await run(tmp_path)
            assert {name: task["state"] for name, task in again["tasks"].items()} == value
        elif path == "waits":
            waited = [attempt["waited_s"] for attempt in document["tasks"]["a"]["attempt_list"][1:]]
            assert waited == value
        elif path == "differ":
            assert len({look_up(document, place) for place in value}) == len(value)
        elif path == "warns":
            assert any(value in warning for warning in document["warnings"])
        else:
            assert look_up(document, path) == value, path


def all_keys() -> set[str]:
    """Each key that means something now, as `NAME` of a pipeline, of a task, or `TABLE.NAME`."""
    found = {name for name, key in table.PIPELINE.items() if not key.inactive}
    own = {name for name, key in table.TASK.items() if not key.inactive}
    found |= {f"TASK.{name}" if name in table.PIPELINE else name for name in own}
    for name in (
        "RETRY",
        "INPUT",
        "OUTPUT",
        "FOREACH",
        "GATE",
        "APPROVE",
        "REPEAT",
        "WAIT",
        "LOG",
        "LIMIT",
        *SERVICE_TABLES,
    ):
        found |= {f"{name}.{key}" for key, known in getattr(table, name).items() if not known.inactive}
    return found


def test_no_key_is_left_out() -> None:
    """And what is named elsewhere is there."""
    here = {key for keys in CASES for key in keys.split(", ")}
    assert all_keys() == here | ELSEWHERE.keys()
    assert not here & ELSEWHERE.keys()
    for place in ELSEWHERE.values():
        file, _, name = place.partition("::")
        assert f"def {name}(" in (TESTS / file).read_text(encoding="utf-8"), place
