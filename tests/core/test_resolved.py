"""A run's specification with defaults and parameters filled in, and without secrets."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flowd.core import events as e
from flowd.core.declared import Notify, Owner
from flowd.core.resolved import resolved_document
from flowd.core.run import RunState
from flowd.core.spec import Input, Output, Param, PipelineSpec, Retry, Run, TaskSpec
from walk import NOON, task


def resolved(*tasks: TaskSpec, params: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    """The document of a run that has begun with these tasks and parameters."""
    given = params or {}
    declared = {name: Param(default=1) for name in given}
    run = RunState("r1", PipelineSpec(name="p", tasks=tasks, params=declared, **keys))
    run.apply(e.RunStarted(pipeline="p", spec="", params=given), NOON)
    return resolved_document(run)


def shell(text: str | None = None, **fields: Any) -> TaskSpec:
    """A command."""
    return TaskSpec(name="t", action=Run(text=text, argv=fields.pop("argv", None)), executor="shell", **fields)


def test_defaults_are_filled_in() -> None:
    """Each key of a task and of the pipeline has its value, in the words of the file."""
    document = resolved(task("t", retry=Retry(attempts=3), timeout=timedelta(minutes=10)), limits={"cpu": 2.0})
    told = document["tasks"]["t"]
    assert (document["run"], document["name"], document["limits"], document["log"]["console"]) == (
        *("r1", "p", {"cpu": 2.0}, "stderr"),
    )
    assert (told["call"], told["grace"], told["timeout"], told["fresh_for"]) == ("steps:t", "10s", "10m", None)
    assert told["retry"] | {"attempts": 3, "backoff": "constant", "delay": "1s", "max_delay": None} == told["retry"]
    assert not {"name", "action", "with_", "run"} & told.keys()


def test_parameters_are_filled_in_where_they_are_used() -> None:
    """As the shell's words in a `run` text, typed in `with`, in paths and in `env`; other tasks' results stay open."""
    paths = {"inputs": (Input(path="{{ params.who }}.csv"),), "outputs": (Output(path="{{ run.id }}/out"),)}
    one = resolved(
        shell("cat {{ inputs[0] }} {{ params.who }} {{ tasks.a.result }} > {{ outputs[0] }}", **paths),
        params={"who": "a b"},
        env={"N": "{{ params.who }} {{ env.HOME }} {{ run.state }}"},
    )
    told = one["tasks"]["t"]
    assert told["run"] == "cat 'a b.csv' 'a b' {{ tasks.a.result }} > r1/out"
    assert (told["inputs"], told["outputs"]) == (
        ["a b.csv"],
        [{"path": "r1/out", "checkpoint": True, "optional": False, "retention": None, "delete": False}],
    )
    assert one["env"] == {"N": "a b {{ env.HOME }} {{ run.state }}"}
    assert one["params"]["who"]["value"] == "a b"
    other = resolved(task("t", with_={"n": "{{ params.n + 1 }}", "deep": [{"x": "{{ tasks.a.ok }}"}]}), params={"n": 1})
    assert other["tasks"]["t"]["with"] == {"n": 2, "deep": [{"x": "{{ tasks.a.ok }}"}]}
    listed = resolved(shell(argv=("echo", "{{ params.n }}")), params={"n": 7})
    assert listed["tasks"]["t"]["run"] == ["echo", 7]


def test_a_path_that_is_not_known_yet_stays_open() -> None:
    """And so does what is made of it."""
    told = resolved(shell("cat {{ inputs[0] }}", inputs=(Input(path="{{ tasks.a.result }}"),)))["tasks"]["t"]
    assert (told["inputs"], told["run"]) == (["{{ tasks.a.result }}"], "cat {{ inputs[0] }}")


def test_where_people_are_told_is_shown_by_its_scheme() -> None:
    """The rest of a URL may be a key; of a mail its password is hidden; a secret stands as it is named."""
    to = ("slack://TokenA/TokenB/#ops", "mailto://me:hunter2@host", "{{ secrets.HOOK }}", "ops")
    told = resolved(shell("x"), owners={"ops": Owner(notify=to[:1])}, notify=(Notify(on=("failed",), to=to),))
    assert told["owners"] == {"ops": {"notify": ["slack://***"]}}
    assert told["notify"][0]["to"] == ["slack://***", "mailto://***@host", "{{ secrets.HOOK }}", "ops"]
    assert told["secrets"] == {}


def test_secrets_are_not_shown() -> None:
    """Not under a name that speaks of one, not in an address, and not where such a parameter is used."""
    document = resolved(
        shell("login {{ params.api_key }}; curl {{ params.url }}", env={"GH_TOKEN": "hunter2", "MODE": "plain"}),
        task("u", with_={"deep": {"password": "hunter2", "monkey": "yes"}, "x": "{{ run.params.api_key }}"}),
        params={"api_key": "hunter2", "url": "https://me:hunter2@host/x"},
    )
    assert "hunter2" not in str(document)
    told = document["tasks"]["t"]
    assert told["run"] == "login '***'; curl 'https://***@host/x'"
    assert told["env"] == {"GH_TOKEN": "***", "MODE": "plain"}
    assert document["tasks"]["u"]["with"] == {"deep": {"password": "***", "monkey": "yes"}, "x": "***"}
