"""Step 1: keep the CSV as it is today, defects included, as JSON.

python steps/ingest.py --input data/raw.csv --output data/raw.json
"""

from __future__ import annotations

import argparse
import sys

from step import Done, arguments, main, write_json
from table import COLUMNS, read_table


def ingest(options: argparse.Namespace) -> Done:
    """All rows as they were written."""
    rows = read_table(options.input)
    uri = options.input.resolve().as_uri()
    write_json(options.output, {"source": options.input.name, "columns": COLUMNS, "rows": rows})
    return Done(
        f"read {len(rows)} rows from {uri}",
        {"rows": len(rows)},
        {"source_uri": uri, "artifact_path": options.output.name},
    )


if __name__ == "__main__":
    sys.exit(main(arguments("Keep a CSV of the economy as JSON.", "a CSV file", "where the rows go"), ingest))
