"""What the steps share about tables: CSV with one line of column names, all cells numbers or empty."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from step import BadInput, read_text, write_text

TARGET = "progression"  # of the disease after a year: what the model has to foresee
MEASURED = ["age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6"]

Row = dict[str, float | None]


def number_of(cell: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_cells(path: Path) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the rows as they are written."""
    table = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(read_text(path))) if any(row)]
    if not table:
        raise BadInput(f"{path} is empty; a line of column names is expected")
    return table[0], table[1:]


def read_rows(path: Path, *columns: str) -> list[Row]:
    """The rows by column, what is no number as None; BadInput where a column is missing or there is no row."""
    names, rows = read_cells(path)
    if missing := [column for column in columns if column not in names]:
        raise BadInput(f"{path} has no column {', '.join(missing)}")
    if not rows:
        raise BadInput(f"{path} has no rows")
    return [{name: number_of(cell) for name, cell in zip(names, row, strict=False)} for row in rows]


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Write the rows, these columns of them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([["" if row[name] is None else f"{row[name]:.6g}" for name in columns] for row in rows])
    write_text(path, text.getvalue())
