"""Make the columns that the model sees, and hold every fifth row out of its sight.

python steps/features.py --input data/processed/cleaned_data.csv --output data/features/features.csv
"""

from __future__ import annotations

import argparse
import sys

from step import BadInput, Done, arguments, main
from table import MEASURED, TARGET, Row, read_rows, write_rows

CREATED = ["bmi_bp", "age_squared", "sex_bp"]
HELD_OUT = "held_out"  # 1: for evaluate alone


def features_of(row: Row) -> Row:
    """The created columns of one row, in units near those of the measured ones."""
    age, sex, bmi, pressure = (row[name] or 0.0 for name in ("age", "sex", "bmi", "bp"))
    return {"bmi_bp": bmi * pressure / 100, "age_squared": age * age / 100, "sex_bp": sex * pressure}


def features(options: argparse.Namespace) -> Done:
    """Write all columns, and which rows are held out."""
    rows = read_rows(options.input, *MEASURED, TARGET)
    if any(value is None for row in rows for value in row.values()):
        raise BadInput(f"{options.input} has empty cells: clean fills them")
    made = [row | features_of(row) | {HELD_OUT: float(number % 5 == 0)} for number, row in enumerate(rows)]
    columns = [*MEASURED, *CREATED, HELD_OUT, TARGET]
    write_rows(options.output, columns, made)
    return Done(
        f"{len(made)} rows, {len(columns)} columns, {len(CREATED)} of them created",
        {"features": len(MEASURED) + len(CREATED)},
        {"created": CREATED, "shape": [len(made), len(columns)]},
    )


if __name__ == "__main__":
    sys.exit(main(arguments("Make features.", "what clean wrote", "where the features go"), features))
