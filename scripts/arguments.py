"""Readers of what is typed after a script's options."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """A whole number from 1; for argparse's `type`."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("write a number from 1")
    return number
