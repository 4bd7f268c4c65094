"""flowd's commands as processes of their own, with their output in files and a name that all their processes bear."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from faulting import living
from faulting.family import Broken

PATIENCE = 60.0
"""Seconds after which a command hangs."""

RUN = "r"
"""The id of the one run that each place has."""


class Command:
    """One command of flowd, running. Leaving it ends what lives of it. `before` are words before the interpreter."""

    def __init__(
        self,
        place: Path,
        words: Sequence[str],
        life: str,
        variables: Mapping[str, str],
        before: Sequence[str] = (),
    ) -> None:
        self.words = tuple(words)
        self.life = life
        self.out = place / f"{life}.out"
        self.err = place / f"{life}.err"
        other = ("FLOWD_", "NO_COLOR", "PYTHONUNBUFFERED")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(other)}
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-m", "flowd", *words],
                cwd=place,
                env=kept | {"PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1", living.LIFE: life, **variables},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        self.began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        living.kill_all(lambda: living.of_life(self.life))

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended by now."""
        return self.process.poll() is not None

    def wait(self, patience: float = PATIENCE) -> int:
        """Its exit code. Broken where it hangs or leaves a traceback."""
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise Broken(f"`{self}` hangs after {patience:g}s: {self.said()}") from None
        self.check_stderr()
        return code

    def check_stderr(self) -> None:
        """Broken where it left a traceback."""
        if "Traceback (most recent call last)" in self.err.read_text("utf-8", "replace"):
            raise Broken(f"`{self}` left a traceback: {self.said()}")

    def said(self) -> str:
        """The end of what it printed, for whoever looks into it."""
        lines = [*self.out.read_text("utf-8", "replace").splitlines()[-3:]]
        return " | ".join([*lines, *self.err.read_text("utf-8", "replace").splitlines()[-5:]])

    def document(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        try:
            value = json.loads(self.out.read_bytes())
        except ValueError:
            raise Broken(f"`{self}` printed no JSON: {self.said()}") from None
        assert isinstance(value, dict)
        return value

    def __str__(self) -> str:
        return f"flowd {' '.join(self.words)}"


class Place:
    """A folder with a pipeline, and flowd run there; its commands are named after its seed and get `variables`."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.variables: dict[str, str] = {}
        self.folder = folder
        self.state = folder / ".flowd"
        self.token = f"{os.getpid():07d}x{seed:06d}"  # of one length: none is a part of another's
        self.lives = 0

    @property
    def run_folder(self) -> Path:
        """Where the run is kept."""
        return self.state / "runs" / RUN

    def pipeline(self, tasks: dict[str, Any], **keys: Any) -> None:
        """Write `pipeline.yaml`; JSON is YAML."""
        (self.folder / "pipeline.yaml").write_text(json.dumps({"name": "p", **keys, "tasks": tasks}, indent=1))

    def begin(self, *words: str, state: str | None = None, before: Sequence[str] = ()) -> Command:
        """Start a command; `before` are words that come before the interpreter."""
        self.lives += 1
        flags = ("--state-dir", state or str(self.state))
        return Command(self.folder, (*words, *flags), f"{self.token}.{self.lives}", self.variables, before)

    def run(self, *flags: str, before: Sequence[str] = ()) -> Command:
        """Start the run, or go on with it."""
        return self.begin("run", "pipeline.yaml", "--run-id", RUN, "--no-input", *flags, before=before)

    def ask(self, *words: str, code: int | None = 0) -> Command:
        """A command from its start to its end; Broken where it ends with another code."""
        with self.begin(*words) as command:
            found = command.wait()
        if code is not None and found != code:
            raise Broken(f"`{command}` ended with {found}, not {code}: {command.said()}")
        return command

    def lines(self, name: str) -> list[str]:
        """The lines of a file of the folder, none where there is no file."""
        try:
            return (self.folder / name).read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
