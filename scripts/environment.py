"""The project's environments: made once, and used again while what they are made from is the same.

`scripts/run`, `scripts/test`, `scripts/lock` and `scripts/bench` share this room. It needs nothing but Python's
own library, and is written so that an older Python can read it and say what is missing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "scripts" / "requirements.lock"
PROJECT = ROOT / "pyproject.toml"
OLDEST = (3, 11)
UV = "uv==0.13.9"
EXTRAS = "dev,lint,build,examples"
_STAMP = ".made-from"
_ASK = "import sys; print('%d.%d.%d' % sys.version_info[:3])"


class CannotPrepare(Exception):
    """An environment cannot be made; the message says why and what to do."""


def prepare(version: str | None = None, resolution: str | None = None) -> Path:
    """The Python of an environment that holds the project and its tools; made where needed.

    `version` is X.Y (None: the Python that runs this). `resolution` is None for the exact
    versions of the lock, `lowest` or `highest` for the ends of what pyproject.toml allows.
    Raises CannotPrepare.
    """
    base = _interpreter(version)
    folder = ROOT / "-".join([".venv", *filter(None, (version, resolution))])
    python = python_of(folder)
    stamp = folder / _STAMP
    wanted = _digest(base, resolution)
    known = stamp.is_file() and python.exists() and stamp.read_text(encoding="utf-8") == wanted
    if known and resolution != "highest":
        return python
    began = time.monotonic()
    if not known:
        _make(base, folder)
    if resolution is None:
        _pip(python, "install", "--require-hashes", "-r", str(LOCK))
        _pip(python, "install", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    else:
        _resolve(python, resolution)
    stamp.write_text(wanted, encoding="utf-8")
    say(f"{folder.name} is ready ({time.monotonic() - began:.1f}s)")
    return python


def bare(folder: Path, *requirements: str) -> Path:
    """The Python of a new environment at `folder` that holds `requirements` alone."""
    _make(_interpreter(None), folder)
    python = python_of(folder)
    _pip(python, "install", *requirements)
    return python


def python_of(folder: Path) -> Path:
    """Where an environment keeps its Python."""
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def call(command: list[str], folder: Path = ROOT) -> int:
    """Run `command` in `folder` with the terminal's signals left to it; its exit code."""
    signal.signal(signal.SIGINT, lambda _number, _frame: None)  # Ctrl-C reaches the command itself
    with subprocess.Popen(command, cwd=folder, env=surroundings()) as process:
        signal.signal(signal.SIGTERM, lambda number, _frame: process.send_signal(number))
        code = process.wait()
    return 128 - code if code < 0 else code


def hear_signals() -> None:
    """Let all that is begun from here hear the signals that a background job or nohup is begun without."""
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def surroundings() -> dict[str, str]:
    """The environment variables, without those that would lead a Python astray."""
    misleading = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_USER", "__PYVENV_LAUNCHER__")
    return {name: value for name, value in os.environ.items() if name not in misleading}


def say(text: str) -> None:
    """A line about the environment; stdout belongs to what runs in it."""
    print(text, file=sys.stderr, flush=True)


def _interpreter(version: str | None) -> str:
    if version is None:
        if sys.version_info < OLDEST:
            raise CannotPrepare(
                f"Python {sys.version.split()[0]} is too old: flowd needs {OLDEST[0]}.{OLDEST[1]} or newer; "
                "start this script with one, such as python3.11"
            )
        return sys.executable
    parts = version.split(".")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise CannotPrepare(f"--python {version}: write it as X.Y, such as 3.13")
    if tuple(int(part) for part in parts) < OLDEST:
        raise CannotPrepare("--python {}: flowd needs {}.{} or newer".format(version, *OLDEST))
    for candidate in _candidates(version):
        if _says(candidate, _ASK).startswith(version + "."):
            return candidate
    raise CannotPrepare(
        f"Python {version} is not installed here: no python{version} on PATH or below ~/.pyenv/versions"
    )


def _candidates(version: str) -> list[str]:
    name = f"python{version}"
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}*/bin/{name}"), reverse=True)
    on_path = shutil.which(name)
    return [sys.executable, *([on_path] if on_path else []), *map(str, installed)]


def _says(python: str, program: str) -> str:
    """What `program` prints; an empty text where it cannot run (a shim without its Python, say)."""
    try:
        done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False, env=surroundings())
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _digest(base: str, resolution: str | None) -> str:
    """A digest of all that an environment depends on, its own place included."""
    parts = [str(ROOT), _says(base, _ASK + "; print(sys.base_prefix)"), _what_is_installed()]
    parts.append(UV if resolution else LOCK.read_text(encoding="utf-8"))
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _what_is_installed() -> str:
    """The sections of pyproject.toml that an installation depends on; a linter's rule is none of them."""
    sections = re.split(r"^(?=\[)", PROJECT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return "".join(part for part in sections if part.startswith(("[build-system", "[project", "[tool.hatch")))


def _make(base: str, folder: Path) -> None:
    if not _says(base, "import ensurepip, venv; print('yes')"):
        raise CannotPrepare(
            f"{base} cannot make environments: no ensurepip; on Debian and Ubuntu: apt-get install python3-venv"
        )
    say(f"making {folder.name} with Python {_says(base, _ASK)} (the first time takes a while)")
    _run([base, "-m", "venv", "--clear", str(folder)], "the environment could not be made")


def _resolve(python: Path, resolution: str) -> None:
    _pip(python, "install", UV)
    kind = {"lowest": "lowest-direct", "highest": "highest"}[resolution]
    command = [str(python), "-m", "uv", "--quiet", "pip", "install", "--python", str(python), "--upgrade"]
    _run(
        [*command, "--resolution", kind, "-e", f"{ROOT}[{EXTRAS}]"],
        f"the {resolution} dependencies could not be installed",
    )


def _pip(python: Path, *arguments: str) -> None:
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    _run([str(python), "-m", "pip", *quiet, *arguments], "pip failed; is a package registry reachable?")


def _run(command: list[str], otherwise: str) -> None:
    if subprocess.run(command, cwd=ROOT, env=surroundings(), stdout=sys.stderr, check=False).returncode:
        raise CannotPrepare(otherwise)
