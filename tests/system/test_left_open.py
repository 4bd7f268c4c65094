"""Runs that were left: `show` says that their owner is dead, `run` and `plan` name them with what to type."""

from __future__ import annotations

from flowd_process import Place, until


def test_a_run_whose_owner_died_is_named(here: Place) -> None:
    """The task is cut off, not running; another run and a plan say which command goes on with the first."""
    here.write("pipeline.yaml", "name: p\ntasks: {a: {run: 'echo a >> did; test -e free || sleep 60'}}\n")
    process = here.begin("run", "--run-id", "one")
    until(here.has("did"))
    until(lambda: "task_started" in here.journal("one").read_text())
    assert "owner is dead" not in here.ok("show", "one").out
    process.kill()
    process.wait()
    assert "its owner is dead: what is shown as running was cut off; flowd resume one goes on" in here.ok("show").out
    assert here.json("show")["tasks"]["a"]["reason"]["code"] == "owner_died"
    here.write("free", "")
    said = "run one was left unfinished: flowd resume one"
    assert said in here.ok("plan").err
    assert said in here.ok("run", "--run-id", "two").err
    assert said not in here.ok("run", "--run-id", "one").err  # it is this one
    assert said not in here.ok("plan").err
