"""What every step does the same way: its command line, its files, and what it tells flowd.

A step is `main(parser, work)` around a function that gets the parsed arguments and returns what
happened. A wrong input is one line on stderr and exit code 2, never a traceback. Run by flowd,
a step finds in FLOWD_METRICS and FLOWD_RESULT where to put its metrics and its result.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class BadInput(Exception):
    """The input is missing or is not what this step can work with; the message says how."""


@dataclass(frozen=True)
class Done:
    """What happened: a line for people, metrics (finite numbers) and a result (plain data).

    `ok` is False where the step did its work and what it found is a failure: exit code 1.
    """

    said: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    result: Any = None
    ok: bool = True


def arguments(
    description: str, reads: str, writes: str, *, source: Callable[[str], Any] = Path
) -> argparse.ArgumentParser:
    """The command line that all steps have: --input, read by `source`, and --output."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--input", type=source, required=True, metavar="FILE", help=reads)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help=writes)
    return parser


def main(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], Done]) -> int:
    """Run a step and return its exit code: 0, 1 where it found a failure, 2 where its input is at fault."""
    options = parser.parse_args()
    try:
        done = work(options)
    except BadInput as problem:
        print(f"{Path(sys.argv[0]).name}: {problem}", file=sys.stderr)
        return 2
    _append(os.environ.get("FLOWD_METRICS"), "".join(f"{name}={value}\n" for name, value in done.metrics.items()))
    if done.result is not None:
        _append(os.environ.get("FLOWD_RESULT"), json.dumps(done.result))
    print(done.said, file=sys.stdout if done.ok else sys.stderr)
    return 0 if done.ok else 1


def read_bytes(path: Path) -> bytes:
    """What is in `path`; BadInput where that cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"there is no file {path}; write it with the step before, or name another by --input") from None
    except IsADirectoryError:
        raise BadInput(f"{path} is a folder, not a file") from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None


def read_text(path: Path) -> str:
    """The text of `path`; BadInput where there is none."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text (byte {error.start})") from None


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """The object in `path`, which must have `keys`; BadInput otherwise."""
    try:
        found = json.loads(read_text(path))
    except ValueError as error:
        raise BadInput(f"{path} is not JSON: {error}") from None
    missing = [key for key in keys if key not in found] if isinstance(found, dict) else list(keys)
    if missing:
        raise BadInput(f"{path} has no {', '.join(missing)}: it was not written by the step before this one")
    return dict(found)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `path` in one move, so that nobody ever reads half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def write_text(path: Path, text: str) -> None:
    """The same for a text."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as JSON that a person can read too: one line for each row."""
    lines = []
    for key, item in value.items():
        rows = item if isinstance(item, list) and item and isinstance(item[0], dict | list) else None
        text = "[\n    " + ",\n    ".join(map(json.dumps, rows)) + "\n  ]" if rows else json.dumps(item)
        lines.append(f"  {json.dumps(key)}: {text}")
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def _append(path: str | None, text: str) -> None:
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
