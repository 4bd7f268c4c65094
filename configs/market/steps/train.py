"""Fit a ridge regression of the index's daily return; the last fifth of the days is held out.

python steps/train.py --input cleaned_data.csv --output trained_model.pkl --alpha 1
"""

from __future__ import annotations

import argparse
import pickle
import sys

from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from step import BadInput, Done, arguments, main, write_bytes
from table import FEATURES, TARGET, read_numbers

HELD_OUT = 0.2


def train(options: argparse.Namespace) -> Done:
    """Learn from the days before, measure on those after."""
    _, features, targets = read_numbers(options.input)
    cut = round(len(features) * (1 - HELD_OUT))
    if cut < len(FEATURES) or len(features) - cut < 2:
        raise BadInput(f"{options.input} has {len(features)} rows, too few to learn from")
    model = make_pipeline(StandardScaler(), Ridge(alpha=options.alpha)).fit(features[:cut], targets[:cut])
    metrics = {}
    for part, rows in {"train": slice(None, cut), "test": slice(cut, None)}.items():
        foreseen = model.predict(features[rows])
        metrics[f"{part}_r2"] = round(float(r2_score(targets[rows], foreseen)), 4)
        metrics[f"{part}_rmse"] = round(float(mean_squared_error(targets[rows], foreseen)) ** 0.5, 4)
    params = {"model": "ridge", "alpha": options.alpha, "rows": cut, "features": FEATURES, "target": TARGET}
    write_bytes(options.output, pickle.dumps({"model": model, "hyperparameters": params, "metrics": metrics}))
    return Done(
        f"test R2 {metrics['test_r2']}, RMSE {metrics['test_rmse']} points of percent",
        metrics,
        {"hyperparameters": params},
    )


if __name__ == "__main__":
    parser = arguments("Fit the model.", "what clean wrote", "where the model goes")
    parser.add_argument("--alpha", type=float, default=1.0, metavar="A", help="how strongly weights are held down (1)")
    sys.exit(main(parser, train))
