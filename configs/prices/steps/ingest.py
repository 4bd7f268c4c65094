"""Step 1: read a CSV of dates and prices as it is, defects included; judging them is `clean`'s.

python steps/ingest.py --input data/raw.csv --output prices_raw.json
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from step import BadInput, Done, arguments, main, read_text, write_json

DATES = ("date", "quarter", "period", "month", "time", "day", "observation_date", "timestamp")
PRICES = ("cpi", "price", "close", "adj close", "value", "index")


def columns(names: list[str], where: Path) -> tuple[list[int], int]:
    """Which columns make the date, and which one is the price."""
    known = [name.strip().lower() for name in names]
    if "year" in known and "quarter" in known:
        dates = [known.index("year"), known.index("quarter")]
    else:
        dates = [known.index(name) for name in DATES if name in known][:1]
    prices = [known.index(name) for name in PRICES if name in known][:1]
    others = [number for number in range(len(known)) if number not in dates]
    if dates and not prices and len(others) == 1:
        prices = others
    if not dates or not prices:
        raise BadInput(
            f"{where}: no columns for date and price in: {', '.join(names)}; "
            "name one `date` and the other `cpi`, `price`, `close` or `value`"
        )
    return dates, prices[0]


def ingest(options: argparse.Namespace) -> Done:
    """Rows of [date, price], both as they were written; a cell that is not there is empty."""
    lines = read_text(options.input).splitlines()
    comments = [line.lstrip("# ").rstrip() for line in lines if line.startswith("#")]
    table = [row for row in csv.reader(line for line in lines if not line.startswith("#")) if any(map(str.strip, row))]
    if len(table) < 2:
        raise BadInput(f"{options.input} holds no rows below a line of column names")
    dates, price = columns(table[0], options.input)

    def cell(row: list[str], number: int) -> str:
        return row[number].strip() if number < len(row) else ""

    rows = [["Q".join(cell(row, number) for number in dates), cell(row, price)] for row in table[1:]]
    uri = options.input.resolve().as_uri()
    write_json(
        options.output,
        {"source": options.input.name, "about": comments, "column": table[0][price].strip(), "rows": rows},
    )
    return Done(f"read {len(rows)} rows from {uri}", {"rows": len(rows)}, {"source_uri": uri})


if __name__ == "__main__":
    sys.exit(main(arguments("Read a CSV of dates and prices.", "a CSV file", "where the rows go, as JSON"), ingest))
