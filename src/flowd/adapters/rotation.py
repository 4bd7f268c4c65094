"""A file of lines that is begun anew once it is large: `daemon.log`, and `daemon.log.1`, which was before it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from flowd.adapters import disk
from flowd.adapters.followers.log import Lines


def append_and_rotate(path: Path, size: int, keep: int) -> Callable[[Lines], None]:
    """A writer that appends to a private file, and puts it aside once it has `size` bytes; `keep` are kept so.

    Whenever it is cut off, no line is lost but those of the oldest file.
    """

    def write(lines: Lines) -> None:
        text = "".join(f"{line}\n" for _, line in lines)
        disk.append(path, text.encode("utf-8", "backslashreplace"))
        if os.stat(path).st_size >= size:
            rotate(path, keep)

    return write


def rotate(path: Path, keep: int) -> None:
    """Put a file aside, and those put aside before one further; the oldest goes. Each is moved, from the last on."""
    for number in range(keep, 0, -1):
        older = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
        with suppress(FileNotFoundError):
            older.replace(path.with_name(f"{path.name}.{number}"))
