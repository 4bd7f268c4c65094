"""Check that the model can be read and foresees something, and put it in place with its card, in one move.

python steps/save.py --input trained_model.pkl --output trained_model.pkl
"""

from __future__ import annotations

import argparse
import math
import pickle
import sys

from model import load
from step import BadInput, Done, arguments, main, write_bytes
from table import FEATURES


def save(options: argparse.Namespace) -> Done:
    """Write the model with the features that it wants, which those who serve it need."""
    found = load(options.input)
    foreseen = float(found["model"].predict([[0.0] * len(FEATURES)])[0])
    if not math.isfinite(foreseen):
        raise BadInput(f"{options.input}: its model foresees {foreseen}")
    content = pickle.dumps({**found, "card": {"features": FEATURES, "target": found["hyperparameters"]["target"]}})
    write_bytes(options.output, content)
    size = len(content)
    return Done(f"{options.output} ({size} bytes)", {"size": size}, {"model_path": options.output.name})


if __name__ == "__main__":
    sys.exit(main(arguments("Put the model in place.", "what train wrote", "where it is served from"), save))
