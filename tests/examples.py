"""What the tests of the example pipelines share: a copy that never ran, which tasks a command began, a step alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowd_process import Ended, Place, place

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PRODUCED = shutil.ignore_patterns(
    *(".flowd", "__pycache__", "logs", "reports", "report.txt", "prices_*.json", "model.json"),
    *("raw_market.csv", "cleaned_data.csv", "trained_model.pkl", "analysis_report.pdf", "*_running.txt"),
    *("raw.json", "clean.json", "scores.json", "raw", "processed", "features", "model", "deployed"),
)
"""What pipelines write, wherever it lies."""


@contextmanager
def copied(name: str, folder: Path) -> Iterator[Place]:
    """An example alone in a folder, never run."""
    shutil.copytree(CONFIGS / name, folder / name, ignore=PRODUCED)
    with place(folder / name) as opened:
        yield opened


def ran(ended: Ended) -> set[str]:
    """The tasks whose attempts began, by their event lines."""
    return {event["task"] for event in ended.events if event["event"] == "task_started"}


def step(
    example: str, name: str, source: Path | str, target: Path, *more: str, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run one step of an example to its end, as a person would: without flowd, by its command line."""
    script = CONFIGS / example / "steps" / f"{name}.py"
    command = [sys.executable, str(script), "--input", str(source), "--output", str(target), *more]
    own = {name: value for name, value in os.environ.items() if not name.startswith("FLOWD_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env={**own, **env})
