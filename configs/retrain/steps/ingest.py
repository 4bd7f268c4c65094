"""Fetch the table as it is, from a file or an address; judging it is validate's.

python steps/ingest.py --input data/source.csv --output data/raw/raw_data.csv
"""

from __future__ import annotations

import argparse
import sys
import urllib.error
import urllib.request
from pathlib import Path

from step import BadInput, Done, arguments, main, read_bytes, write_bytes

PATIENCE = 30  # seconds that a server may be silent


def fetched(source: str) -> bytes:
    """What is at a path or an address; what a server answers with 4xx is the address's fault, all else may pass."""
    if "://" not in source:
        return read_bytes(Path(source))
    if not source.startswith(("http://", "https://", "file://")):
        raise BadInput(f"{source}: an address begins with https://, http:// or file://")
    try:
        with urllib.request.urlopen(source, timeout=PATIENCE) as answer:  # noqa: S310  # its kind is checked above
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        if 400 <= error.code < 500:
            raise BadInput(f"{source}: {error.code} {error.reason}") from None
        raise


def ingest(options: argparse.Namespace) -> Done:
    """Copy it, byte for byte."""
    try:
        content = fetched(options.input)
    except OSError as error:
        return Done(f"{options.input} cannot be fetched: {error}", ok=False)
    records = max(0, sum(bool(line.strip()) for line in content.splitlines()) - 1)
    write_bytes(options.output, content)
    return Done(f"{records} records from {options.input}", {"records": records}, {"source": options.input})


if __name__ == "__main__":
    sys.exit(main(arguments("Fetch a table.", "a CSV file, or its address", "where it goes", source=str), ingest))
