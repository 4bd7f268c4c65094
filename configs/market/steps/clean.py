"""Drop what cannot be a price, keep each day once, and make the columns that the model sees.

python steps/clean.py --input raw_market.csv --output cleaned_data.csv
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from statistics import pstdev

from step import BadInput, Done, arguments, main
from table import FEATURES, TARGET, Row, number_of, read_rows, write_rows

NUMBERS = ["close", "volatility", "tbilrate", "infl"]
WINDOW = 20  # days of which the spread of returns is taken


def prices(raw: list[Row]) -> tuple[list[dict[str, float]], list[str], int]:
    """The sound rows by day with their days, and how many cells were null."""
    sound: dict[str, dict[str, float]] = {}
    nulls = 0
    for row in raw:
        cells = {name: number_of(row[name]) for name in NUMBERS}
        nulls += sum(cell is None for cell in cells.values())
        known = {name: cell for name, cell in cells.items() if cell is not None}
        if len(known) == len(NUMBERS) and known["close"] > 0 and known["volatility"] > 0:
            sound[row["date"]] = known
    return [sound[day] for day in sorted(sound)], sorted(sound), nulls


def clean(options: argparse.Namespace) -> Done:
    """Write one row for each day that has a past to be seen from."""
    raw = read_rows(options.input, "date", *NUMBERS)
    table, days, nulls = prices(raw)
    if len(table) < 3 * WINDOW:
        raise BadInput(f"{options.input}: {len(table)} sound days, and {3 * WINDOW} are needed")
    returns = [100 * (now["close"] / before["close"] - 1) for before, now in pairwise(table)]
    rows = []
    for place in range(WINDOW + 1, len(table)):
        now, before = table[place], table[place - 1]
        found = {
            TARGET: returns[place - 1],
            "volatility": before["volatility"],
            "volatility_change": now["volatility"] - before["volatility"],
            "return_1": returns[place - 2],
            "return_5": 100 * (before["close"] / table[place - 6]["close"] - 1),
            "spread_20": pstdev(returns[place - 1 - WINDOW : place - 1]),
            "tbilrate": now["tbilrate"],
            "infl": now["infl"],
        }
        rows.append({"date": days[place], **{name: f"{value:.6g}" for name, value in found.items()}})
    write_rows(options.output, ["date", TARGET, *FEATURES], rows)
    metrics = {"rows_in": len(raw), "rows_out": len(rows), "null_counts": nulls}
    return Done(f"{len(raw)} rows in, {len(rows)} out, {nulls} nulls", metrics, {"schema_validation": "passed"})


if __name__ == "__main__":
    sys.exit(main(arguments("Clean the market data.", "what ingest wrote", "where the clean rows go"), clean))
