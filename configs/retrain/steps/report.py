"""Say what the new model is like, and who has signed it off.

python steps/report.py --input reports/evaluation_metrics.json --output reports/final_report.md --by ann --comment Good
"""

from __future__ import annotations

import argparse
import sys

from step import Done, arguments, main, read_json, write_text


def report(options: argparse.Namespace) -> Done:
    """Write the report."""
    found = read_json(options.input, "metrics", "thresholds", "held_out", "params")
    lines = ["# The retrained model", ""]
    lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in found["params"].items()), ""]
    lines += [f"On {found['held_out']} patients that it has not seen:", ""]
    lines += [
        "| metric | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in found["metrics"].items()),
        "",
    ]
    lines += [f"- {check}: {'passed' if kept else '**failed**'}" for check, kept in found["thresholds"].items()]
    lines += ["", f"Signed off by {options.by or 'nobody'}" + (f": {options.comment}" if options.comment else "")]
    write_text(options.output, "\n".join(lines) + "\n")
    return Done(f"the report is in {options.output}", result={"report_path": options.output.name})


if __name__ == "__main__":
    parser = arguments("Write the report.", "what evaluate wrote", "where the text goes")
    parser.add_argument("--by", metavar="WHO", help="who signed it off")
    parser.add_argument("--comment", metavar="TEXT", help="what they said")
    sys.exit(main(parser, report))
