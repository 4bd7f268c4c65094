"""The two streams of a command and how they look; looked up at each use, since they may be redirected."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import IO, TextIO

import msgspec

from flowd.cli.screen import Style


def put(stream: TextIO, text: str, *, is_json: bool = False) -> None:
    """Write a text whole; what the stream's encoding lacks is escaped, as JSON does where it is that."""
    try:
        stream.write(text)
    except UnicodeEncodeError:  # before any of it is written
        if is_json:
            import json

            text = "".join(char if char.isascii() else json.dumps(char)[1:-1] for char in text)
        stream.write(text.encode(stream.encoding, "backslashreplace").decode(stream.encoding))


def say(text: str) -> None:
    """One line of what was asked for, on stdout."""
    put(sys.stdout, f"{text}\n")


def say_document(document: object) -> None:
    """A document of what was asked for, as one line of JSON on stdout."""
    put(sys.stdout, document_line(document), is_json=True)


def document_line(document: object) -> str:
    """A document as one line of JSON."""
    return f"{msgspec.json.encode(document).decode()}\n"


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
