"""`retrain`, from its first run to a deployed model: what is fresh, what is measured, who has to be asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import copied, ran
from flowd_process import Place, span, states, until

WEEKLY = {"ingest_data", "validate_data", "clean_data", "feature_engineering", "train_model", "evaluate_model"}


@pytest.fixture
def retrain(tmp_path: Path) -> Iterator[Place]:
    """The retrain pipeline, never run."""
    with copied("retrain", tmp_path) as opened:
        yield opened


def test_from_the_table_to_a_measured_model(retrain: Place) -> None:
    """The weekly part runs by itself, is fresh the second time, and forced it trains again."""
    first = retrain.json("run", "pipeline.yaml", "evaluate_model", "validate_data")
    assert set(states(first)) == WEEKLY
    assert set(states(first).values()) == {"succeeded"}
    assert first["warnings"] == []
    metrics = first["tasks"]["evaluate_model"]["metrics"]
    assert metrics["r2"] == pytest.approx(0.52, abs=0.02)
    assert metrics["mae"] == pytest.approx(43, abs=1)
    validate, clean = (span(first["tasks"][name]) for name in ("validate_data", "clean_data"))
    assert validate[0] < clean[1]
    assert clean[0] < validate[1]
    assert ran(retrain.ok("run", "pipeline.yaml", "evaluate_model", "validate_data", "--events")) == set()
    assert len(retrain.lines("model/history.jsonl")) == 1
    forced = retrain.ok("run", "pipeline.yaml", "evaluate_model", "validate_data", "--force", "--events")
    assert ran(forced) == WEEKLY
    assert len(retrain.lines("model/history.jsonl")) == 2
    assert json.loads((retrain.folder / "reports/validation_report.json").read_text())["status"] == "passed"


def test_a_person_signs_it_off_twice(retrain: Place) -> None:
    """The report waits, showing validation and metrics, then the deployment, showing the report; then all is done."""
    waiting = retrain.run("run")
    assert waiting.code == 3, waiting.said
    document = retrain.json("show")
    assert states(document) == {
        **dict.fromkeys(WEEKLY, "succeeded"),
        "generate_report": "waiting",
        "deploy_model": "pending",
    }
    assert f"flowd approve {document['run']} generate_report" in waiting.said
    approval = document["tasks"]["generate_report"]["approval"]
    assert "R2 0.52" in approval["message"]
    shown = [artifact["path"] for artifact in approval["show"]]
    assert shown == ["reports/validation_report.json", "reports/evaluation_metrics.json"]
    second = retrain.run("approve", "last", "generate_report", "--comment", "Better than before")
    assert second.code == 3, second.said
    assert retrain.lines("reports/final_report.md")[-1].endswith(": Better than before")
    assert not retrain.lines("deployed/history.jsonl")
    retrain.ok("approve", "last", "deploy_model")
    assert set(states(retrain.json("show")).values()) == {"succeeded"}
    assert (retrain.folder / "deployed/model.pkl").read_bytes() == (retrain.folder / "model/model.pkl").read_bytes()
    assert [len(retrain.lines(f"{place}/history.jsonl")) for place in ("model", "deployed")] == [1, 1]


@pytest.mark.parametrize("task", ["generate_report", "deploy_model"])
def test_a_rejected_model_is_not_deployed(retrain: Place, task: str) -> None:
    """Exit 1 and nothing in place, whichever of the two is rejected."""
    retrain.run("run")
    if task == "deploy_model":
        retrain.run("approve", "last", "generate_report")
    rejected = retrain.run("reject", "last", task, "--comment", "Not in December")
    assert rejected.code == 1, rejected.said
    document = retrain.json("show", "last")
    assert document["state"] == "failed"
    assert document["tasks"][task]["reason"]["code"] == "rejected"
    assert states(document)["deploy_model"] == ("failed" if task == "deploy_model" else "upstream_failed")
    assert not (retrain.folder / "deployed").exists()


def test_a_failed_threshold_stops_before_the_sign_off(retrain: Place) -> None:
    """Exit 1, nobody is asked, and the message has the expression, the value and the bound."""
    ended = retrain.run("run", "-p", "min_r2=0.9")
    assert ended.code == 1, ended.said
    document = retrain.json("show", "last")
    assert states(document) == {
        **dict.fromkeys(WEEKLY, "succeeded"),
        "evaluate_model": "failed",
        "generate_report": "upstream_failed",
        "deploy_model": "upstream_failed",
    }
    message = document["tasks"]["evaluate_model"]["error"]["message"]
    for said in ("metrics.r2 >= params.min_r2", "0.52", "0.9"):
        assert said in message
        assert said in ended.err


def test_killed_approved_and_resumed_it_trains_once(retrain: Place) -> None:
    """SIGKILL while the model is measured; days later it is resumed, approved by another process, and resumed again."""
    process = retrain.begin("run", "--events")
    until(lambda: json.loads(process.stdout.readline() or "null")["task"] == "evaluate_model")
    process.kill()
    process.wait()
    assert retrain.run("resume").code == 3
    assert states(retrain.json("show"))["generate_report"] == "waiting"
    retrain.ok("approve", "last", "generate_report", "--no-run")
    assert retrain.run("resume").code == 3
    retrain.ok("approve", "last", "deploy_model")
    assert set(states(retrain.json("show")).values()) == {"succeeded"}
    assert [len(retrain.lines(f"{place}/history.jsonl")) for place in ("model", "deployed")] == [1, 1]


def test_a_failed_validation_fails_the_run_before_the_sign_off(retrain: Place) -> None:
    """The model is trained and measured all the same; the sign-off, which shows the validation, has nothing to show."""
    source = retrain.folder / "data/source.csv"
    source.write_text(source.read_text().replace("\n59,2,32.1,", "\n59,2,9.1,", 1))
    ended = retrain.run("run")
    assert ended.code == 1, ended.said
    assert states(retrain.json("show")) == {
        **dict.fromkeys(WEEKLY, "succeeded"),
        "validate_data": "failed",
        "generate_report": "upstream_failed",
        "deploy_model": "upstream_failed",
    }
    report = json.loads((retrain.folder / "reports/validation_report.json").read_text())
    assert report["errors"] == ["bmi: 1 values are not between 10 and 80, such as 9.1"]
