"""The model that `train_or_score` carries on and `report` reads: a pickle, so only of one's own making."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sklearn.linear_model import SGDClassifier
from sklearn.preprocessing import StandardScaler
from step import BadInput, read_bytes, write_bytes


@dataclass
class Model:
    """A classifier that learns one quarter at a time, and the score it gave each before it learned from it."""

    classifier: SGDClassifier
    scaler: StandardScaler = field(default_factory=StandardScaler)
    scores: dict[str, float] = field(default_factory=dict)

    def score(self, row: dict[str, Any]) -> float:
        """How likely unemployment rises after a quarter: as said before it was known, else as the model says now."""
        if row["quarter"] in self.scores:
            return self.scores[row["quarter"]]
        if not self.scores:
            return 0.5  # nothing learned yet
        return round(float(self.classifier.predict_proba(self.scaler.transform([row["seen"]]))[0, 1]), 4)


def load(path: Path) -> Model:
    """The model in `path`; BadInput where there is none."""
    content = read_bytes(path)
    try:
        found = pickle.loads(content)  # noqa: S301  # written by `save`
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, ValueError) as error:
        raise BadInput(f"{path} holds no model ({error}); remove it to begin anew") from None
    if not isinstance(found, Model):
        raise BadInput(f"{path} holds no model of train_or_score; remove it to begin anew")
    return found


def save(path: Path, model: Model) -> None:
    """Write the model in one move."""
    write_bytes(path, pickle.dumps(model))
