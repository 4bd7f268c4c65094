"""Step 2: drop what cannot be used, and make of each quarter what the model sees and what it has to foresee.

python steps/clean.py --input data/raw.csv --output data/clean.json
"""

from __future__ import annotations

import argparse
import math
import re
import sys

from step import BadInput, Done, arguments, main, write_json
from table import read_table

SEEN = ["gdp growth", "consumption growth", "investment growth", "unemployment change", "rate change", "inflation"]

Quarters = dict[int, list[float]]


def number_of(cell: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def usable(rows: list[list[str]]) -> tuple[Quarters, int]:
    """Values by quarter, from year 0, of complete rows (the first of repeated ones), and how many cells are null."""
    quarters: Quarters = {}
    nulls = 0
    for date, *cells in rows:
        values = [value for value in map(number_of, cells) if value is not None]
        nulls += len(cells) - len(values)
        quarter = re.fullmatch(r"(\d{4})Q([1-4])", date)
        if quarter and len(values) == len(cells) and min(values[:3]) > 0:
            quarters.setdefault(int(quarter[1]) * 4 + int(quarter[2]) - 1, values)
    return dict(sorted(quarters.items())), nulls


def seen(before: list[float], now: list[float]) -> list[float]:
    """Growth in percent a year, changes in percentage points."""
    growth = [400 * math.log(new / old) for old, new in zip(before[:3], now[:3], strict=True)]
    changes = [new - old for old, new in zip(before[3:5], now[3:5], strict=True)]
    return [round(value, 4) for value in [*growth, *changes, now[5]]]


def clean(options: argparse.Namespace) -> Done:
    """For each quarter with one before it: what is seen, and whether unemployment rose after it (null: not known)."""
    raw = read_table(options.input)
    quarters, nulls = usable(raw)
    rows = []
    for number, values in quarters.items():
        before, after = quarters.get(number - 1), quarters.get(number + 1)
        if before is not None:
            year, quarter = divmod(number, 4)
            rose = None if after is None else after[3] > values[3]
            rows.append({"quarter": f"{year}Q{quarter + 1}", "seen": seen(before, values), "rose": rose})
    if not rows:
        raise BadInput(f"{options.input}: no two neighbouring quarters are complete")
    null_pct = round(100 * nulls / (6 * len(raw)), 2)
    write_json(options.output, {"source": options.input.name, "columns": SEEN, "null_pct": null_pct, "rows": rows})
    return Done(
        f"{len(raw)} rows in, {len(rows)} out, {null_pct} % of the cells null",
        {"rows_in": len(raw), "rows_out": len(rows), "null_pct": null_pct},
        {"artifact_path": options.output.name},
    )


if __name__ == "__main__":
    sys.exit(main(arguments("Make clean quarters of a CSV of the economy.", "a CSV file", "where they go"), clean))
