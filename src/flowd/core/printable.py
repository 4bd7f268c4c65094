"""Text of others as it may stand in a line: what would move a cursor, colour a line or turn it round is written out."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""`text` with each character that is not printable, line ends among them, as `\x1b`: safe on a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
