"""What the steps share about tables: CSV with one line of column names, by date, comments before it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from step import BadInput, read_text, write_text

TARGET = "return"
"""What the model explains: the day's change of the index, in percent."""
FEATURES = ["volatility", "volatility_change", "return_1", "return_5", "spread_20", "tbilrate", "infl"]

Row = dict[str, str]


def number_of(cell: str | None) -> float | None:
    """A finite number, or None."""
    try:
        value = float(cell or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def parsed(text: str, name: str, *columns: str) -> list[Row]:
    """The rows of a CSV text; BadInput where a column is missing or there is no row."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    reader = csv.DictReader(io.StringIO("\n".join(lines)))
    names = [one.strip().lower() for one in reader.fieldnames or ()]
    reader.fieldnames = names
    if missing := [column for column in columns if column not in names]:
        raise BadInput(f"{name} has no column {', '.join(missing)}; a line of column names is expected")
    rows = [{key: (value or "").strip() for key, value in row.items() if key} for row in reader]
    if not rows:
        raise BadInput(f"{name} has no rows")
    return rows


def read_rows(path: Path, *columns: str) -> list[Row]:
    """The rows of a file."""
    return parsed(read_text(path), str(path), *columns)


def read_numbers(path: Path) -> tuple[list[str], list[list[float]], list[float]]:
    """The dates, the features and the targets of a cleaned table; BadInput where a cell is no number."""
    rows = read_rows(path, "date", TARGET, *FEATURES)
    table = [[number_of(row[name]) for name in (*FEATURES, TARGET)] for row in rows]
    sound = [[cell for cell in cells if cell is not None] for cells in table]
    if any(len(cells) != len(FEATURES) + 1 for cells in sound):
        raise BadInput(f"{path} holds cells that are no numbers: write it with clean.py")
    return [row["date"] for row in rows], [cells[:-1] for cells in sound], [cells[-1] for cells in sound]


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write the rows, these columns of them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore", restval="")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
