"""What the steps share about the model's file: a pickle, so only of one's own making."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from step import BadInput, read_bytes

PARTS = {"model", "hyperparameters", "metrics"}


def load(path: Path) -> dict[str, Any]:
    """What train wrote; BadInput where it did not."""
    content = read_bytes(path)
    try:
        found = pickle.loads(content)  # noqa: S301  # written by train
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, ValueError) as error:
        raise BadInput(f"{path} holds no model ({error}): write it with train.py") from None
    if not isinstance(found, dict) or not found.keys() >= PARTS:
        raise BadInput(f"{path} holds no model of train.py")
    return found
