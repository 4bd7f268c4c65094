"""The four tasks of the quickstart: ordinary functions that read their inputs and write their outputs.

`ctx` is what flowd hands to a function that asks for it: the files, the log, the attempt's number.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean
from typing import Any

PRICES = [100.0, 101.2, 99.8, 102.1]


def ingest_prices(ctx: Any, fail_times: int) -> None:
    """Fetch the prices; the first `fail_times` attempts fail, to show what a retry looks like."""
    if ctx.attempt <= fail_times:
        raise ConnectionError(f"the price source does not answer (attempt {ctx.attempt})")
    write(ctx.outputs[0], {"fetched_at": datetime.now(UTC).isoformat(), "prices": PRICES})
    ctx.log.info("prices fetched", rows=len(PRICES))


def clean_prices(ctx: Any) -> None:
    """Keep what is a price, and add the mean."""
    raw = json.loads(ctx.inputs[0].read_text())["prices"]
    prices = [price for price in raw if price > 0]
    write(ctx.outputs[0], {"prices": prices, "mean": round(fmean(prices), 6)})
    ctx.log.info("prices cleaned", rows_in=len(raw), rows_out=len(prices))


def fit_dummy_model(ctx: Any) -> None:
    """A model that always predicts the mean."""
    mean = json.loads(ctx.inputs[0].read_text())["mean"]
    write(ctx.outputs[0], {"type": "mean_predictor", "mean": mean})
    ctx.metric("mean", mean)


def generate_report(ctx: Any) -> None:
    """A few lines of text; it says where they are."""
    clean, model = (json.loads(path.read_text()) for path in ctx.inputs)
    report = ctx.outputs[0]
    report.parent.mkdir(exist_ok=True)
    prices = ", ".join(str(price) for price in clean["prices"])
    report.write_text(f"prices      {prices}\nmodel       {model['type']}\nprediction  {model['mean']}\n")
    ctx.log.info("report written", path=str(report))


def write(path: Path, value: dict[str, Any]) -> None:
    """Write `value` as JSON."""
    path.write_text(json.dumps(value, indent=2) + "\n")
