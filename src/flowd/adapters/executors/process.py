"""Runs Python functions in child processes that can be killed, one for each attempt."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import anyio
import msgspec

from flowd.adapters.executors.failure import described
from flowd.adapters.executors.guardian import Guardian, ProcessReport
from flowd.adapters.executors.process_child import (
    ERROR,
    HEADER,
    LOG,
    METRIC,
    PROGRESS,
    REQUEST,
    RESULT,
    frame,
)
from flowd.adapters.executors.shell import ExitedBadly, command_of, outcome, remark
from flowd.core.events import Error
from flowd.core.spec import Call
from flowd.guardian.spawning import FIRST_PASSED
from flowd.ports.executor import Channel, NotStarted, Work

_LAST_WORDS = 5.0  # seconds for what the child sent to arrive after it has ended
_ROOT = str(Path(__file__).resolve().parents[3])  # where a child finds this package
_BEGIN = (
    "import sys; sys.path.append(sys.argv[1]); "
    f"from flowd.adapters.executors.process_child import main; main({FIRST_PASSED})"
)


class ProcessExecutor:
    """Calls the function in a child process and gives what it returns."""

    def __init__(self, guardian: Guardian) -> None:
        self._guardian = guardian

    async def __aenter__(self) -> Self:
        """The guardian is opened and closed by whoever owns it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """The guardian is opened and closed by whoever owns it."""

    async def run(self, work: Work, channel: Channel) -> object:
        """Call the function and return its result, or raise what it raised.

        TypeError where the function, an argument or the result cannot travel between
        processes; ExitedBadly where the child ended before the function did.
        """
        request = _request(work)
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise NotStarted(f"the child process cannot begin: {error}") from error
        with theirs:
            conversation = _Conversation(channel)
            transport, _ = await asyncio.get_running_loop().create_connection(lambda: conversation, sock=ours)
            try:
                transport.write(frame(REQUEST, request))
                argv = (sys.executable, "-P", "-c", _BEGIN, _ROOT)
                command = command_of(work, argv, (theirs.fileno(),))
                report = await self._guardian.run(
                    command,
                    grace=lambda: work.grace.total_seconds(),  # noqa: PLW0108  # it may be shorter by then
                    ended=channel.ended,
                )
                theirs.close()
                with anyio.move_on_after(_LAST_WORDS):
                    await conversation.closed.wait()
            finally:
                transport.abort()
        remark(report, channel)
        return conversation.end(report)


class _Conversation(asyncio.Protocol):
    """Hears the child: passes on what it says as it comes, keeps how it ended."""

    def __init__(self, channel: Channel) -> None:
        self.closed = anyio.Event()
        self._channel = channel
        self._buffer = bytearray()
        self._result: bytes | None = None
        self._error: bytes | None = None
        self._trouble: Exception | None = None

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        while len(buffer) >= HEADER.size:
            kind, length = HEADER.unpack_from(buffer)
            end = HEADER.size + length
            if len(buffer) < end:
                return
            body = bytes(memoryview(buffer)[HEADER.size : end])
            del buffer[:end]
            self._take(kind, body)

    def connection_lost(self, _: Exception | None) -> None:
        self.closed.set()

    def _take(self, kind: bytes, body: bytes) -> None:
        if kind == RESULT:
            self._result = body
        elif kind == ERROR:
            self._error = body
        else:
            try:
                self._pass_on(kind, msgspec.json.decode(body))
            except Exception as error:  # noqa: BLE001  # raised in `end`: here it would reach nobody
                self._trouble = self._trouble or error

    def _pass_on(self, kind: bytes, said: list[Any]) -> None:
        if kind == LOG:
            self._channel.log(*said)
        elif kind == METRIC:
            self._channel.metric(*said)
        elif kind == PROGRESS:
            self._channel.progress(*said)

    def end(self, report: ProcessReport) -> object:
        """The function's result, or what became of it instead, raised."""
        if self._error is not None:
            raise _raised(self._error)
        if self._result is None:
            said = f"the child process ended before its function did: {outcome(report)}"
            error = Error(type="ProcessDied", message=said, exit_code=report.exit_code, signal=report.signal)
            raise ExitedBadly(error, report)
        if self._trouble is not None:
            raise self._trouble
        if report.exit_code != 0:
            self._channel.log("warning", "the child process ended badly after its function", {"how": outcome(report)})
        try:
            return pickle.loads(self._result)  # noqa: S301  # from the child that we began
        except Exception as error:
            raise TypeError(f"the result of the child process cannot be read here: {error}") from error


class RaisedInChild(Exception):
    """Stands for an exception that could not leave its process; its class is named like it."""


def _raised(body: bytes) -> BaseException:
    """The exception of the child as it was, or one that is called like it."""
    words, kinds, pickled = pickle.loads(body)  # noqa: S301  # from the child that we began
    error = msgspec.json.decode(words, type=Error)
    failure: Any = None
    if pickled:
        try:
            failure = pickle.loads(pickled)  # noqa: S301  # from the child that we began
        except Exception:  # noqa: BLE001  # its class may exist only over there
            failure = None
    if not isinstance(failure, Exception):
        failure = _likeness(kinds)(error.message)
    return described(failure, error)


def _likeness(kinds: list[str]) -> type[Exception]:
    """A class with the same names all the way up, so that retry policies recognise it."""
    known: type[Exception] = RaisedInChild
    for name in reversed(kinds):
        if name not in ("object", "BaseException", "Exception"):
            known = type(name, (known,), {})
    return known


def _request(work: Work) -> bytes:
    module, function = _named(work)
    if module == "__main__" or "<" in function:
        raise TypeError(
            f"executor process: {function} of {module} exists only in this process, and a child cannot import it; "
            "move it to the top of a module of its own, or use executor thread"
        )
    if not sys.executable:
        raise NotStarted("this program does not know its Python interpreter (sys.executable is empty)")
    return pickle.dumps(
        {
            "folder": str(work.folder),
            "path": [path or os.getcwd() for path in sys.path],
            "module": module,
            "function": function,
            "arguments": _packed(work.arguments),
            "wants_ctx": work.wants_ctx,
            "run_id": work.run_id,
            "task": work.task.name,
            "attempt": work.attempt,
            "inputs": [str(path) for path in work.inputs],
            "outputs": [str(path) for path in work.outputs],
            "params": dict(work.params),
        },
        pickle.HIGHEST_PROTOCOL,
    )


def _named(work: Work) -> tuple[str, str]:
    action = work.task.action
    if isinstance(action, Call):
        return action.module, action.function
    return work.function.__module__, getattr(work.function, "__qualname__", "<unnamed>")


def _packed(arguments: Mapping[str, Any]) -> bytes:
    """The arguments, pickled; TypeError names the one that cannot be."""
    try:
        return pickle.dumps(dict(arguments), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        for name, value in arguments.items():
            try:
                pickle.dumps(value)
            except Exception as reason:  # noqa: BLE001  # user classes raise whatever they like
                kind = type(value).__name__
                raise TypeError(f"argument {name} (a {kind}) cannot be sent into a child process: {reason}") from error
        raise
