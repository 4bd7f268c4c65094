"""Drop rows without a target and repeated ones, and fill what else is missing with its column's median.

python steps/clean.py --input data/raw/raw_data.csv --output data/processed/cleaned_data.csv
"""

from __future__ import annotations

import argparse
import sys
from statistics import median

from step import BadInput, Done, arguments, main
from table import MEASURED, TARGET, Row, read_rows, write_rows

COLUMNS = [*MEASURED, TARGET]


def fill(rows: list[Row]) -> int:
    """Fill each null with the median of its column; how many there were."""
    filled = 0
    for name in MEASURED:
        known = [value for row in rows if (value := row.get(name)) is not None]
        if not known:
            raise BadInput(f"the column {name} is empty: there is nothing to fill it with")
        for row in rows:
            if row.get(name) is None:
                row[name] = median(known)
                filled += 1
    return filled


def clean(options: argparse.Namespace) -> Done:
    """Write the rows that a model can learn from."""
    raw = read_rows(options.input, *COLUMNS)
    distinct = {tuple(row.get(name) for name in COLUMNS): row for row in raw if row.get(TARGET) is not None}
    rows = list(distinct.values())
    if not rows:
        raise BadInput(f"{options.input}: no row has a {TARGET}")
    nulls = fill(rows)
    write_rows(options.output, COLUMNS, rows)
    return Done(
        f"{len(raw)} rows in, {len(rows)} out, {nulls} nulls filled",
        {"rows_in": len(raw), "rows_out": len(rows), "nulls_filled": nulls},
    )


if __name__ == "__main__":
    sys.exit(main(arguments("Clean the raw table.", "what ingest wrote", "where the clean rows go"), clean))
