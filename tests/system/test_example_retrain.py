"""`retrain`, from its first run to a deployed model: what is fresh, what is measured, who has to be asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples import copied, ran
from flowd_process import Place, span, states

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
