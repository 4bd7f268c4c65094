"""`scoring`, from its first run to the day after: a model updated in place, and what starts it without a daemon."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from examples import CONFIGS, PRODUCED, copied, ran
from flowd_process import Place, states

DAILY = ["ingest", "clean", "train_or_score"]
DAILY_RUN = ("run", "pipeline.yaml", "train_or_score")


@pytest.fixture
def scoring(tmp_path: Path) -> Iterator[Place]:
    """The scoring pipeline, never run."""
    with copied("scoring", tmp_path) as opened:
        yield opened


def scores(place: Place) -> dict[str, float]:
    """Each quarter's score, as written."""
    rows = json.loads((place.folder / "data/scores.json").read_text())["rows"]
    return {row["quarter"]: row["score"] for row in rows}


def raw(place: Place) -> list[str]:
    """The lines of the raw file."""
    return place.lines("data/raw.csv")


def test_the_model_is_updated_in_place_and_not_stale(scoring: Place) -> None:
    """Its own writing makes nothing stale; forced, it learns nothing twice; another hand's edit is noticed."""
    first = scoring.ok(*DAILY_RUN, "--events")
    assert ran(first) == set(DAILY)
    assert ran(scoring.ok(*DAILY_RUN, "--events")) == set()
    before, model = scores(scoring), (scoring.folder / "model/model.pkl").read_bytes()
    forced = scoring.json(*DAILY_RUN, "--force")
    assert set(states(forced).values()) == {"succeeded"}
    assert forced["tasks"]["train_or_score"]["metrics"]["learned"] == 0
    assert scores(scoring) == before
    assert (scoring.folder / "model/model.pkl").read_bytes() == model
    assert ran(scoring.ok(*DAILY_RUN, "--events")) == set()
    (scoring.folder / "model/model.pkl").unlink()
    assert ran(scoring.ok(*DAILY_RUN, "--events")) == {"train_or_score"}
    assert scores(scoring) == before


def test_a_new_day_is_scored_before_it_is_learned(scoring: Place) -> None:
    """A row at the end: the quarter before it is learned, once, and keeps the score that it had been given."""
    path = scoring.folder / "data/raw.csv"
    *lines, last = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines))
    scoring.ok(*DAILY_RUN)
    foreseen = scores(scoring)["2009Q2"]
    path.write_text("".join([*lines, last]))
    document = scoring.json(*DAILY_RUN)
    assert set(states(document).values()) == {"succeeded"}
    assert document["tasks"]["train_or_score"]["metrics"]["learned"] == 1
    assert scores(scoring)["2009Q2"] == foreseen
    assert list(scores(scoring))[-1] == "2009Q3"


def test_the_scores_alone_are_the_checkpoint(scoring: Place) -> None:
    """The scores' digest is what counts for the tasks below; a cell that is gone shows as null_pct."""
    text = (scoring.folder / "data/raw.csv").read_text()
    (scoring.folder / "data/raw.csv").write_text(text.replace("1960Q1,2847.699,", "1960Q1,,"))
    document = scoring.json(*DAILY_RUN)
    metrics = document["tasks"]["clean"]["metrics"]
    assert (metrics["rows_in"], metrics["rows_out"], metrics["null_pct"]) == (203, 200, 0.08)
    resolved = scoring.json("show", "last", "--resolved")["tasks"]["train_or_score"]
    assert [output["path"] for output in resolved["outputs"] if output["checkpoint"]] == ["data/scores.json"]


def test_the_log_is_on_the_console_and_in_the_file(scoring: Place) -> None:
    """The same lines in both, from the start of each task to its artifacts, and what its log plan names."""
    ended = scoring.ok(*DAILY_RUN)
    log = scoring.lines("logs/scoring.log")
    assert [line for line in ended.err.splitlines() if "run=" in line] == log
    for task in DAILY:
        [begun] = [line for line in log if f"task={task} " in line and "task_started" in line]
        [done] = [line for line in log if f"task={task} " in line and "task_succeeded" in line]
        assert log.index(begun) < log.index(done)
        for name in specification()["tasks"][task]["logs"]:
            assert f"'{name}'" in done
    assert not [line for line in log if "log_plan_missing" in line]


# --- the analyst -------------------------------------------------------------------------------------------


def test_the_report_waits_for_the_analyst(scoring: Place) -> None:
    """Exit 3 and the line to type; the comment lands in the report; the next day the report waits again."""
    waiting = scoring.run("run")
    assert waiting.code == 3, waiting.said
    document = scoring.json("show")
    assert states(document) == {**dict.fromkeys(DAILY, "succeeded"), "report": "waiting"}
    assert f"flowd approve {document['run']} report" in waiting.said
    assert not scoring.lines("reports/report.txt")
    scoring.ok("approve", document["run"], "report", "--comment", "Looks right; see 'Q3' $HOME")
    assert set(states(scoring.json("show")).values()) == {"succeeded"}
    assert scoring.lines("reports/report.txt")[-1] == "Analyst's comment: Looks right; see 'Q3' $HOME"
    again = scoring.json("run", code=3)
    assert states(again) == {**dict.fromkeys(DAILY, "fresh"), "report": "waiting"}
    forced = scoring.run("run", "--force", "--events")
    assert (forced.code, ran(forced)) == (3, set(DAILY))


