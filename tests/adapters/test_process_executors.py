"""The executors that run outside this process: commands by the shell, functions in a child."""

from __future__ import annotations

import os
import time
from pathlib import Path
from textwrap import dedent

import anyio
import pytest
from faulting.living import within

from attempts import Recording, call_work, command_work, living
from flowd.adapters.executors.failure import describe
from flowd.adapters.executors.guardian import Guardian
from flowd.adapters.executors.process import ProcessExecutor
from flowd.adapters.executors.reports import BadReport
from flowd.adapters.executors.shell import ExitedBadly, ShellExecutor
from flowd.ports.executor import CommandFailed, EndUnknown


@pytest.fixture
async def guardian():
    """A guardian for one test."""
    async with Guardian(f"test-{os.getpid()}-{time.monotonic_ns()}") as guardian:
        yield guardian


def reporting(folder: Path, text: str):
    """Work that runs `text` by sh."""
    return command_work(folder, "sh", "-e", "-c", text)


# --- commands ----------------------------------------------------------------------------------------


async def test_a_command_reports_metrics_and_a_result(guardian: Guardian, tmp_path: Path):
    """Lines `name=value` are metrics, the other file is the JSON result, stdout is neither."""
    channel = Recording()
    text = "echo rows=3 >>$FLOWD_METRICS; echo r2=-0.5 >>$FLOWD_METRICS; echo '{\"a\": [1]}' >$FLOWD_RESULT; echo 42"
    assert await ShellExecutor(guardian).run(reporting(tmp_path, text), channel) == {"a": [1]}
    assert channel.metrics == [("rows", 3.0), ("r2", -0.5)]
    assert (tmp_path / "logs" / "task.1.log").read_text() == "42\n"


NAMES_ITS_FILE = 'echo "\\"$FLOWD_RESULT\\"" >"$FLOWD_RESULT"'


async def test_one_command_finds_nothing_of_what_another_reported(guardian: Guardian, tmp_path: Path):
    """Files are taken over by who comes next, empty; who runs at once has others."""
    executor, channels, places = ShellExecutor(guardian), [Recording() for _ in range(4)], []
    text = f'test ! -s "$FLOWD_METRICS"; test ! -s "$FLOWD_RESULT"; echo n=1 >$FLOWD_METRICS; {NAMES_ITS_FILE}'

    async def run(channel: Recording, then: str = "") -> None:
        places.append(await executor.run(reporting(tmp_path, text + then), channel))

    await run(channels[0])
    await run(channels[1])
    async with anyio.create_task_group() as group:
        group.start_soon(run, channels[2], "; sleep 0.2")
        group.start_soon(run, channels[3], "; sleep 0.2")
    assert [channel.metrics for channel in channels] == [[("n", 1.0)]] * 4
    assert places[0] == places[1]
    assert places[2] != places[3]
    assert len([*(tmp_path / "logs").glob(".*.metrics")]) == 2


async def test_the_files_of_one_that_may_still_write_are_left_to_it(guardian: Guardian, tmp_path: Path):
    """Without its guardian nobody knows whether all that it began has ended."""
    executor = ShellExecutor(guardian)
    taken = await executor.run(reporting(tmp_path, NAMES_ITS_FILE), Recording())
    with pytest.raises(EndUnknown):
        await executor.run(reporting(tmp_path, "kill -9 $PPID; sleep 9"), Recording())
    assert await executor.run(reporting(tmp_path, NAMES_ITS_FILE), Recording()) != taken


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("printf 'rows=3\\nrows: 4\\n' >$FLOWD_METRICS", "line 2 of $FLOWD_METRICS is bad: 'rows: 4'"),
        ("echo mae=nan >$FLOWD_METRICS", "line 1 of $FLOWD_METRICS is bad"),
        ("echo mae=1_000 >$FLOWD_METRICS", "line 1 of $FLOWD_METRICS is bad"),
        ("printf '{\\n\"a\": 1,\\n}' >$FLOWD_RESULT", "line 3 of $FLOWD_RESULT is no JSON"),
        ("echo NaN >$FLOWD_RESULT", "line 1 of $FLOWD_RESULT is no JSON"),
    ],
)
async def test_a_bad_report_fails_the_task_and_names_the_line(guardian: Guardian, tmp_path: Path, text, said):
    """What cannot be read is never guessed at."""
    with pytest.raises(BadReport) as caught:
        await ShellExecutor(guardian).run(reporting(tmp_path, text), Recording())
    assert said in str(caught.value)


