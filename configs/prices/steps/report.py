"""Step 4: the model, its figures and its forecast as a text that a person can read.

python steps/report.py --input model.json --output report.txt
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from step import Done, arguments, main, read_json, write_text

WIDTH = 40  # characters for the chart's bars


def verdict(metrics: dict[str, float]) -> str:
    """What the figures mean, without flattery."""
    gain = 1 - metrics["mae"] / metrics["mae_naive"] if metrics["mae_naive"] else 0.0
    if gain > 0:
        said = f"Its error is {gain:.0%} smaller than that of saying that next quarter will be like this one."
    else:
        said = "It does no better than saying that next quarter will be like this one."
    if metrics["r2"] < 0:
        said += "\nR2 is below zero: it missed by more, squared, than the average of those quarters would have."
    return said


def chart(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each quarter, bars to both sides of zero."""
    values = [row["inflation"] for row in rows if row["inflation"] is not None]
    low, high = min([0.0, *values]), max([0.0, *values])
    scale = (WIDTH - 1) / (high - low or 1.0)
    zero = round(-low * scale)
    lines = []
    for row in rows:
        value = row["inflation"]
        if value is None:
            lines.append(f"  {row['quarter']}  {row['price']:>9.3f}        -")
            continue
        end = round((value - low) * scale)
        cells = [" "] * WIDTH
        cells[min(zero, end) : max(zero, end) + 1] = "#" * (abs(end - zero) + 1)
        cells[zero] = "|"
        lines.append(f"  {row['quarter']}  {row['price']:>9.3f}  {value:>+7.2f}  {''.join(cells).rstrip()}")
    return lines


def text_of(model: dict[str, Any]) -> str:
    """The whole report."""
    params, metrics = model["params"], model["metrics"]
    trained, scored, forecast = model["trained_on"], model["scored_on"], model["forecast"]
    title = f"Inflation from {model['column']} ({model['source']})"
    lines = [title, "=" * len(title), ""]
    lines += [
        f"Model     next = {params['intercept']:.3f} + {params['slope']:.3f} x this quarter    ({model['target']})",
        f"Trained   {trained['quarters']} quarters, {trained['from']} to {trained['to']}",
        f"Scored    {scored['quarters']} later quarters, {scored['from']} to {scored['to']}, one quarter ahead",
        "",
        f"  mean absolute error    {metrics['mae']:8.3f}  percentage points",
        f"  the naive forecast's   {metrics['mae_naive']:8.3f}  percentage points",
        f"  R2                     {metrics['r2']:8.3f}",
        "",
        verdict(metrics),
        "",
    ]
    if forecast:
        ahead = f"{forecast['inflation']:+.2f} %, {model['column']} {forecast['price']:.2f}"
        lines += [f"Forecast  {forecast['quarter']}: {ahead}", ""]
    lines += [
        f"The last {len(model['recent'])} quarters",
        "",
        f"  quarter {model['column']:>9}  infl. %",
        *chart(model["recent"]),
    ]
    return "\n".join(lines) + "\n"


def report(options: argparse.Namespace) -> Done:
    """Write the report; its place is the result."""
    model = read_json(
        options.input,
        "source",
        "column",
        "target",
        "params",
        "metrics",
        "trained_on",
        "scored_on",
        "forecast",
        "recent",
    )
    text = text_of(model)
    write_text(options.output, text)
    return Done(
        f"the report is in {options.output}", {"lines": text.count("\n")}, {"artifact_path": options.output.name}
    )


if __name__ == "__main__":
    sys.exit(main(arguments("Write the report.", "what train_or_score wrote", "where the text goes"), report))
