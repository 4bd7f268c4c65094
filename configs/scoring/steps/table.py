"""What two steps need: a CSV as the rows that are written in it, comments and empty lines left out."""

from __future__ import annotations

import csv
from pathlib import Path

from step import BadInput, read_text

COLUMNS = ["date", "realgdp", "realcons", "realinv", "unemp", "tbilrate", "infl"]


def read_table(path: Path) -> list[list[str]]:
    """The rows below the line of column names, cells stripped; BadInput where the columns are others."""
    lines = [line for line in read_text(path).splitlines() if line.strip() and not line.startswith("#")]
    table = [[cell.strip() for cell in row] for row in csv.reader(lines)]
    if not table or table[0] != COLUMNS:
        raise BadInput(f"{path}: the columns must be {','.join(COLUMNS)}")
    for number, row in enumerate(table[1:], 1):
        if len(row) != len(COLUMNS):
            raise BadInput(f"{path}: row {number} has {len(row)} cells, not {len(COLUMNS)}: {','.join(row)}")
    return table[1:]
