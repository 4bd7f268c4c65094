"""stdout and stderr as others hold them: closed, full, a terminal, ASCII only."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import pytest

from flowd_process import FLOWD, Place, end_of, states, until

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def some(here: Place, count: int = 6) -> None:
    here.pipeline({f"t{n}": {"run": f"echo {n}", "needs": [f"t{n - 1}"] if n else []} for n in range(count)})


def shell(here: Place, text: str) -> subprocess.CompletedProcess[str]:
    """A command line with `flowd` in it."""
    words = text.replace("flowd", " ".join(FLOWD))
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", words],
        cwd=here.folder,
        env=here.environment(),
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


CHILDREN = """\
import asyncio, os, subprocess
from flowd import Pipeline

p = Pipeline("p")

@p.task
async def coroutine() -> int:
    child = await asyncio.create_subprocess_shell("echo from a child; echo unended | tr -d '\\n'")
    return await child.wait()

@p.task(needs=["coroutine"], executor="thread")
def thread() -> int:
    os.write(1, b"raw ")
    return subprocess.run(["echo", "from a thread's child"]).returncode
"""


@pytest.mark.parametrize("flag", ["--json", "--events"])
def test_children_of_tasks_never_write_between_documents(here: Place, flag: str) -> None:
    """stdout has whole documents and nothing else; what children of in-process tasks print goes to stderr."""
    here.write("pipeline.py", CHILDREN)
    ended = here.run("run", "pipeline.py", flag)
    assert ended.code == 0, ended.said
    if flag == "--json":
        assert ended.document["state"] == "succeeded"
    else:
        assert [event["event"] for event in ended.events][-1] == "run_finished", ended.said
    for said in ("from a child\n", "unended", "raw ", "from a thread's child\n"):  # lines of others may come between
        assert said in ended.err


def test_a_reader_that_leaves(here: Place) -> None:
    """`| head -1` and `> /dev/full` give no traceback; only the second is said."""
    some(here)
    here.ok("run")
    for command in ("flowd show", "flowd events --json", "flowd logs"):
        left = shell(here, f"{command} | head -1")
        assert "Traceback" not in left.stderr
        assert "error of its own" not in left.stderr
    for command in ("flowd runs", "flowd show", "flowd show --json", "flowd events", "flowd logs", "flowd list"):
        full = shell(here, f"{command} > /dev/full")
        assert full.returncode == 4, full.stderr
        assert full.stderr == "cannot write to stdout: No space left on device\n"
    closed = shell(here, "flowd show >&-")
    assert (closed.returncode, closed.stderr) == (0, "")


@pytest.mark.parametrize(
    ("how", "to"),
    [
        *(("", to) for to in ("> /dev/full", ">&-", "2> /dev/full", "2>&-", "> /dev/full 2>&1", ">&- 2>&-")),
        *(("--json", to) for to in ("> /dev/full", ">&-", "2> /dev/full", "2>&-")),
        ("--events", "> /dev/full"),
    ],
)
def test_a_run_goes_on_without_its_streams(here: Place, how: str, to: str) -> None:
    """A full or closed stream keeps no task from running, and the journal from nothing."""
    some(here)
    ended = shell(here, f"flowd run --run-id r {how} {to}")
    assert "Traceback" not in ended.stderr + ended.stdout
    assert ended.returncode == (4 if to.startswith("> /dev/full") else 0), ended.stderr
    document = here.json("show", "r")
    assert set(states(document).values()) == {"succeeded"}


def test_a_reader_of_a_run_that_leaves(here: Place) -> None:
    """`run | head -1`: the run goes on to its end."""
    some(here)
    for how in ("", "--events"):
        shell(here, f"flowd run --run-id r{how} {how} | head -1")
        assert set(states(here.json("show", f"r{how}")).values()) == {"succeeded"}


def test_ascii_and_no_colour(here: Place) -> None:
    """Where the locale is not UTF-8 every byte is ASCII, and the words still say it all."""
    here.pipeline({"good": {"run": "true"}, "bad": {"run": "exit 1"}})
    ended = here.run("run", env={"PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"})
    assert ended.code == 1
    assert ended.out.isascii()
    assert ended.err.isascii()
    assert re.search(r"^  \+ good", ended.out, re.MULTILINE)
    assert re.search(r"^  x bad .*failed", ended.out, re.MULTILINE)


ASCII = {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
WORDS = "grün 😀"


@pytest.fixture
def german(here: Place) -> Place:
    """A place whose files, tasks and texts no ASCII stream can take, and a run there."""
    task = {"run": f"echo '{WORDS}'; echo '{WORDS}' > grün.txt", "outputs": ["grün.txt"]}
    document = {"name": "p", "params": {"word": WORDS}, "tasks": {"t": task}}
    here.write("größe/pipeline.yaml", json.dumps(document, ensure_ascii=False))
    here.ok("run", "größe/pipeline.yaml", "--run-id", "r", "--state-dir", "zustände")
    return here


@pytest.mark.parametrize(
    "words",
    [
        ("run", "größe/pipeline.yaml", "--force", "--json"),
        ("run", "größe/pipeline.yaml", "--force", "--events"),
        ("show", "r", "--json"),
        ("show", "r", "--resolved", "--json"),
        ("events", "r", "--json"),
        ("logs", "r", "--json"),
        ("plan", "größe/pipeline.yaml", "--json"),
        ("list", "--json"),
        ("validate", "größe/none.yaml", "--json"),
    ],
    ids=" ".join,
)
def test_json_on_a_stream_of_ascii_is_the_same_json(german: Place, words: tuple[str, ...]) -> None:
    """What such a stream cannot take is escaped, so that a program reads what it reads from any other."""
    words += () if words[0] in {"list", "validate"} else ("--state-dir", "zustände")
    plain, ascii_only = german.run(*words), german.run(*words, env=ASCII)
    assert ascii_only.out.isascii(), ascii_only.said
    assert (ascii_only.code, ascii_only.err.count("error of its own")) == (plain.code, 0), ascii_only.said
    assert not plain.out.isascii()
    told = [strings(json.loads(line)) for ended in (plain, ascii_only) for line in comparable(ended.out.splitlines())]
    assert told[: len(told) // 2] == told[len(told) // 2 :]


def strings(value: object) -> list[str]:
    """The texts in a document that hold what ASCII has not."""
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) and not value.isascii() else []


@pytest.mark.parametrize(
    "words", [("logs", "r"), ("show", "r"), ("show", "r", "--resolved"), ("events", "r"), ("list",)]
)
def test_text_on_a_stream_of_ascii(german: Place, words: tuple[str, ...]) -> None:
    """It is written out, with what such a stream cannot take as its number."""
    ended = german.ok(*words, *(("--state-dir", "zustände") if words != ("list",) else ()), env=ASCII)
    assert ended.out.isascii()
    assert "\\xfc" in ended.out or "\\xf6" in ended.out


@pytest.mark.parametrize("form", ["console", "json"])
def test_log_lines_on_a_stdout_of_ascii(here: Place, form: str) -> None:
    """They own stdout where the pipeline says so, and lose nothing there either."""
    here.write("work.py", f"def f(ctx):\n    ctx.log.info('{WORDS}')\n")
    here.pipeline({"t": {"call": "work:f"}}, log={"console": "stdout", "format": form})
    ended = here.ok("run", env=ASCII)
    assert ended.out.isascii()
    if form == "json":
        assert WORDS in [json.loads(line).get("event") for line in ended.out.splitlines()]
    else:
        assert r"gr\xfcn \U0001f600" in ended.out


class Terminal:
    """A command on a pseudo terminal, and all that it wrote there."""

    def __init__(self, here: Place, *words: str, **env: str) -> None:
        ours, theirs = pty.openpty()
        options = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
        self.process = here.begin(*words, env={"COLUMNS": "100", "LINES": "30", **env}, **options)
        os.close(theirs)
        self._ours = ours
        self.text = ""

    def read(self, wanted: str | None = None, patience: float = 30) -> str:
        """Read until the text holds `wanted`, or to the end."""
        end = time.monotonic() + patience
        while wanted is None or wanted not in self.text:
            assert time.monotonic() < end, self.text
            if not select.select([self._ours], [], [], 0.05)[0]:
                continue
            try:
                data = os.read(self._ours, 65536)
            except OSError:  # nobody holds the other end
                break
            if not data:
                break
            self.text += data.decode("utf-8", "replace")
        return self.text

    def screen(self) -> list[str]:
        """The lines as they stand at the end, drawn by a small terminal."""
        rows: list[str] = [""]
        row = column = 0
        for piece in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\r|\n|[^\x1b\r\n]+", self.text):
            if piece == "\r":
                column = 0
            elif piece == "\n":
                row += 1
                rows += [""] * (row + 1 - len(rows))
            elif piece.startswith("\x1b"):
                number = int(re.sub(r"\D", "", piece) or 1)
                if piece.endswith("A"):
                    row = max(row - number, 0)
                elif piece.endswith("K"):
                    rows[row] = "" if number == 2 else rows[row][:column]
            else:
                rows[row] = rows[row][:column].ljust(column) + piece + rows[row][column + len(piece) :]
                column += len(piece)
        return [line.rstrip() for line in rows]

    def close(self) -> int:
        self.read()
        code = self.process.wait(20)
        os.close(self._ours)
        return code


def comparable(lines: list[str]) -> list[str]:
    """Transcript lines without what differs between any two runs: ids, durations, blank edges."""
    text = "\n".join(line.rstrip() for line in lines).strip("\n")
    text = re.sub(r"\d{8}-\d{6}-\w+", "RUN", text)
    return re.sub(r"\d+(\.\d+)?s\b *", "TIME ", text).splitlines()


def test_a_terminal_shows_what_runs_and_keeps_the_same_lines(here: Place) -> None:
    """While a task runs a row is drawn with its name; at the end the screen holds the pipe's lines and no more."""
    here.pipeline(
        {
            "first": {"run": "true"},
            "second": {"run": "while test ! -e go; do sleep 0.02; done", "needs": ["first"]},
            "third": {"run": "exit 1", "needs": ["second"]},
            "fourth": {"run": "true", "needs": ["third"]},
        }
    )
    terminal = Terminal(here, "run")
    terminal.read("▸ second")
    assert "1 of 4 done, 1 running" in terminal.read("1 running")
    here.write("go", "")
    assert terminal.close() == 1
    assert "\x1b[" in terminal.text
    piped = here.run("run")
    assert comparable(terminal.screen()) == comparable(piped.out.splitlines())


