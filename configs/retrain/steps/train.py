"""Fit a ridge regression; each training is entered in history.jsonl beside the model, so none may happen unasked.

python steps/train.py --input data/features/features.csv --output model/model.pkl --alpha 10
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
import time
from datetime import UTC, datetime

from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from step import BadInput, Done, arguments, main, write_bytes
from table import TARGET, read_rows


def train(options: argparse.Namespace) -> Done:
    """Learn from the rows that are not held out."""
    rows = [row for row in read_rows(options.input, TARGET, "held_out") if not row["held_out"]]
    names = [name for name in (rows or [{}])[0] if name not in {TARGET, "held_out"}]
    if not rows or not names:
        raise BadInput(f"{options.input} leaves nothing to learn from")
    seen, targets = [[row[name] for name in names] for row in rows], [row[TARGET] for row in rows]
    began = time.perf_counter()
    model = make_pipeline(StandardScaler(), Ridge(alpha=options.alpha)).fit(seen, targets)
    duration = round(time.perf_counter() - began, 4)
    score = round(float(model.score(seen, targets)), 4)
    params = {"model": "ridge", "alpha": options.alpha, "rows": len(rows), "features": len(names)}
    write_bytes(options.output, pickle.dumps({"model": model, "features": names, "params": params}))
    entry = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "params": params, "training_score": score}
    with options.output.with_name("history.jsonl").open("a", encoding="utf-8") as history:
        history.write(json.dumps(entry) + "\n")
    return Done(
        f"learned from {len(rows)} rows in {duration}s: R2 {score} on them",
        {"training_score": score},
        {"params": params, "training_duration_s": duration},
    )


if __name__ == "__main__":
    parser = arguments("Fit the model.", "what features wrote", "where the model goes")
    parser.add_argument(
        "--alpha", type=float, default=10.0, metavar="A", help="how strongly weights are held down (10)"
    )
    sys.exit(main(parser, train))
