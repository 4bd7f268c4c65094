"""Align the reads of one sample: each is looked up in the reference."""

import sys
from pathlib import Path

reference, reads, out = map(Path, sys.argv[1:])
genome = reference.read_text()
Path(out).write_text("".join(f"{reads.stem} {read} {genome.find(read)}\n" for read in reads.read_text().split()))