async def test_the_result_of_a_command_that_failed_does_not_count(guardian: Guardian, tmp_path: Path):
    """Metrics are read after a failure too; the result only after exit 0."""
    channel = Recording()
    with pytest.raises(ExitedBadly) as caught:
        await ShellExecutor(guardian).run(
            reporting(tmp_path, "echo n=1 >$FLOWD_METRICS; echo 1 >$FLOWD_RESULT; echo oh no >&2; exit 7"), channel
        )
    assert channel.metrics == [("n", 1.0)]
    assert caught.value.error.exit_code == 7
    assert caught.value.error.message == "exit code 7: oh no"


@pytest.mark.parametrize("argv", [("no-such-program", "x"), ("sh", "-c", "no-such-program")])
async def test_a_command_that_is_not_there_is_called_that(guardian: Guardian, tmp_path: Path, argv):
    """`command not found` with the name, by the shell or without one."""
    with pytest.raises(CommandFailed) as caught:
        await ShellExecutor(guardian).run(command_work(tmp_path, *argv), Recording())
    assert "command not found: no-such-program" in caught.value.error.message
    assert caught.value.error.exit_code == 127


async def test_a_command_ended_by_a_signal_says_which(guardian: Guardian, tmp_path: Path):
    """The signal has its name."""
    with pytest.raises(CommandFailed) as caught:
        await ShellExecutor(guardian).run(command_work(tmp_path, "sh", "-c", "kill -SEGV $$"), Recording())
    assert caught.value.error.signal == "SIGSEGV"


async def test_a_process_has_a_death_certificate(guardian: Guardian, tmp_path: Path):
    """Code or signal and who sent it, what it used, and its last lines where it ended badly."""
    channel, executor = Recording(), ShellExecutor(guardian)
    await executor.run(command_work(tmp_path, "sh", "-c", "echo hello"), channel)
    good = channel.ending
    assert good is not None
    assert (good.exit_code, good.signal, good.sender, good.tail, good.stopped_by) == (0, None, None, (), None)
    assert good.cpu_s is not None
    assert good.peak_rss is not None
    assert good.peak_rss > 100_000
    text = "for n in $(seq 60); do echo line $n; done; kill -KILL $$"
    with pytest.raises(ExitedBadly):
        await executor.run(command_work(tmp_path, "sh", "-c", text), channel)
    bad = channel.ending
    assert bad is not None
    assert (bad.exit_code, bad.signal, bad.sender) == (None, "SIGKILL", "unknown")
    assert bad.tail == tuple(f"line {number}" for number in range(11, 61))


@pytest.mark.parametrize(("trap", "stopped_by"), [("exit 0", "SIGTERM"), ("", "SIGKILL")])
async def test_a_stopped_process_leaves_a_receipt(guardian: Guardian, tmp_path: Path, trap, stopped_by):
    """What it stopped at, and how long after it was asked."""
    channel = Recording()
    text = f"trap '{trap}' TERM; echo ready; while :; do sleep 0.01; done"
    with anyio.move_on_after(5) as scope:
        async with anyio.create_task_group() as group:
            work = command_work(tmp_path, "sh", "-c", text, grace=0.2)
            group.start_soon(ShellExecutor(guardian).run, work, channel)
            while not (work.log.exists() and work.log.read_text()):
                await anyio.sleep(0.005)
            group.cancel_scope.cancel()
    assert not scope.cancelled_caught
    assert channel.ending is not None
    assert channel.ending.stopped_by == stopped_by
    assert channel.ending.stop_s is not None
    assert (channel.ending.stop_s >= 0.2) == (stopped_by == "SIGKILL")


async def test_what_a_command_leaves_behind_is_ended_and_said(guardian: Guardian, tmp_path: Path):
    """A stray that holds the pipes open delays nothing and does not survive."""
    channel, token = Recording(), f"98765.{os.getpid()}"
    started = time.monotonic()
    await ShellExecutor(guardian).run(command_work(tmp_path, "sh", "-c", f"setsid sleep {token} & exit 0"), channel)
    assert time.monotonic() - started < 5
    assert within(1, lambda: not living(token))
    assert channel.logs[0][1] == "processes that the task left behind were ended"


# --- functions in a child ----------------------------------------------------------------------------

