"""Step 3: fit inflation to the quarter before by least squares, and score it on unseen quarters.

The model is x[t] = intercept + slope * x[t-1]. It learns from the first part of the series and is
scored on the rest, one quarter ahead, beside the naive forecast x[t] = x[t-1].

python steps/train_or_score.py --input prices_clean.json --output model.json --train-share 0.8
"""

from __future__ import annotations

import argparse
import math
import sys
from itertools import pairwise
from statistics import fmean
from typing import Any

from step import BadInput, Done, arguments, main, read_json, write_json

LEAST = 12  # pairs of neighbouring quarters; with fewer, neither part says anything
SHOWN = 24

Pair = tuple[str, float, float]


def share(text: str) -> float:
    """The part to learn from: at least half, and never all."""
    value = float(text)
    if not 0.5 <= value <= 0.95:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.5 and 0.95")
    return value


def pairs_of(rows: list[dict[str, Any]]) -> list[Pair]:
    """(quarter, inflation before, inflation) for all neighbours; a gap leaves out the quarters around it."""
    pairs = []
    for before, row in pairwise(rows):
        if before["inflation"] is not None and row["inflation"] is not None:
            pairs.append((row["quarter"], before["inflation"], row["inflation"]))
    return pairs


def fit(pairs: list[Pair]) -> tuple[float, float]:
    """Intercept and slope by least squares; a series that never moves has slope 0."""
    mean_x, mean_y = fmean(x for _, x, _ in pairs), fmean(y for _, _, y in pairs)
    spread = math.fsum((x - mean_x) ** 2 for _, x, _ in pairs)
    slope = math.fsum((x - mean_x) * (y - mean_y) for _, x, y in pairs) / spread if spread else 0.0
    return mean_y - slope * mean_x, slope


def score(pairs: list[Pair], intercept: float, slope: float) -> dict[str, float]:
    """Mean absolute errors, in percentage points, and R² against the mean of the scored quarters."""
    mean = fmean(y for _, _, y in pairs)
    total = math.fsum((y - mean) ** 2 for _, _, y in pairs)
    missed = math.fsum((y - intercept - slope * x) ** 2 for _, x, y in pairs)
    metrics = {
        "mae": fmean(abs(y - intercept - slope * x) for _, x, y in pairs),
        "mae_naive": fmean(abs(y - x) for _, x, y in pairs),
        "r2": 1 - missed / total if total else 0.0,
    }
    return {name: round(value, 4) for name, value in metrics.items()}


def next_quarter(quarter: str) -> str:
    """The quarter after one such as 1959Q4."""
    year, number = divmod(int(quarter[:4]) * 4 + int(quarter[5]), 4)
    return f"{year}Q{number + 1}"


def train_or_score(options: argparse.Namespace) -> Done:
    """Fit, score, forecast one quarter ahead, and keep what a report needs."""
    clean = read_json(options.input, "source", "column", "rows")
    rows = clean["rows"]
    pairs = pairs_of(rows)
    if len(pairs) < LEAST:
        raise BadInput(
            f"{options.input} has {len(pairs)} pairs of neighbouring quarters; {LEAST} are needed to fit and score"
        )
    cut = min(len(pairs) - 2, math.ceil(len(pairs) * options.train_share))
    intercept, slope = fit(pairs[:cut])
    metrics = score(pairs[cut:], intercept, slope)
    last = rows[-1]
    forecast = None
    if last["inflation"] is not None:
        ahead = intercept + slope * last["inflation"]
        price = last["price"] * math.exp(ahead / 400)
        forecast = {"quarter": next_quarter(last["quarter"]), "inflation": round(ahead, 4), "price": round(price, 3)}
    params = {"train_share": options.train_share, "intercept": round(intercept, 4), "slope": round(slope, 4)}
    model = {
        "type": "ar1",
        "target": "quarterly inflation, annualised, percent",
        "source": clean["source"],
        "column": clean["column"],
        "params": params,
        "metrics": metrics,
        "trained_on": {"from": pairs[0][0], "to": pairs[cut - 1][0], "quarters": cut},
        "scored_on": {"from": pairs[cut][0], "to": pairs[-1][0], "quarters": len(pairs) - cut},
        "forecast": forecast,
        "recent": rows[-SHOWN:],
    }
    write_json(options.output, model)
    figures = ", ".join(f"{name} {value}" for name, value in metrics.items())
    said = f"learned from {cut} quarters, scored on {len(pairs) - cut}: {figures}"
    return Done(said, metrics, {"params": params})


if __name__ == "__main__":
    parser = arguments("Fit and score a model of inflation.", "what clean wrote", "where the model goes")
    parser.add_argument("--train-share", type=share, default=0.8, metavar="SHARE", help="the part to learn from (0.8)")
    sys.exit(main(parser, train_or_score))
