"""Step 3: score each new quarter, then let the model learn from it; the model is updated in place.

A quarter is learned once, when what came after it is known: run again on the same data, the model
stays as it is, to the byte. Remove model/model.pkl to begin anew.

python steps/train_or_score.py --input data/clean.json --model model/model.pkl --output data/scores.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from model import Model, load, save
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import accuracy_score, log_loss
from step import BadInput, Done, arguments, main, read_json, write_json

CLASSES = np.array([False, True])


def learn(model: Model, rows: list[dict[str, Any]]) -> int:
    """Score each quarter not met before, then learn from it; how many there were."""
    new = [row for row in rows if row["rose"] is not None and row["quarter"] not in model.scores]
    for row in new:
        model.scores[row["quarter"]] = model.score(row)
        model.scaler.partial_fit([row["seen"]])
        model.classifier.partial_fit(model.scaler.transform([row["seen"]]), [row["rose"]], classes=CLASSES)
    return len(new)


def measured(model: Model, rows: list[dict[str, Any]]) -> dict[str, float]:
    """How good the scores were, each given before its outcome was known, beside always saying how often it happens."""
    pairs = [(row["rose"], model.scores[row["quarter"]]) for row in rows if row["rose"] is not None]
    if len({rose for rose, _ in pairs}) < len(CLASSES):
        raise BadInput("unemployment must have risen after some quarters and not after others: nothing to learn")
    outcomes, scores = zip(*pairs, strict=True)
    metrics = {
        "accuracy": accuracy_score(outcomes, [score > 0.5 for score in scores]),
        "log_loss": log_loss(outcomes, scores),
        "log_loss_naive": log_loss(outcomes, [float(np.mean(outcomes))] * len(outcomes)),
    }
    return {name: round(float(value), 4) for name, value in metrics.items()}


def train_or_score(options: argparse.Namespace) -> Done:
    """Carry the model on, and write every quarter's score."""
    rows = read_json(options.input, "rows")["rows"]
    params = {"loss": "log_loss", "learning_rate": "constant", "eta0": options.eta0, "random_state": 0}
    model = load(options.model) if options.model.exists() else Model(SGDClassifier(**params))
    model.classifier.set_params(**params)
    learned = learn(model, rows)
    metrics = measured(model, rows)
    scored = [{**row, "score": model.score(row)} for row in rows]
    if learned:
        save(options.model, model)
    latest = scored[-1]
    write_json(options.output, {"params": params, "metrics": metrics, "rows": scored})
    return Done(
        f"learned from {learned} new quarters; {latest['quarter']} scores {latest['score']}",
        {"learned": learned, "score": latest["score"], **metrics},
        {"params": params, "artifact_path": options.output.name},
    )


if __name__ == "__main__":
    parser = arguments("Score the quarters and carry the model on.", "what clean wrote", "where the scores go")
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="the model; updated in place")
    parser.add_argument("--eta0", type=float, default=0.1, metavar="RATE", help="how fast it learns (0.1)")
    sys.exit(main(parser, train_or_score))
