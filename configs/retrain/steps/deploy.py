"""Copy the model to where it is used, and enter it in history.jsonl there; without its report it stays where it is.

python steps/deploy.py --input model/model.pkl --report reports/final_report.md --output deployed/model.pkl
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from step import Done, arguments, main, read_bytes, read_text, write_bytes


def deploy(options: argparse.Namespace) -> Done:
    """Put the model in place in one move."""
    read_text(options.report)
    content = read_bytes(options.input)
    digest = hashlib.sha256(content).hexdigest()
    write_bytes(options.output, content)
    entry = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "sha256": digest, "size": len(content)}
    with options.output.with_name("history.jsonl").open("a", encoding="utf-8") as history:
        history.write(json.dumps(entry) + "\n")
    return Done(f"deployed {digest[:12]} to {options.output}", {"size": len(content)}, {"sha256": digest})


if __name__ == "__main__":
    parser = arguments("Deploy the model.", "what train wrote", "where the model is used from")
    parser.add_argument("--report", type=Path, required=True, metavar="FILE", help="the report, which must be there")
    sys.exit(main(parser, deploy))
