"""The executors that call functions in this process: coroutine and thread."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from pathlib import Path

import anyio
import pytest

from attempts import Recording, call_work
from flowd.adapters.executors.coroutine import CoroutineExecutor
from flowd.adapters.executors.failure import describe
from flowd.adapters.executors.thread import ThreadExecutor
from flowd.ports.executor import Abandoned, CommandFailed

MARK: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="clean")


async def adds(ctx, a, b=1):
    """Used by several tests."""
    ctx.metric("sum", a + b)
    return a + b


async def test_a_coroutine_gets_its_arguments_and_its_context(tmp_path: Path):
    """`ctx` is passed where the function takes it, and what it says reaches the channel."""
    channel = Recording()
    work = call_work(tmp_path, adds, "async", arguments={"a": 2}, wants_ctx=True)
    assert await CoroutineExecutor().run(work, channel) == 3
    assert channel.metrics == [("sum", 3.0)]


async def test_a_function_that_gives_nothing_to_await_is_named(tmp_path: Path):
    """The message says what to write instead."""
    work = call_work(tmp_path, lambda: 1, "async")
    with pytest.raises(TypeError, match="returned a int, not something to await; write it as `async def`"):
        await CoroutineExecutor().run(work, Recording())


async def test_a_coroutine_changes_no_variable_of_its_caller(tmp_path: Path):
    """A context variable that is set inside is unset outside, over awaits too."""

    async def body():
        MARK.set("dirty")
        await anyio.lowlevel.checkpoint()
        return MARK.get()

    assert await CoroutineExecutor().run(call_work(tmp_path, body, "async"), Recording()) == "dirty"
    assert MARK.get() == "clean"


async def test_a_coroutine_hears_of_its_cancellation(tmp_path: Path):
    """It gets CancelledError where it waits, `ctx.cancelled` is true, and it may clean up."""
    seen = []

    async def body(ctx):
        try:
            await anyio.sleep(3600)
        finally:
            seen.append(ctx.cancelled)

    with anyio.move_on_after(0.01) as scope:
        await CoroutineExecutor().run(call_work(tmp_path, body, "async", wants_ctx=True), Recording())
    assert scope.cancelled_caught
    assert seen == [True]


async def test_scopes_and_groups_work_inside_a_coroutine(tmp_path: Path):
    """anyio's task groups and timeouts belong to the running task, as in any coroutine."""
    done = []

    async def child(number):
        await anyio.lowlevel.checkpoint()
        done.append(number)

    async def body():
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(child, number)
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep(3600)
        return scope.cancelled_caught

    assert await CoroutineExecutor().run(call_work(tmp_path, body, "async"), Recording()) is True
    assert sorted(done) == [0, 1, 2]


@pytest.mark.parametrize(("code", "expected"), [(3, 3), (None, 0), ("gone", 1)])
async def test_sys_exit_ends_its_attempt_and_nothing_else(tmp_path: Path, code, expected):
    """`sys.exit` in a task is a failure with that exit code, in a coroutine and in a thread."""

    async def coroutine():
        raise SystemExit(code)

    def plain():
        raise SystemExit(code)

    for executor, function in ((CoroutineExecutor(), coroutine), (ThreadExecutor(), plain)):
        with pytest.raises(CommandFailed) as caught:
            await executor.run(call_work(tmp_path, function, "async"), Recording())
        assert caught.value.error.exit_code == expected
        assert "sys.exit" in caught.value.error.message


async def test_a_thread_runs_beside_the_loop(tmp_path: Path):
    """The loop goes on while the function blocks, and the function's thread is not the loop's."""
    release = threading.Event()

    def body():
        release.wait(5)
        return threading.current_thread() is threading.main_thread()

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.lowlevel.checkpoint)
        asyncio.get_running_loop().call_later(0.01, release.set)
        assert await ThreadExecutor().run(call_work(tmp_path, body, "thread"), Recording()) is False


async def test_what_a_thread_raises_is_raised(tmp_path: Path):
    """The exception comes as it was, with the line of the user's own code."""

    def body():
        raise KeyError("price")

    with pytest.raises(KeyError) as caught:
        await ThreadExecutor().run(call_work(tmp_path, body, "thread"), Recording())
    error = describe(caught.value, Path(__file__).parent)
    assert error.where is not None
    assert error.where.startswith("test_in_process_executors.py:")
    assert "adapters/executors" not in (error.traceback or "")


async def test_a_thread_that_asks_is_told_to_stop(tmp_path: Path):
    """`ctx.cancelled` turns true, and a function that returns in time leaves nothing behind."""
    told = threading.Event()

    def body(ctx):
        while not ctx.cancelled:
            pass
        told.set()

    with anyio.move_on_after(0.01) as scope:
        await ThreadExecutor().run(call_work(tmp_path, body, "thread", wants_ctx=True), Recording())
    assert scope.cancelled_caught
    assert told.is_set()


async def test_a_thread_that_does_not_stop_is_abandoned(tmp_path: Path):
    """After the grace the attempt is abandoned, and its end can still be waited for."""
    release = threading.Event()

    with pytest.raises(Abandoned) as caught, anyio.move_on_after(0.01):
        await ThreadExecutor().run(call_work(tmp_path, release.wait, "thread", grace=0.01), Recording())
    assert "did not return within 0.01s" in str(caught.value)
    release.set()
    with anyio.fail_after(5):
        await caught.value.finished


@pytest.mark.parametrize("function", [adds, lambda: (number for number in [1])], ids=["coroutine", "generator"])
async def test_a_promise_is_no_result(tmp_path: Path, function):
    """A thread's function has to have done its work when it returns."""
    arguments = {"a": 1, "ctx": None} if function is adds else {}
    with pytest.raises(TypeError, match="executor thread"):
        await ThreadExecutor().run(call_work(tmp_path, function, "thread", arguments=arguments), Recording())


async def test_logging_needs_no_configuration(tmp_path: Path):
    """`ctx.log` binds fields and levels by itself; exceptions become text."""
    channel = Recording()

    async def body(ctx):
        log = ctx.log.bind(step="read")
        log.info("rows read", rows=3)
        try:
            int("no")
        except ValueError:
            log.exception("went wrong")
        log.warn("old name")

    await CoroutineExecutor().run(call_work(tmp_path, body, "async", wants_ctx=True), channel)
    assert channel.logs[0] == ("info", "rows read", {"step": "read", "rows": 3})
    assert channel.logs[1][0] == "error"
    assert "ValueError: invalid literal" in channel.logs[1][2]["exception"]
    assert channel.logs[2][0] == "warning"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "x", None])
async def test_a_metric_is_a_finite_number(tmp_path: Path, value):
    """Anything else is refused where it is said, with the metric's name."""

    async def body(ctx):
        ctx.metric("mae", value)

    with pytest.raises((ValueError, TypeError), match="metric mae"):
        await CoroutineExecutor().run(call_work(tmp_path, body, "async", wants_ctx=True), Recording())