STEPS = """
import os, sys, time

class OwnError(Exception):
    def __init__(self, code, text):
        super().__init__(text)
        self.code = code

def add(a, b):
    print("adding", flush=True)
    return a + b

def speak(ctx):
    ctx.log.info("hello", rows=3, path=os.getcwd())
    ctx.metric("mae", 0.5)
    ctx.progress(1, 2)
    return {"attempt": ctx.attempt, "params": ctx.params, "outputs": [str(path) for path in ctx.outputs]}

def spin():
    while True:
        pass

def fail():
    raise OwnError(3, "no price")

def fail_locally():
    class Local(ConnectionError):
        pass
    raise Local("reset")

def leave():
    sys.exit(3)

def die():
    os.kill(os.getpid(), 9)

def lock():
    import threading
    return threading.Lock()

async def later():
    return "awaited"
"""


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    """A folder with a module of functions."""
    (tmp_path / "steps.py").write_text(dedent(STEPS))
    return tmp_path


async def test_a_function_runs_in_a_child(guardian: Guardian, steps: Path):
    """Arguments go in, the result comes out, what it prints is in the attempt's file."""
    work = call_work(steps, "add", "process", arguments={"a": [1], "b": [2]})
    assert await ProcessExecutor(guardian).run(work, Recording()) == [1, 2]
    assert (steps / "logs" / "task.1.log").read_text() == "adding\n"


async def test_a_child_has_a_context(guardian: Guardian, steps: Path):
    """`ctx` says in the child what it says here, and its words arrive."""
    channel = Recording()
    work = call_work(steps, "speak", "process", wants_ctx=True, params={"n": 1}, outputs=(steps / "out",), attempt=2)
    found = await ProcessExecutor(guardian).run(work, channel)
    assert found == {"attempt": 2, "params": {"n": 1}, "outputs": [str(steps / "out")]}
    assert channel.logs == [("info", "hello", {"rows": 3, "path": str(steps)})]
    assert channel.metrics == [("mae", 0.5)]
    assert channel.steps == [(1, 2)]


async def test_a_spinning_child_is_killed(guardian: Guardian, steps: Path):
    """CPU-bound Python that never looks up ends with its scope."""
    with anyio.fail_after(10), anyio.move_on_after(0.3) as scope:
        await ProcessExecutor(guardian).run(call_work(steps, "spin", "process", grace=0.1), Recording())
    assert scope.cancelled_caught


async def test_an_exception_comes_back_with_its_line(guardian: Guardian, steps: Path):
    """One that cannot travel still has its class's name and those of its bases, for retry policies."""
    with pytest.raises(Exception, match="no price") as caught:
        await ProcessExecutor(guardian).run(call_work(steps, "fail", "process"), Recording())
    assert type(caught.value).__name__ == "OwnError"
    assert describe(caught.value, steps).where == "steps.py:24"
    with pytest.raises(Exception, match="reset") as caught:
        await ProcessExecutor(guardian).run(call_work(steps, "fail_locally", "process"), Recording())
    assert [kind.__name__ for kind in type(caught.value).__mro__][:3] == ["Local", "ConnectionError", "OSError"]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("leave", "sys.exit(3)"),
        ("die", "killed by SIGKILL"),
        ("lock", "its result (a lock) cannot be sent out of the child process"),
        ("missing", "missing"),
    ],
)
async def test_every_end_of_a_child_is_told(guardian: Guardian, steps: Path, function, said):
    """A child that exits, dies or cannot answer is a failure that says which."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  # each its own kind
        await ProcessExecutor(guardian).run(call_work(steps, function, "process"), Recording())
    assert said in describe(caught.value, steps).message


async def test_an_argument_that_cannot_travel_is_named(guardian: Guardian, steps: Path):
    """The message names the argument, before any process begins."""
    work = call_work(steps, "add", "process", arguments={"a": 1, "b": (number for number in [1])})
    with pytest.raises(TypeError, match=r"argument b \(a generator\) cannot be sent"):
        await ProcessExecutor(guardian).run(work, Recording())
    assert guardian.pid is None


async def test_an_async_function_may_run_in_a_child(guardian: Guardian, steps: Path):
    """It gets a loop of its own there."""
    assert await ProcessExecutor(guardian).run(call_work(steps, "later", "process"), Recording()) == "awaited"


async def test_functions_that_no_child_can_import_are_refused(guardian: Guardian, tmp_path: Path):
    """A closure says what to do instead."""
    with pytest.raises(TypeError, match="move it to the top of a module of its own, or use executor thread"):
        await ProcessExecutor(guardian).run(call_work(tmp_path, lambda: 1, "process"), Recording())
