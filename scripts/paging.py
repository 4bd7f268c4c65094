"""What the scripts share that draw a page of the documentation from flowd's own tables."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from environment import ROOT, CannotPrepare, call, prepare


def main(script: str, description: str | None, place: Path, draw: Callable[[], str]) -> int:
    """Print the page that `draw` makes, or with `--write` put it in its `place`.

    0, or 2 where there is no environment.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--write", action="store_true", help=f"write the page to {place.relative_to(ROOT)}")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "src"))
    try:
        text = draw()
    except ModuleNotFoundError:  # a Python without msgspec: the environment's has it
        try:
            python = prepare(None)
        except CannotPrepare as problem:
            print(f"{Path(script).name}: {problem}", file=sys.stderr)
            return 2
        return call([str(python), script, *sys.argv[1:]])
    if options.write:
        place.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0
