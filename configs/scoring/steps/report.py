"""Step 4: what the model says now and how good it has been, with what the analyst says about it.

python steps/report.py --input data/clean.json --model model/model.pkl --output reports/report.txt --comment "So it is"
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from model import Model, load
from step import BadInput, Done, arguments, main, read_json, write_text

SHOWN = 12  # quarters
WIDTH = 30  # characters of a bar at 100 %


def line(row: dict[str, Any], score: float) -> str:
    """One quarter: its score as a bar, and what came."""
    came = {True: "rose", False: "did not rise", None: "not known yet"}[row["rose"]]
    return f"  {row['quarter']}  {score:>4.0%}  {'#' * round(score * WIDTH):<{WIDTH}}  {came}"


def text_of(rows: list[dict[str, Any]], model: Model, comment: str | None) -> str:
    """The whole report."""
    known = [row for row in rows if row["quarter"] in model.scores]
    if not known:
        raise BadInput("the model has met none of these quarters: run train_or_score first")
    right = sum((model.scores[row["quarter"]] > 0.5) == row["rose"] for row in known)
    title = "Will unemployment rise next quarter?"
    lines = [title, "=" * len(title), ""]
    lines += [f"Scored {len(known)} quarters before their outcome was known; {right / len(known):.0%} were right.", ""]
    if rows[-1]["rose"] is None:
        lines += [f"After {rows[-1]['quarter']}: {model.score(rows[-1]):.0%}", ""]
    lines += [line(row, model.score(row)) for row in rows[-SHOWN:]]
    lines += ["", f"Analyst's comment: {comment}" if comment else "No comment by an analyst."]
    return "\n".join(lines) + "\n"


def report(options: argparse.Namespace) -> Done:
    """Write the report."""
    rows = read_json(options.input, "rows")["rows"]
    write_text(options.output, text_of(rows, load(options.model), options.comment))
    name = options.output.name
    return Done(
        f"the report is in {options.output}", {"rows_in": len(rows)}, {"summary_path": name, "artifact_path": name}
    )


if __name__ == "__main__":
    parser = arguments("Write the report.", "what clean wrote", "where the text goes")
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="what train_or_score keeps")
    parser.add_argument("--comment", metavar="TEXT", help="what a person who looked at the scores says")
    sys.exit(main(parser, report))
