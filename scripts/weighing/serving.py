"""A daemon as a process of its own, in a folder that goes with it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

STARTS_S = 30


class Served(NamedTuple):
    """Where a daemon is asked, with what, and which process it is."""

    url: str
    token: str
    process: subprocess.Popen[bytes]
    folder: Path


@contextmanager
def served(files: Mapping[str, str]) -> Iterator[Served]:
    """Serve pipelines from these files, on a free port; it is ended within its own grace, then killed."""
    with tempfile.TemporaryDirectory(prefix="flowd-weight-") as name:
        folder = Path(name)
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
        (folder / "flowd.yaml").write_text('listen: "127.0.0.1:0"\n', encoding="utf-8")
        with (folder / "err").open("wb") as err:
            command = [sys.executable, "-m", "flowd", "serve"]
            process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=err)
        try:
            yield Served(_url(folder, process), _token(folder), process, folder)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _url(folder: Path, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + STARTS_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            url = json.loads((folder / ".flowd" / "daemon" / "owner.json").read_bytes()).get("url")
        except (FileNotFoundError, ValueError):
            url = None
        if url:
            return str(url)
        time.sleep(0.05)
    raise SystemExit(f"the daemon does not serve:\n{(folder / 'err').read_text(encoding='utf-8')}")


def _token(folder: Path) -> str:
    return (folder / ".flowd" / "token").read_text(encoding="utf-8").strip()
