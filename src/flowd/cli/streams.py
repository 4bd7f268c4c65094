"""The two streams of a command and how they look; looked up at each use, since they may be redirected."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import IO, TextIO

from flowd.cli.screen import Style


def say(text: str) -> None:
    """One line of what was asked for, on stdout."""
    sys.stdout.write(f"{text}\n")


def tell(text: str) -> None:
    """One line about how it goes, on stderr; where nobody can be told, that keeps nothing from going on."""
    with suppress(OSError):
        sys.stderr.write(f"{text}\n")


def is_terminal(stream: IO[str]) -> bool:
    """Whether a person looks at `stream`."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def style_of(name: str) -> Style:
    """The style of `stdout` or `stderr`."""
    return style(getattr(sys, name))


def style(stream: TextIO) -> Style:
    """The style of a stream."""
    return Style.of(stream.encoding, terminal=is_terminal(stream), environment=os.environ)
