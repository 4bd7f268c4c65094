"""What the README shows as a program runs as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_python_example_runs(tmp_path: Path) -> None:
    """The whole block, copied into an empty folder: events are printed, the output is made, the run succeeds."""
    (example,) = re.findall(r"^```python\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "example.py").write_text(example, "utf-8")
    ended = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert "task_succeeded ingest" in ended.stdout
    assert "run_finished None" in ended.stdout
    assert (tmp_path / "prices.json").read_text("utf-8") == "[100.0, 101.2]"
