"""`ctx.spawn`: programs that coroutines and threads begin, none of which outlives its attempt."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import subprocess
import sys
import time
import weakref
from functools import partial
from pathlib import Path

import anyio
import pytest
from faulting.living import within

from attempts import Recording, call_work, living
from flowd.adapters.executors.coroutine import CoroutineExecutor
from flowd.adapters.executors.failure import describe
from flowd.adapters.executors.guardian import Guardian
from flowd.adapters.executors.process import ProcessExecutor
from flowd.adapters.executors.thread import ThreadExecutor
from flowd.ports.executor import CommandFailed

EXECUTORS = pytest.mark.parametrize("kind", ["async", "thread"])


@pytest.fixture
async def guardian():
    """A guardian that leaves nothing behind."""
    async with Guardian(f"test-{os.getpid()}-{time.monotonic_ns()}") as opened:
        yield opened


@pytest.fixture
def token() -> str:
    """What marks the command lines of one test."""
    return f"token-{secrets.token_hex(8)}"


def body(kind: str, *argv: str, **options):
    """A function of that kind which spawns one program and gives what it got."""

    async def awaits(ctx):
        return await ctx.spawn(*argv, **options)

    def waits(ctx):
        return ctx.spawn(*argv, **options)

    return awaits if kind == "async" else waits


async def run(guardian: Guardian | None, folder: Path, kind: str, function, channel=None, **fields):
    """One attempt of a function."""
    executor = CoroutineExecutor(guardian) if kind == "async" else ThreadExecutor(guardian)
    return await executor.run(call_work(folder, function, kind, wants_ctx=True, **fields), channel or Recording())


def stubborn(token: str) -> tuple[str, ...]:
    """A program with a child, both deaf to SIGTERM."""
    return ("sh", "-c", f"trap '' TERM; sh -c 'trap \"\" TERM; while :; do sleep 0.1; done # {token}' & wait # {token}")


@EXECUTORS
async def test_it_gives_how_the_program_ended(guardian, tmp_path: Path, kind):
    """Exit code, last lines, environment and folder; all it said is in the attempt's log."""
    (tmp_path / "sub").mkdir()
    script = "echo $FLOWD_TASK $FLOWD_ATTEMPT $FROM_TASK $OWN; pwd; echo oops >&2; exit 7"
    function = body(kind, "sh", "-c", script, env={"OWN": "mine"}, cwd="sub", check=False)
    ended = await run(guardian, tmp_path, kind, function, env={"FROM_TASK": "given"}, attempt=2)
    assert (ended.exit_code, ended.signal) == (7, None)
    assert sorted(ended.tail) == sorted(["task 2 given mine", str(tmp_path / "sub"), "oops"])
    log = (tmp_path / "logs" / "task.2.log").read_text()
    assert all(line in log for line in ended.tail)


@EXECUTORS
async def test_a_program_that_fails_fails_its_task(guardian, tmp_path: Path, kind):
    """As a command of its own would: the error has the exit code and the last line; so has one that is not found."""
    with pytest.raises(CommandFailed) as caught:
        await run(guardian, tmp_path, kind, body(kind, "sh", "-c", "echo why >&2; exit 3"))
    error = describe(caught.value, tmp_path)
    assert (error.exit_code, error.message) == (3, "exit code 3: why")
    with pytest.raises(CommandFailed, match="nothing-of-this-name"):
        await run(guardian, tmp_path, kind, body(kind, "nothing-of-this-name"))


@EXECUTORS
async def test_cancelled_it_leaves_nothing_behind(guardian, tmp_path: Path, kind, token):
    """The whole tree is ended, by SIGKILL where it is deaf, before the cancellation is passed on; no thread is left."""
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(partial(run, guardian, tmp_path, kind, body(kind, *stubborn(token)), grace=0.2))
            while len(living(token)) < 2:
                await anyio.sleep(0.01)
            scope.cancel()
    assert scope.cancelled_caught
    assert not living(token)


@EXECUTORS
async def test_a_timeout_ends_it_too(guardian, tmp_path: Path, kind, token):
    """With the grace of the task, which its programs share."""
    with anyio.move_on_after(0.3) as scope:
        await run(guardian, tmp_path, kind, body(kind, *stubborn(token)), grace=0.2)
    assert scope.cancelled_caught
    assert not living(token)


