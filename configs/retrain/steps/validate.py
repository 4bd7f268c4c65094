"""Judge the raw table; the report is written either way, and errors are exit code 1.

python steps/validate.py --input data/raw/raw_data.csv --output reports/validation_report.json
"""

from __future__ import annotations

import argparse
import sys

from step import Done, arguments, main, write_json
from table import MEASURED, TARGET, number_of, read_cells

ROWS = 50  # at least
NULLS = 0.05  # of a column's cells, at most
RANGES = {"age": (0, 120), "sex": (1, 2), "bmi": (10, 80), "bp": (30, 200), TARGET: (0, 1000)}


def column_errors(name: str, cells: list[str]) -> list[str]:
    """What is wrong with one column."""
    errors = []
    nulls = sum(not cell for cell in cells)
    if nulls > NULLS * len(cells):
        errors.append(f"{name}: {nulls} of {len(cells)} cells are empty, more than {NULLS:.0%}")
    numbers = [(cell, number_of(cell)) for cell in cells if cell]
    if wrong := [cell for cell, value in numbers if value is None]:
        errors.append(f"{name}: {len(wrong)} cells are no numbers, such as {wrong[0]!r}")
    low, high = RANGES.get(name, (float("-inf"), float("inf")))
    if outside := [value for _, value in numbers if value is not None and not low <= value <= high]:
        errors.append(f"{name}: {len(outside)} values are not between {low} and {high}, such as {outside[0]:g}")
    return errors


def errors_of(names: list[str], rows: list[list[str]]) -> list[str]:
    """All that is wrong."""
    missing = [name for name in [*MEASURED, TARGET] if name not in names]
    errors = [f"there is no column {name}" for name in missing]
    if ragged := [number for number, row in enumerate(rows, 1) if len(row) != len(names)]:
        errors.append(f"{len(ragged)} rows do not have {len(names)} cells, such as row {ragged[0]}")
    if len(rows) < ROWS:
        errors.append(f"{len(rows)} rows, fewer than {ROWS}")
    for number, name in enumerate(names):
        errors += column_errors(name, [row[number] for row in rows if number < len(row)])
    return errors


def validate(options: argparse.Namespace) -> Done:
    """Write pass or fail, and every error."""
    names, rows = read_cells(options.input)
    errors = errors_of(names, rows)
    status = "failed" if errors else "passed"
    write_json(options.output, {"status": status, "rows": len(rows), "errors": errors})
    said = "; ".join(errors) or f"{len(rows)} rows are as they should be"
    return Done(f"{status}: {said}", {"error_count": len(errors)}, {"status": status, "errors": errors}, ok=not errors)


if __name__ == "__main__":
    sys.exit(main(arguments("Judge the raw table.", "what ingest wrote", "where the judgement goes"), validate))
