"""A bank that keeps what was booked, and dies in the midst of it as long as it is told to."""

import os
import signal
from pathlib import Path

BOOK = Path("book")


def book():
    """Book one payment."""
    with BOOK.open("a") as kept:
        kept.write("paid\n")
    if Path("die").exists():
        Path("die").unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def booked():
    """Whether the bank has it."""
    return "done" if BOOK.exists() else "not_done"


def balance():
    """How many payments there are."""
    return len(BOOK.read_text().splitlines())
