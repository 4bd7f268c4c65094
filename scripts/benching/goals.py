"""What is asked of flowd: one table, a goal a row."""

from __future__ import annotations

from dataclasses import dataclass

FLOWD = "flowd"
IDEAL = "ideal"
SECONDS = "seconds"
CPU = "cpu"
SCALING = "scaling"


@dataclass(frozen=True)
class Goal:
    """One figure of a case, and what it is held against.

    With `over`, the value is the ratio of flowd's `figure` to that of the side `over`; without,
    it is the figure itself, in `unit`. `must` and `aim` are the most that it may be: `must` gates
    with --strict. A goal without either is shown, since a figure says something. `side` is which
    of flowd's sides is meant, `at` the only size at which it is asked, `what` names the figure.
    """

    case: str
    over: str = ""
    must: float | None = None
    aim: float | None = None
    figure: str = SECONDS
    unit: str = "x"
    what: str = ""
    side: str = FLOWD
    at: int | None = None

    def verdict(self, value: float) -> str:
        """`ok`, `short of aim` or `SHORT`; empty where nothing is asked."""
        if self.must is not None and value > self.must:
            return "SHORT"
        if self.aim is not None and value > self.aim:
            return "short of aim"
        return "ok" if self.must is not None or self.aim is not None else ""


RUN, YAML, TEXT = "flowd run", "YAML", "by a shell"
PYTHON = "python -c pass"

GOALS: tuple[Goal, ...] = (
    Goal("W1", "L0"),
    Goal("W1", "L1"),
    Goal("W1", "L2", aim=3.5),
    Goal("W1", "L3", must=1.0),
    Goal("W1", "L4"),
    Goal("W1", "aiodag", aim=1.0, at=10_000),
    Goal("W1", "hamilton", aim=1.0, at=10_000),
    Goal("W1", "dbos", aim=1 / 100),
    Goal("W1", "prefect", aim=1 / 150),
    Goal("W1", "1,000", must=1.3, aim=1.1, figure=SCALING, what="a task beside one of 1,000"),
    Goal("W1", must=60, aim=45, figure="peak_mb", unit="MB", what="peak memory of the process", at=1_000),
    Goal("W1", must=60, aim=20, figure="over_idle_mb", unit="MB", what="peak memory over idle", at=10_000),
    Goal("W2", "L0"),
    Goal("W2", "L2", aim=4.0),
    Goal("W2", "L3", must=1.0),
    Goal("W2", "L4"),
    Goal("W2n", "L3w", must=1.2),
    Goal("W2n", "L4", aim=1.0),
    Goal("W3", "L0"),
    Goal("W3", "L1"),
    Goal("W3", "L2", aim=3.5),
    Goal("W3", "L3", must=1.0),
    Goal("W4", IDEAL, must=1.05, aim=1.03),
    Goal("W4", "L2"),
    Goal("W5", "make -j2", must=1.6, aim=1.2),
    Goal("W5", "ninja -j2"),
    Goal("W5", "xargs -P2"),
    Goal("W5", "make -j2", side=TEXT),
    Goal("W5", "make -j2", side=RUN),
    Goal("W6", "python stat", must=3.0, aim=2.0),
    Goal("W6", "doit", must=0.5),
    Goal("W6", "ninja"),
    Goal("W6", "make"),
    Goal("W6", "python stat", side=YAML),
    Goal("W7v", PYTHON, must=3.0, aim=2.0),
    Goal("W7h", PYTHON, must=6.0, aim=5.0),
    Goal("W7c", PYTHON),
    Goal("W7r", PYTHON, must=25.0, aim=16.0),
    Goal("W7n", PYTHON, must=20.0, aim=14.0),
    Goal("W8", "L3", must=2.0, aim=1.2),
    Goal("W8", "L3, a journal each"),
    Goal("W8", "dbos", aim=1 / 30),
    Goal("W8", "prefect", aim=1 / 30),
    Goal("W8", "dagster", aim=1 / 30),
    Goal("W9", "L3"),
    Goal("W9", must=1.3, aim=1.1, figure="last", what="the last beside the ten-thousandth"),
    Goal("W9", must=2.0, aim=1.0, figure="kb_a_task", unit="kB", what="a task, its pipeline included"),
    Goal("W9", figure="kb_built", unit="kB", what="of that its pipeline"),
    Goal("W10", must=7.0, aim=5.0, figure="us_an_event", unit="µs", what="an event, until the run goes on"),
    Goal("W10", figure="us_folded", unit="µs", what="an event, read, checked and folded"),
    Goal("W10", "crc and JSON"),
    Goal("W11", "process pool", must=3.0, aim=2.0),
    Goal("W11", "a python each"),
    Goal("W12", must=20.0, aim=10.0, figure="p99_ms", unit="ms", what="lag of the host's loop, p99"),
    Goal("W12", figure="p50_ms", unit="ms", what="lag of the host's loop, p50"),
    Goal("W12", figure="max_ms", unit="ms", what="lag of the host's loop, most"),
    Goal("W12", "L3", figure="p99_ms", unit="x", what="p99"),
    Goal("W12", "L2", figure="p99_ms", unit="x", what="p99"),
    Goal("W13", must=300, aim=200, figure="peak_mb", unit="MB", what="peak memory of the process"),
    Goal("W13", "L3"),
    Goal("M", figure="pending_kb", unit="kB", what="a pending task"),
    Goal("M", figure="running_kb", unit="kB", what="a running task"),
    Goal("M", figure="finished_kb", unit="kB", what="a finished task"),
    Goal("M", figure="spec_kb", unit="kB", what="its pipeline, before the run"),
)


def goals_of(case: str, tasks: int) -> list[Goal]:
    """The goals of a case at a size, in the table's order."""
    return [goal for goal in GOALS if goal.case == case and goal.at in {None, tasks}]
