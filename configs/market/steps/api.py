"""Serve the model over HTTP: GET /health, GET /model, POST /predict with the features as a JSON object.

python steps/api.py --model trained_model.pkl --port 8000
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path
from typing import Any

import waitress
from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from model import load
from step import BadInput


class Told:
    """Counts that flowd reads while the API serves."""

    def __init__(self) -> None:
        self._counts = {"requests": 0, "errors": 0}
        self._lock = threading.Lock()

    def add(self, name: str) -> None:
        """One more."""
        with self._lock:
            self._counts[name] += 1
            if path := os.environ.get("FLOWD_METRICS"):
                with open(path, "a", encoding="utf-8") as file:
                    file.write(f"{name}={self._counts[name]}\n")


def made(found: dict[str, Any]) -> Flask:
    """The application for a model."""
    app, told, features = Flask("market"), Told(), list(found["card"]["features"])

    @app.get("/health")
    def health() -> ResponseReturnValue:
        return jsonify(status="up")

    @app.get("/model")
    def model() -> ResponseReturnValue:
        return jsonify(hyperparameters=found["hyperparameters"], metrics=found["metrics"])

    @app.post("/predict")
    def predict() -> ResponseReturnValue:
        told.add("requests")
        given = request.get_json(silent=True)
        if not isinstance(given, dict) or not all(isinstance(given.get(name), int | float) for name in features):
            told.add("errors")
            return jsonify(error=f"send a JSON object with a number for each of {', '.join(features)}"), 400
        foreseen = float(found["model"].predict([[given[name] for name in features]])[0])
        return jsonify(prediction=foreseen, unit="percent")

    return app


def main() -> int:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(description="Serve the model.")
    parser.add_argument("--model", type=Path, required=True, metavar="FILE", help="what save wrote")
    parser.add_argument("--port", type=int, required=True, metavar="N", help="where to listen on 127.0.0.1")
    options = parser.parse_args()
    try:
        found = load(options.model)
    except BadInput as problem:
        print(f"api.py: {problem}", file=sys.stderr)
        return 2
    if "card" not in found:
        print(f"api.py: {options.model} has no card: write it with save.py", file=sys.stderr)
        return 2
    print(f"the API serves on http://127.0.0.1:{options.port}", flush=True)
    waitress.serve(made(found), host="127.0.0.1", port=options.port, threads=4, _quiet=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
