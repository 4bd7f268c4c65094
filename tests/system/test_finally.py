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
