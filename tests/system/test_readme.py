"""What the README shows is so: its program runs, its transcript is what is printed, its commands are understood."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from examples import PRODUCED
from flowd.cli.commands import TABLE
from flowd.cli.commands import flowd as commands
from flowd.core.reasons import REASONS
from flowd_process import Place

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
TEXT = README.read_text("utf-8")
VARIES = (
    (r"\b\d{8}-\d{4,6}-\w+", "RUN"),  # an id
    (r"\d+\.\d+s|\d+s ago", "TIME"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "MOMENT"),
    (r"approved by \S+?(:|$)", r"approved by WHO\1"),
    (r"\([\d.]+ (B|KiB)\)", "(SIZE)"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r" {2,}", "  "),  # columns
)


def test_the_python_example_runs(tmp_path: Path) -> None:
    """The whole block, copied into an empty folder: events are printed, the output is made, the run succeeds."""
    (example,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    (tmp_path / "example.py").write_text(example, "utf-8")
    ended = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert "task_succeeded ingest" in ended.stdout
    assert "run_finished None" in ended.stdout
    assert (tmp_path / "prices.json").read_text("utf-8") == "[100.0, 101.2]"


# --- transcripts -------------------------------------------------------------------------------------------


def consoles() -> list[tuple[str, str]]:
    """Each command of a console block that begins with `flowd`, and what stands below it."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            if command.startswith("flowd "):
                found.append((command, shown))
    return found


def settled(text: str) -> list[str]:
    """The lines of a transcript without what differs from run to run."""
    for pattern, word in VARIES:
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    return text.strip().splitlines()


def test_the_transcripts_are_what_is_printed(here: Place) -> None:
    """Command after command, in a copy of the examples, the lines are those of the README but for ids and times.

    What starts together ends in any order, so the order of the lines is left to the tests of each example.
    """
    shutil.copytree(ROOT / "configs", here.folder / "configs", ignore=PRODUCED)
    here.write("pyproject.toml", "")  # the project's root, where the state is
    assert len(consoles()) == 7
    for command, shown in consoles():
        ended = here.run(*shlex.split(command)[1:])
        assert ended.code == (3 if "waiting after" in shown else 0), ended.said
        assert sorted(settled(ended.out)) == sorted(settled(shown))


# --- commands ----------------------------------------------------------------------------------------------


def snippets(text: str) -> Iterator[str]:
    """Every piece of code that names a command of flowd; of a row in the table of commands, its options too."""
    for line in text.partition("## What is not there yet")[0].splitlines():
        command = ""  # the row's first
        for code in re.findall(r"`([^`]+)`", line):
            words = code.removeprefix("flowd ").split()
            if code.startswith("flowd ") or (words[0] in TABLE and len(words) > 1):
                command = command or code.removeprefix("flowd ")
                yield code.removeprefix("flowd ")
            elif code.startswith("-") and line.startswith("| `flowd ") and command:
                yield f"{command} {code}"


def understood(code: str) -> None:
    """Parse a command as it is written, each placeholder by a word; raises what click raises."""
    plain = code.replace("\\|", "|").replace("…", "").replace("[", "").replace("]", "")
    plain = re.sub(r"\b(\w+)(\|\w+)+", r"\1", plain)
    words = [{"N": "1", "VERDICT": "failed"}.get(word, word) for word in shlex.split(plain)]
    found = commands.get_command(click.Context(commands), words[0])
    if found is not None:
        found.make_context(words[0], words[1:])
    elif not words[0].startswith("-"):
        raise click.UsageError(f"there is no command {words[0]}")


def test_there_are_commands_to_understand() -> None:
    """The search finds the table's, the tutorial's and the options."""
    found = list(snippets(TEXT))
    assert len(found) > 25
    assert {"show last", "resume --all", "run configs/quickstart/pipeline.yaml -p fail_times=2"} <= set(found)
    assert any(code.startswith("run FILE [TASK…] -p K=V --force") for code in found)


@pytest.mark.parametrize("code", sorted(set(snippets(TEXT)) | {command[6:] for command, _ in consoles()}))
def test_every_command_is_understood(code: str) -> None:
    """Each command line that the README shows is one that flowd takes today."""
    understood(code)


@pytest.mark.parametrize("code", sorted({why.next for why in REASONS.values() if why.next}))
def test_every_next_command_is_understood(code: str) -> None:
    """So is each that a reason names."""
    understood(code.removeprefix("flowd "))


def test_the_table_has_every_command() -> None:
    """A command that is not in the README's table does not exist for its readers."""
    rows = "\n".join(line for line in TEXT.splitlines() if line.startswith("| `flowd "))
    assert not [name for name in TABLE if not re.search(rf"`(flowd )?{name}\b", rows)]


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)\)", TEXT))))
def test_every_link_leads_somewhere(target: str) -> None:
    """A relative link is a file or a folder of the project."""
    assert (ROOT / target).exists()
