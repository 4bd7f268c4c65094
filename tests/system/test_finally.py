"""`finally` in real runs: over a SIGKILL between the last task and it, after an interruption, and in its scope."""

from __future__ import annotations

from flowd_process import Place, until

FILE = """
name: closing
tasks:
  work: {run: "echo work >> did; exit 3"}
finally:
  tidy: {run: "echo tidy {{ run.state }} {{ run.failed[0] }} {{ run.error.type }} >> did; test ! -e slow || sleep 30"}
  alarm: {needs: tidy, when: run.failed, run: "echo alarm >> did"}
"""


def test_a_killed_engine_leaves_it_to_the_next(here: Place) -> None:
    """Killed while it runs, the run goes on with it when it is resumed: what had been done before is not done again."""
    here.write("pipeline.yaml", FILE)
    here.write("slow", "")
    process = here.begin("run")
    until(lambda: len(here.lines("did")) == 2)
    process.kill()
    process.wait()
    (here.folder / "slow").unlink()
    assert here.run("resume").code == 1
    assert here.lines("did") == ["work", *["tidy failed work CommandFailed"] * 2, "alarm"]
    assert here.run("resume").code == 1  # it has ended
    assert len(here.lines("did")) == 4


def test_a_cancel_of_what_nobody_owns_runs_it(here: Place) -> None:
    """The command that cancels does it, once; nothing is left for a `resume`."""
    asks = {"approve": {"message": "go?"}}
    here.pipeline({"ask": asks, "work": {"needs": "ask", "run": "echo work >> did"}}, **{"finally": CLEANING})
    assert here.run("run", "--run-id", "r", "--no-input").code == 3
    assert "run r is cancelled" in here.ok("cancel", "r", "--reason", "enough").out
    assert here.lines("did") == ["tidy cancelled"]
    document = here.json("show", "r")
    assert (document["state"], document["tasks"]["tidy"]["state"]) == ("cancelled", "succeeded")
    here.ok("cancel", "r")
    assert here.lines("did") == ["tidy cancelled"]


def test_a_cancel_that_cannot_run_it_leaves_it_to_a_resume(here: Place) -> None:
    """The code of `finally` is gone: the run is cancelled all the same, and the next line to type is said."""
    here.write("steps.py", "def tidy():\n    open('did', 'a').write('tidy\\n')\n")
    asks = {"approve": {"message": "go?"}}
    here.pipeline({"ask": asks}, **{"finally": {"tidy": {"call": "steps:tidy"}}})
    assert here.run("run", "--run-id", "r", "--no-input").code == 3
    (here.folder / "steps.py").rename(here.folder / "away.py")
    said = here.ok("cancel", "r")
    assert "run r is cancelled, but for what stands under `finally`\nnext: flowd resume r\n" in said.out
    assert "steps" in said.err
    assert here.lines("did") == []
    (here.folder / "away.py").rename(here.folder / "steps.py")
    here.run("resume", "r")
    assert (here.lines("did"), here.json("show", "r")["state"]) == (["tidy"], "cancelled")


CLEANING = {"tidy": {"run": "echo tidy {{ run.state }} >> did"}}
