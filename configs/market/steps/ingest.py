"""Fetch an index, its volatility and macro series, from files or addresses, and join them by day.

python steps/ingest.py --input data/index.csv --volatility data/volatility.csv --macro data/macro.csv
    --output raw_market.csv
"""

from __future__ import annotations

import argparse
import sys
import urllib.error
import urllib.request
from pathlib import Path

from step import BadInput, Done, arguments, main, read_text
from table import Row, parsed, write_rows

PATIENCE = 30  # seconds that a server may be silent
MACRO = ["cpi", "unemp", "tbilrate", "infl"]


def fetched(source: str) -> str:
    """The text at a path or an address; what a server answers with 4xx is the address's fault, all else may pass."""
    if "://" not in source:
        return read_text(Path(source))
    if not source.startswith(("http://", "https://", "file://")):
        raise BadInput(f"{source}: an address begins with https://, http:// or file://")
    try:
        with urllib.request.urlopen(source, timeout=PATIENCE) as answer:  # noqa: S310  # its kind is checked above
            return str(answer.read().decode("utf-8-sig"))
    except urllib.error.HTTPError as error:
        if 400 <= error.code < 500:
            raise BadInput(f"{source}: {error.code} {error.reason}") from None
        raise


def ingest(options: argparse.Namespace) -> Done:
    """Every row of the index as it stands, with the volatility of its day and the quarter that was known by then."""
    sources = {"index": options.input, "volatility": options.volatility, "macro": options.macro}
    try:
        texts = {name: fetched(source) for name, source in sources.items()}
    except OSError as error:
        return Done(f"the market data cannot be fetched: {error}", ok=False)
    index = parsed(texts["index"], options.input, "date", "close")
    volatility = {row["date"]: row["close"] for row in parsed(texts["volatility"], options.volatility, "date", "close")}
    quarters = sorted(parsed(texts["macro"], options.macro, "date", *MACRO), key=lambda row: row["date"])
    rows: list[Row] = []
    for row in index:
        known = [quarter for quarter in quarters if quarter["date"] <= row["date"]]
        macro = {name: known[-1][name] if known else "" for name in MACRO}
        rows.append(
            {"date": row["date"], "close": row["close"], "volatility": volatility.get(row["date"], ""), **macro}
        )
    write_rows(options.output, ["date", "close", "volatility", *MACRO], rows)
    return Done(f"{len(rows)} rows from {options.input}", {"rows_downloaded": len(rows)}, {"source_uri": sources})


if __name__ == "__main__":
    parser = arguments("Fetch the market.", "the index: a CSV file, or its address", "where it goes", source=str)
    parser.add_argument("--volatility", required=True, metavar="FILE", help="its volatility, likewise")
    parser.add_argument("--macro", required=True, metavar="FILE", help="macro series by quarter, likewise")
    sys.exit(main(parser, ingest))