def test_a_rejected_report_is_not_written(scoring: Place) -> None:
    """Exit 1, and the report of the last time stays as it was; without a comment it says that there is none."""
    scoring.run("run")
    scoring.ok("approve", "last", "report")
    before = scoring.lines("reports/report.txt")
    assert before[-1] == "No comment by an analyst."
    scoring.run("run")
    rejected = scoring.run("reject", "last", "report", "--comment", "The raw file is last week's")
    assert rejected.code == 1, rejected.said
    report = scoring.json("show")["tasks"]["report"]
    assert (report["state"], report["reason"]["code"]) == ("failed", "rejected")
    assert "The raw file is last week's" in scoring.ok("show").said
    assert scoring.lines("reports/report.txt") == before


def test_without_the_key_the_report_is_automatic(scoring: Place) -> None:
    """Removing `approve` is all it takes: the report is written, and is fresh the next time."""
    path = scoring.folder / "pipeline.yaml"
    text, removed = re.subn(r"    approve:.*\n(      .*\n)+(?=    run)", "", path.read_text())
    assert removed == 1
    path.write_text(text)
    scoring.ok("run")
    assert scoring.lines("reports/report.txt")[-1] == "No comment by an analyst."
    assert set(states(scoring.json("run")).values()) == {"fresh"}


# --- without a daemon --------------------------------------------------------------------------------------


def specification() -> dict[str, Any]:
    """The pipeline file as data."""
    found: dict[str, Any] = yaml.safe_load((CONFIGS / "scoring/pipeline.yaml").read_text())
    return found


def crontab() -> list[tuple[str, str]]:
    """(when, command) of each line of the crontab."""
    lines = [line for line in (CONFIGS / "scoring/crontab").read_text().splitlines() if re.match(r"[\d*]", line)]
    return [(" ".join(line.split()[:5]), line.split(maxsplit=5)[5]) for line in lines]


def workflow() -> dict[Any, Any]:
    """The CI workflow as data; YAML reads its `on` as true."""
    found: dict[Any, Any] = yaml.safe_load((CONFIGS / "scoring/workflow.yaml").read_text())
    return found


def commands() -> list[str]:
    """The command lines of flowd that cron and the CI service are to start."""
    steps = workflow()["jobs"]["daily"]["steps"]
    texts = [command for _, command in crontab()] + [step["run"] for step in steps if "run" in step]
    return sorted({found[0] for text in texts if (found := re.search(r"(?<=\bflowd )run [^>|]*[^>| ]", text))})


def test_what_cron_and_the_ci_service_start_runs(here: Place) -> None:
    """Each of their commands, from the project's root, does its part; the scores are there afterwards."""
    shutil.copytree(CONFIGS / "scoring", here.folder / "configs/scoring", ignore=PRODUCED)
    assert commands() == [
        "run configs/scoring/pipeline.yaml report --no-input",
        "run configs/scoring/pipeline.yaml train_or_score --no-input",
    ]
    weekly, daily = map(shlex.split, commands())
    here.ok(*daily)
    assert here.lines("configs/scoring/data/scores.json")
    waiting = here.run(*weekly)
    assert (waiting.code, "next: flowd approve" in waiting.out) == (3, True), waiting.said


def test_the_crontab_is_a_line_for_the_shell(scoring: Place) -> None:
    """A line as cron hands it to the shell: silent where the run succeeds, else all that it said."""
    (scoring.folder / ".venv/bin").mkdir(parents=True)
    program = scoring.folder / ".venv/bin/flowd"
    _, command = crontab()[0]
    for code, said in ((0, ""), (3, "run configs/scoring/pipeline.yaml train_or_score --no-input\n")):
        program.write_text(f'#!/bin/sh\necho "$@"\nexit {code}\n')
        program.chmod(0o755)
        env = {"PROJECT": str(scoring.folder), "HOME": str(scoring.folder), "PATH": "/usr/bin:/bin"}
        assert printed(command, env) == said


def printed(command: str, env: dict[str, str]) -> str:
    """What a line of the shell prints, which cron would mail."""
    return subprocess.run(["/bin/sh", "-c", command], env=env, capture_output=True, text=True, check=True).stdout


def test_the_declarations_are_those_of_the_table() -> None:
    """Owner and retention of each task; the daily and the weekly schedule are those of the crontab."""
    found = specification()
    kept = {
        name: (task["owner"], [out["retention"] for out in task["outputs"] if "retention" in out])
        for name, task in found["tasks"].items()
    }
    assert kept == {
        "ingest": ("data_eng", ["7d"]),
        "clean": ("data_eng", ["14d"]),
        "train_or_score": ("ml_eng", ["30d"]),
        "report": ("analyst", ["90d"]),
    }
    declared = [(entry["cron"].replace("mon", "1"), *entry["tasks"]) for entry in found["schedule"]]
    assert declared == [(when, command.split("pipeline.yaml ")[1].split()[0]) for when, command in crontab()]


def test_what_is_declared_may_be_acted_on(scoring: Place) -> None:
    """The file is valid, and so is what its comment says about Slack."""
    assert "ok, 4 tasks" in scoring.ok("validate", "pipeline.yaml").out
    path = scoring.folder / "pipeline.yaml"
    text = path.read_text()
    [secrets, to] = re.findall(r"secrets: \{.*\}\}|to: \[owner, .*\]", text)
    path.write_text(
        text.replace("{on: [failed], to: [owner]}", f"{{on: [failed], {to}}}").replace(
            "notify:\n", f"{secrets}\nnotify:\n"
        )
    )
    assert "SCORING_SLACK" in path.read_text().partition("\nsecrets: ")[2]
    assert "ok, 4 tasks" in scoring.ok("validate", "pipeline.yaml").out