async def test_what_is_still_awaited_elsewhere_ends_with_the_attempt(guardian, tmp_path: Path, token):
    """A task that the function has let go: its program ends when the function returns, and it can begin no other."""
    kept = []

    async def lets_go(ctx):
        kept.extend((ctx, asyncio.get_running_loop().create_task(ctx.spawn(*stubborn(token)))))
        while len(living(token)) < 2:
            await anyio.sleep(0.01)
        return "done"

    assert await run(guardian, tmp_path, "async", lets_go, grace=0.1) == "done"
    assert not living(token)
    with pytest.raises(asyncio.CancelledError, match="was ended, since its attempt has ended"):
        await kept[1]
    with pytest.raises(RuntimeError, match="it begins no process"):
        await kept[0].spawn("true")


@pytest.mark.parametrize("begun", [True, False])
async def test_what_nobody_awaits_is_told_to_nobody(guardian, tmp_path: Path, token, begun):
    """Neither a program that ends with its attempt nor one that never began is an error that was not retrieved."""
    told: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))

    async def lets_go(ctx):
        task = asyncio.get_running_loop().create_task(ctx.spawn(*stubborn(token)))
        while begun and len(living(token)) < 2:
            await anyio.sleep(0.01)
        return weakref.ref(task)

    task = await run(guardian, tmp_path, "async", lets_go, grace=0.1)
    while task() is not None:
        await anyio.sleep(0.01)
        gc.collect()
    assert not living(token)
    assert not told


async def test_a_thread_is_told_why_its_program_ended(guardian, tmp_path: Path, token):
    """What it waits for ends by an error that says so."""
    said = []

    def waits(ctx):
        try:
            ctx.spawn(*stubborn(token))
        except RuntimeError as error:
            said.append(str(error))

    async with anyio.create_task_group() as group:
        group.start_soon(partial(run, guardian, tmp_path, "thread", waits, grace=0.2))
        while len(living(token)) < 2:
            await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    assert said == ["sh was ended, since its attempt has ended or is being stopped"]


@EXECUTORS
async def test_many_at_once(guardian, tmp_path: Path, kind):
    """Each gets its own end."""

    async def several(ctx):
        codes: list[int] = []

        async def one(code: int) -> None:
            codes.append((await ctx.spawn("sh", "-c", f"exit {code}", check=False)).exit_code)

        async with anyio.create_task_group() as group:
            for code in range(5):
                group.start_soon(one, code)
        return sorted(codes)

    def in_turn(ctx):
        return [ctx.spawn("sh", "-c", f"exit {code}", check=False).exit_code for code in range(5)]

    assert await run(guardian, tmp_path, kind, several if kind == "async" else in_turn) == [0, 1, 2, 3, 4]


@EXECUTORS
async def test_what_cannot_be_begun_is_said(guardian, tmp_path: Path, kind):
    """No program, no text, no guardian: each names what to do."""
    with pytest.raises(TypeError, match="takes a program and its arguments"):
        await run(guardian, tmp_path, kind, body(kind, 1))
    with pytest.raises(RuntimeError, match=r"use flowd\.Engine"):
        await run(None, tmp_path, kind, body(kind, "true"))


async def test_a_child_process_spawns_by_itself(guardian, tmp_path: Path):
    """In executor process there is nothing to ask for, and the message says why."""
    (tmp_path / "steps.py").write_text("def spawns(ctx): ctx.spawn('true')\n")
    work = call_work(tmp_path, "spawns", "process", wants_ctx=True)
    with pytest.raises(RuntimeError, match="whatever it begins by `subprocess` ends"):
        await ProcessExecutor(guardian).run(work, Recording())


@EXECUTORS
def test_the_death_of_flowd_ends_it(tmp_path: Path, kind, token):
    """Killed by SIGKILL, flowd leaves nothing of what its functions had begun."""
    wait = "await " if kind == "async" else ""
    (tmp_path / "app.py").write_text(
        "import flowd\n"
        "p = flowd.Pipeline('p')\n"
        "@p.task\n"
        f"{'async ' if kind == 'async' else ''}def t(ctx): {wait}ctx.spawn(*{stubborn(token)!r})\n"
        "flowd.run(p)\n"
    )
    process = subprocess.Popen([sys.executable, "app.py"], cwd=tmp_path)
    try:
        assert within(20, lambda: len(living(token)) >= 2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert within(10, lambda: not living(token))
