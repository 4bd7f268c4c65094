"""The bank's side."""

from pathlib import Path


def score(risk):
    """What the bureau says."""
    return {"risk": risk}


def open_account():
    """A number for the customer."""
    Path("account.txt").write_text("42\n")
