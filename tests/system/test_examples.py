"""The two smallest pipelines that come with flowd, from their first run to what a person does with them next."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import copied, ran
from flowd_process import Place, states

STEPS = ["ingest", "clean", "train_or_score", "report"]


@pytest.fixture
def prices(tmp_path: Path) -> Iterator[Place]:
    """The prices pipeline, never run."""
    with copied("prices", tmp_path) as opened:
        yield opened


@pytest.fixture
def quickstart(tmp_path: Path) -> Iterator[Place]:
    """The quickstart, never run."""
    with copied("quickstart", tmp_path) as opened:
        yield opened


def test_prices_runs_and_is_fresh_the_second_time(prices: Place) -> None:
    """Exit 0 and a report; run again, all is fresh and the line says since when and how to run anyway."""
    first = prices.ok("run", "pipeline.yaml")
    assert [line.split()[1] for line in first.out.splitlines() if line.startswith("  ✓")] == STEPS
    assert first.out.rstrip().splitlines()[-1].startswith("succeeded in ")
    assert "4 ran" in first.out
    assert prices.lines("report.txt")
    second = prices.ok("run", "pipeline.yaml")
    assert second.out.splitlines()[0].startswith("  = 4 tasks are fresh: nothing changed since ")
    assert "0 ran, 4 fresh" in second.out
    assert "--force" in second.out


def test_prices_after_the_raw_data_changed(prices: Place) -> None:
    """Changed content runs what depends on it; a rewrite of the same content runs nothing."""
    prices.ok("run")
    raw = prices.folder / "data/raw.csv"
    lines = raw.read_text().splitlines(keepends=True)
    raw.write_text("".join(lines))
    assert set(states(prices.json("run")).values()) == {"fresh"}
    raw.write_text("".join(lines[:-1]))
    ended = prices.ok("run", "--events")
    assert ran(ended) == set(STEPS)
    assert set(states(prices.json("run")).values()) == {"fresh"}


def test_a_parameter_runs_only_what_uses_it(prices: Place) -> None:
    """Another train_share leaves what came before the training fresh."""
    prices.ok("run")
    ended = prices.ok("run", "-p", "train_share=0.7", "--events")
    assert ran(ended) == {"train_or_score", "report"}


def test_forcing(prices: Place) -> None:
    """--force runs all, --no-skip is the same, --force-task runs that task and, with the same outcome, no other."""
    prices.ok("run")
    assert ran(prices.ok("run", "--force", "--events")) == set(STEPS)
    assert ran(prices.ok("run", "--no-skip", "--events")) == set(STEPS)
    assert ran(prices.ok("run", "--force-task", "clean", "--events")) == {"clean"}


def test_until_and_only(prices: Place) -> None:
    """--until stops after a task; --only runs the one task on what is there."""
    document = prices.json("run", "--until", "clean")
    assert states(document) == {"ingest": "succeeded", "clean": "succeeded"}
    assert not prices.lines("model.json")
    ended = prices.ok("run", "--only", "clean", "--force", "--events")
    assert ran(ended) == {"clean"}


def test_touch_and_forget(prices: Place) -> None:
    """A touched task is fresh although its input changed; a forgotten one runs again."""
    prices.ok("run")
    raw = prices.folder / "data/raw.csv"
    raw.write_text("".join(raw.read_text().splitlines(keepends=True)[:-1]))
    prices.ok("touch", "pipeline.yaml")
    assert set(states(prices.json("run")).values()) == {"fresh"}
    prices.ok("forget", "pipeline.yaml", "clean")
    assert "clean" in ran(prices.ok("run", "--events"))


def test_quickstart_fails_twice_and_succeeds(quickstart: Place) -> None:
    """Two failures cost waits of 0.2 s and 0.4 s, which the journal, the log file and the document show."""
    ended = quickstart.ok("run", "-p", "fail_times=2")
    assert "again in 0.2s" in ended.err
    assert "again in 0.4s" in ended.err
    [*_, last] = quickstart.lines("logs/pipeline.log")
    assert "run_finished" in last
    log = [line for line in quickstart.lines("logs/pipeline.log") if "task_retry_scheduled" in line]
    assert ["delay_s=0.2" in log[0], "delay_s=0.4" in log[1], len(log)] == [True, True, 2]
    events = quickstart.ok("events", "last", "--json").events
    planned = [event["delay_s"] for event in events if event["event"] == "task_retry_scheduled"]
    assert planned == pytest.approx([0.2, 0.4])
    attempts = quickstart.json("show", "last")["tasks"]["ingest"]["attempt_list"]
    waited = [attempt["waited_s"] for attempt in attempts]
    assert [attempt["n"] for attempt in attempts] == [1, 2, 3]
    assert waited[0] in {None, 0}
    assert waited[1] == pytest.approx(0.2, abs=0.15)
    assert waited[2] == pytest.approx(0.4, abs=0.15)


def test_quickstart_fails_for_good_and_is_retried(quickstart: Place) -> None:
    """Exit 1; the summary names task, error and what to type; `retry` goes on with attempt 4."""
    failed = quickstart.run("run", "-p", "fail_times=4")
    assert failed.code == 1, failed.said
    document = quickstart.json("show")
    assert states(document) == {
        "ingest": "failed",
        "clean": "upstream_failed",
        "fit": "upstream_failed",
        "report": "upstream_failed",
    }
    assert document["tasks"]["ingest"]["error"]["type"] == "ConnectionError"
    [*_, cause, following] = failed.err.rstrip().splitlines()
    assert cause.startswith("  ingest failed 3 of 3 attempts: ConnectionError: the price source does not answer")
    assert following == f"next: flowd retry {document['run']}"
    retried = quickstart.run(*following.split()[2:])
    assert retried.code == 0, retried.said
    document = quickstart.json("show")
    assert set(states(document).values()) == {"succeeded"}
    assert document["tasks"]["ingest"]["attempts"] == 5
    assert json.loads((quickstart.folder / "model.json").read_text())["mean"] == pytest.approx(100.775)


def test_quickstart_console_and_file_have_the_same_lines(quickstart: Place) -> None:
    """`log.console: stdout` and `log.file` hold the same lines, and the summary is on stderr."""
    ended = quickstart.ok("run")
    assert ended.out.splitlines() == quickstart.lines("logs/pipeline.log")
    assert "succeeded in" in ended.err


def test_json_is_refused_where_the_log_owns_stdout(quickstart: Place) -> None:
    """--json beside `log.console: stdout` is a usage error, and nothing was run or written for it."""
    refused = quickstart.run("run", "--json")
    assert (refused.code, refused.out) == (2, "")
    assert "log.console" in refused.err
    assert not quickstart.state.exists()
