"""Pipelines inside of others from the command line: killed, cancelled, paused and answered across the boundary."""

from __future__ import annotations

import json
import signal

import pytest

from flowd_process import Place, until

STEPS = [f"s{number}" for number in range(6)]


def pipelines(here: Place, seconds: float = 0.05, **inner: object) -> None:
    """An outer pipeline whose middle task is a chain of commands, each of which leaves a line."""
    chain = {
        name: {
            "needs": STEPS[number - 1 : number] if number else [],
            "run": f"echo $FLOWD_TASK >> ../effects; sleep {seconds}",
            **inner,
        }
        for number, name in enumerate(STEPS)
    }
    chain["last"] = {"needs": STEPS[-1], "run": "echo {{ params.n + 1 }} > $FLOWD_RESULT"}
    document = {"name": "chain", "params": {"n": 0}, "result": "{{ tasks.last.result }}", "tasks": chain}
    here.write("inner/pipeline.yaml", json.dumps(document))
    here.pipeline(
        {
            "first": {"run": "echo 41 > $FLOWD_RESULT"},
            "chain": {
                "needs": "first",
                "pipeline": "inner/pipeline.yaml",
                "with": {"n": "{{ tasks.first.result }}"},
            },
            "after": {"needs": "chain", "run": "echo {{ tasks.chain.result }} > $FLOWD_RESULT"},
        }
    )


@pytest.mark.parametrize("after", [1, 3, 6])
def test_killed_inside(here: Place, after: int) -> None:
    """One resume of the outer run goes on with both; what had durably finished inside does not run again."""
    pipelines(here)
    process = here.begin("run", "--run-id", "r")
    until(lambda: len(here.lines("effects")) >= after)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = here.json("show", "r+chain")["tasks"]
    done = [name for name in STEPS if name in before and before[name]["state"] == "succeeded"]
    document = here.json("resume", "r")
    assert document["state"] == "succeeded"
    assert document["tasks"]["after"]["result"] == 42
    assert document["tasks"]["chain"]["child"] == "r+chain"
    effects = here.lines("effects")
    assert set(effects) == set(STEPS)
    assert all(effects.count(name) == 1 for name in done)
    assert here.json("show", "r+chain")["state"] == "succeeded"
    assert {run["run"] for run in here.json("runs")["runs"]} == {"r", "r+chain"}


def test_cancelled_from_another_terminal(here: Place) -> None:
    """The cancel of the outer run ends the inner one; `last` is the outer one."""
    pipelines(here, seconds=0.5)
    process = here.begin("run")
    until(lambda: len(here.lines("effects")) >= 2)
    here.ok("cancel", "last")
    process.communicate()
    assert process.returncode == 1
    document = here.json("show", "last")
    assert (document["pipeline"], document["state"]) == ("p", "cancelled")
    inner = here.json("show", document["tasks"]["chain"]["child"])
    assert inner["state"] == "cancelled"
    count = len(here.lines("effects"))
    assert count < len(STEPS)
    document = here.json("retry", document["run"])
    assert document["state"] == "succeeded"
    assert len(here.lines("effects")) <= len(STEPS) + 1


def test_interrupted_and_gone_on_with(here: Place) -> None:
    """A stop signal leaves both resumable; `resume --all` goes on with the outer one, and the inner one with it."""
    pipelines(here, seconds=0.5)
    process = here.begin("run", "--run-id", "r")
    until(lambda: len(here.lines("effects")) >= 2)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert here.json("show", "r+chain")["state"] == "interrupted"
    here.ok("resume", "--all")
    assert here.json("show", "r")["state"] == "succeeded"
    assert here.json("show", "r+chain")["exit_code"] == 0


def test_a_question_inside(here: Place) -> None:
    """Exit 3 and the exact commands, which then lead to the end."""
    inner = {"name": "asking", "result": "{{ tasks.q.result.comment }}", "tasks": {"q": {"approve": {"message": "?"}}}}
    here.write("asking.yaml", json.dumps(inner))
    here.pipeline({"ask": {"pipeline": "asking"}, "after": {"needs": "ask", "run": "true"}})
    ended = here.run("run", "--run-id", "r")
    assert ended.code == 3, ended.said
    commands = [line.partition("next: ")[2] for line in (ended.out + ended.err).splitlines() if "next: " in line]
    assert commands == ["flowd approve r+ask q", "flowd resume r"]
    why = here.json("why", "r", "ask")
    assert (why["code"], why["next"], why["details"]["child"]) == ("child_waits", commands[0], "r+ask")
    refused = here.run("approve", "r", "ask")
    assert (refused.code, commands[0] in refused.err) == (2, True)
    answered = here.run("approve", "r+ask", "q", "--comment", "go")
    assert answered.code == 0, answered.said
    assert "next: flowd resume r" in answered.out + answered.err
    document = here.json("resume", "r")
    assert document["state"] == "succeeded"
    assert document["tasks"]["ask"]["result"] == "go"


def test_what_is_uncertain_inside(here: Place) -> None:
    """Killed in a task that must not begin twice, the outer run waits for a person; nothing begins twice."""
    pipelines(here, idempotent=False)
    process = here.begin("run", "--run-id", "r")
    until(lambda: len(here.lines("effects")) >= 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    ended = here.run("resume", "r")
    assert ended.code == 3, ended.said
    (command,) = [line for line in (ended.out + ended.err).splitlines() if "next: flowd resolve" in line]
    name = command.split()[4]
    assert command == f"next: flowd resolve r+chain {name} --as VERDICT"
    ended = here.run("resolve", "r+chain", name, "--as", "succeeded")
    assert ended.code == 0, ended.said
    assert here.json("resume", "r")["tasks"]["after"]["result"] == 42
    assert here.lines("effects") == STEPS


def test_an_id_with_the_mark_is_refused(here: Place) -> None:
    """It is for the runs of tasks."""
    pipelines(here)
    assert "is for runs of tasks" in here.run("run", "--run-id", "a+b").err
