"""Measure the model on the rows that it has not seen, and hold the figures against their thresholds.

python steps/evaluate.py --input data/features/features.csv --model model/model.pkl
    --output reports/evaluation_metrics.json --min-r2 0.2 --max-mae 60
"""

from __future__ import annotations

import argparse
import pickle
import sys
from pathlib import Path
from typing import Any

from sklearn.metrics import mean_absolute_error, r2_score
from step import BadInput, Done, arguments, main, read_bytes, write_json
from table import TARGET, read_rows


def load(path: Path) -> dict[str, Any]:
    """What train wrote: a pickle, so only of one's own making."""
    content = read_bytes(path)
    try:
        found = pickle.loads(content)  # noqa: S301  # written by train
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, ValueError) as error:
        raise BadInput(f"{path} holds no model ({error}): write it with train.py") from None
    if not isinstance(found, dict) or not {"model", "features", "params"} <= found.keys():
        raise BadInput(f"{path} holds no model of train.py")
    return found


def evaluate(options: argparse.Namespace) -> Done:
    """Write MAE and R2 on the held-out rows, and which thresholds they keep."""
    trained = load(options.model)
    rows = [row for row in read_rows(options.input, TARGET, "held_out", *trained["features"]) if row["held_out"]]
    if len(rows) < 2:
        raise BadInput(f"{options.input} holds out {len(rows)} rows; 2 are needed to measure R2")
    targets = [row[TARGET] for row in rows]
    foreseen = trained["model"].predict([[row[name] for name in trained["features"]] for row in rows])
    metrics = {
        "mae": round(float(mean_absolute_error(targets, foreseen)), 4),
        "r2": round(float(r2_score(targets, foreseen)), 4),
    }
    thresholds = {
        f"r2 >= {options.min_r2:g}": metrics["r2"] >= options.min_r2,
        f"mae <= {options.max_mae:g}": metrics["mae"] <= options.max_mae,
    }
    document = {"metrics": metrics, "thresholds": thresholds, "held_out": len(rows), "params": trained["params"]}
    write_json(options.output, document)
    said = ", ".join(f"{check} {'passed' if kept else 'failed'}" for check, kept in thresholds.items())
    return Done(f"mae {metrics['mae']}, r2 {metrics['r2']}: {said}", metrics, {"thresholds": thresholds})


if __name__ == "__main__":
    parser = arguments("Measure the model.", "what features wrote", "where the figures go")
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="what train wrote")
    parser.add_argument("--min-r2", type=float, default=0.2, metavar="R2", help="the least R2 that passes (0.2)")
    parser.add_argument("--max-mae", type=float, default=60.0, metavar="MAE", help="the greatest MAE that passes (60)")
    sys.exit(main(parser, evaluate))