def test_no_color_is_obeyed_on_a_terminal(here: Place) -> None:
    """NO_COLOR: no colour at all, and the same words."""
    some(here, 2)
    terminal = Terminal(here, "run", NO_COLOR="1")
    assert terminal.close() == 0
    assert not re.search(r"\x1b\[[0-9;]*m", terminal.text)
    assert "succeeded in" in terminal.text


def test_ctrl_c_on_a_terminal(here: Place) -> None:
    """The key interrupts, the screen is left clean, and the last line says how to go on."""
    here.pipeline({"t": {"run": "echo x > begun; sleep 600", "grace": "100ms"}})
    terminal = Terminal(here, "run", "--run-id", "r")
    until(here.has("begun"))
    terminal.read("▸ t")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.close() == 130
    screen = [line for line in terminal.screen() if line]
    assert screen[-1] == "next: flowd resume r"
    assert not any("▸" in line for line in screen)


def test_what_tasks_print_goes_to_their_logs(here: Place) -> None:
    """`print` in a function is kept in its attempt's log and stays out of the command's stdout."""
    here.write(
        "work.py",
        "import sys\ndef f():\n    print('from f')\n    print('to stderr', file=sys.stderr)\n    return 1\n",
    )
    here.pipeline({name: {"call": "work:f", "executor": name} for name in ("thread", "process")})
    document = here.json("run")
    assert {task["result"] for task in document["tasks"].values()} == {1}
    for name in ("thread", "process"):
        assert {"from f", "to stderr"} <= set(here.ok("logs", "last", name).out.splitlines()), name


def test_a_script_may_run_its_own_pipeline(here: Place) -> None:
    """flowd.main gives a script the commands."""
    here.write(
        "own.py",
        "import flowd\np = flowd.Pipeline('own')\n\n@p.task\ndef one():\n    return 1\n\n"
        "if __name__ == '__main__':\n    flowd.main(p)\n",
    )
    process = subprocess.Popen(
        [sys.executable, "own.py", "run", "--json"],
        cwd=here.folder,
        env=here.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    ended = end_of(process)
    assert ended.code == 0, ended.said
    assert ended.document["tasks"]["one"]["result"] == 1
