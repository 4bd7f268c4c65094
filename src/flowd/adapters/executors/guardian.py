"""The engine's side of its guardian: begins task processes through it and hears of their ends.

The guardian process is begun with the first command and lives until the engine closes. Its
socket is watched by the event loop itself, so no task of ours floats about. If the guardian is
lost, what it had begun is ended from here, those attempts fail and say so, and the next command
gets a new one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import msgspec

import flowd.guardian
from flowd.core.events import Ending, Error
from flowd.guardian import cgroup, processes, strays
from flowd.guardian.wire import Incoming, Outgoing
from flowd.ports.executor import Abandoned, CommandFailed, EndUnknown, NoRoom, NotStarted

CAP = 64 << 20
_PROGRAM = str(Path(flowd.guardian.__file__).parent / "__main__.py")
_CLOSING = 3.0  # seconds a guardian has to end everything before it is killed
_EXIT_CODES = {"not_found": 127, "denied": 126}
_NEVER_BEGAN = {"no_resources": NotStarted, "no_room": NoRoom}


class Command(msgspec.Struct, kw_only=True, frozen=True):
    """A process to run: `env` is what comes on top of this process's own, `log` its output's file.

    `descriptors` become its descriptors from 3 on; they stay the caller's. `redactions` are
    texts that its output must not show, beside those of the guardian. `files` are there, empty,
    when it begins. `began` is told its process id; `signal` is what asks it to end.
    """

    argv: tuple[str, ...]
    cwd: Path
    log: Path
    env: Mapping[str, str] = {}
    grace: float = 10.0
    descriptors: tuple[int, ...] = ()
    redactions: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    began: Callable[[int], None] | None = None
    signal: int = signal.SIGTERM


class ProcessReport(msgspec.Struct, kw_only=True, frozen=True):
    """How a process ended: by `exit_code`, or by a signal of this name.

    `cpu_s` is user and system time, `peak_rss` bytes, both with its children, whoever waited for them;
    `tail` the last 50 lines it said; `last_line` the last that was not empty, of stderr first;
    `dropped` the bytes of output that are not in the file, `log_error` why the file could not
    take them, if not for its cap; `leftovers` how many processes outlived it and were ended.
    `stopped_by` (SIGTERM or SIGKILL) and `stop_s` are set where it was stopped; `oom`, where the
    kernel says that it ended something for want of memory at that time. `written` says whether
    there is anything in each of its files.
    """

    exit_code: int | None = None
    signal: str | None = None
    cpu_s: float = 0.0
    peak_rss: int = 0
    tail: tuple[str, ...] = ()
    last_line: str = ""
    dropped: int = 0
    leftovers: int = 0
    stopped_by: str | None = None
    stop_s: float | None = None
    log_error: str | None = None
    oom: bool = False
    written: tuple[bool, ...] = ()

    def ending(self) -> Ending:
        """The same as it is recorded: what a process said last counts where it ended badly."""
        sender = None
        if self.signal is not None:
            sender = "flowd" if self.stopped_by else "oom_killer" if self.oom else "unknown"
        return Ending(
            stopped_by=self.stopped_by,
            stop_s=None if self.stop_s is None else round(self.stop_s, 6),
            exit_code=self.exit_code,
            signal=self.signal,
            sender=sender,
            cpu_s=round(self.cpu_s, 6),
            peak_rss=self.peak_rss,
            leftovers=self.leftovers,
            tail=() if self.exit_code == 0 else self.tail,
        )


class GuardianLost(EndUnknown):
    """The guardian ended while it watched over the attempt, whose processes were then ended too."""

    def __init__(self, how: str) -> None:
        message = f"flowd's guardian process was lost ({how}) while the task ran; the task's processes were ended"
        super().__init__(Error(type=type(self).__name__, message=message))


class _Watched:
    """One attempt's process as seen from here; awaitable until it has ended."""

    def __init__(self, ident: int, began: Callable[[int], None] | None) -> None:
        self.ident = ident
        self.began = began
        self.report: ProcessReport | None = None
        self.failure: Exception | None = None
        self.ended = anyio.Event()

    def __await__(self) -> Generator[Any, Any, None]:
        return self.ended.wait().__await__()

    def outcome(self) -> ProcessReport:
        if self.failure is not None:
            raise self.failure
        assert self.report is not None
        return self.report


class _Line:
    """The connection to one living guardian process."""

    def __init__(self, mark: str) -> None:
        self.lost = False
        self.closed = anyio.Event()
        self._mark = mark
        self._loop = asyncio.get_running_loop()
        self._incoming = Incoming()
        self._outgoing = Outgoing()
        self._watched: dict[int, _Watched] = {}
        self._crash = ""
        self._sock, theirs = socket.socketpair()
        try:
            self.process = _begin(mark, theirs)
        except OSError as error:
            self._sock.close()
            raise NotStarted(f"flowd's guardian process cannot begin: {error}") from error
        finally:
            theirs.close()
        self._sock.setblocking(False)
        self._loop.add_reader(self._sock, self._hear)

    def begin(self, watched: _Watched, order: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        self._watched[watched.ident] = watched
        handed_over: list[int] = []
        try:
            handed_over += (os.dup(descriptor) for descriptor in descriptors)
        except OSError as error:
            for descriptor in handed_over:
                os.close(descriptor)
            self._end(watched.ident, failure=NotStarted(f"the process cannot begin: {error}"))
            return
        self._tell(("spawn", watched.ident, order), handed_over)

    def hold(self, descriptor: int) -> None:
        self._tell(("hold",), [descriptor])

    def stop(self, watched: _Watched, grace: float) -> None:
        if watched.ident in self._watched:
            self._tell(("stop", watched.ident, grace))

    def _tell(self, message: tuple[Any, ...], descriptors: Sequence[int] = ()) -> None:
        self._outgoing.push(message, descriptors)
        self._send()

    def _send(self) -> None:
        if self.lost:
            return
        try:
            done = self._outgoing.flush(self._sock)
        except OSError:
            return  # the end of what there is to hear says why
        if done:
            self._loop.remove_writer(self._sock)
        else:
            self._loop.add_writer(self._sock, self._send)

    def _hear(self) -> None:
        open_still = self._incoming.receive(self._sock)
        for kind, *rest in self._incoming.messages():
            if kind == "began":
                self._tell_began(*rest)
            elif kind == "ended":
                self._end(rest[0], report=msgspec.convert(rest[1], ProcessReport))
            elif kind == "refused":
                self._end(rest[0], failure=_refusal(*rest[1:]))
            else:
                self._crash = rest[0]
        if not open_still:
            self._lose()

    def _tell_began(self, ident: int, pid: int) -> None:
        watched = self._watched.get(ident)
        if watched is not None and watched.began is not None:
            watched.began(pid)

    def _end(self, ident: int, *, report: ProcessReport | None = None, failure: Exception | None = None) -> None:
        watched = self._watched.pop(ident)
        watched.report, watched.failure = report, failure
        watched.ended.set()

    def _lose(self) -> None:
        """The guardian is gone: end what it had begun, in a moment when nobody else will."""
        self.lost = True
        self._hang_up()
        if self._watched:
            how = self._how_it_ended()
            for _ in range(20):  # some fork while they die
                if not strays.left_by(self._mark):
                    break
                strays.kill(self._mark)
            for ident in list(self._watched):
                self._end(ident, failure=GuardianLost(how))
        self.closed.set()

    def _how_it_ended(self) -> str:
        try:
            code = self.process.wait(0.2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "it closed its socket"
        if self._crash:
            return f"it failed: {self._crash.strip().splitlines()[-1]}"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def _hang_up(self) -> None:
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._outgoing.drop()
        self._sock.close()

    async def close(self) -> None:
        """End whatever is left, and the guardian."""
        with anyio.CancelScope(shield=True):
            if not self.lost:
                self._sock.shutdown(socket.SHUT_WR)
                with anyio.move_on_after(_CLOSING):
                    await self.closed.wait()
            if not self.lost:
                self.process.kill()
                await self.closed.wait()
            for _ in range(1000):  # its socket closes a moment before it can be waited for
                if self.process.poll() is not None:
                    break
                await anyio.sleep(0.001)


class Guardian:
    """One engine's guardian; `incarnation` marks every process that comes of it, for ever.

    `redactions` are texts that no task's output may show, `cap` the bytes of each of a task's
    two streams that are kept. `patience` is how long, after SIGKILL, an end may take before
    the attempt is called abandoned.
    """

    def __init__(
        self, incarnation: str, *, redactions: Sequence[str] = (), cap: int = CAP, patience: float = 10.0
    ) -> None:
        self.redactions = tuple(redactions)
        self.cap = cap
        self.patience = patience
        self._mark = incarnation
        self._line: _Line | None = None
        self._gone: list[_Line] = []
        self._held: list[int] = []
        self._count = 0

    async def __aenter__(self) -> Self:
        """Nothing is begun before the first command."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything that is left, and the guardian."""
        lines, self._line, self._gone = [*self._gone, self._line], None, []
        for line in lines:
            if line is not None:
                await line.close()
                cgroup.remove(self._mark)

    def hold(self, descriptor: int) -> None:
        """Keep a lock's descriptor open as long as any guardian lives; it stays the caller's, open until the end."""
        self._held.append(descriptor)
        if self._line is not None and not self._line.lost:
            self._line.hold(os.dup(descriptor))

    @property
    def incarnation(self) -> str:
        """The name that marks every process that comes of it."""
        return self._mark

    @property
    def pid(self) -> int | None:
        """The guardian's process, once there is one."""
        return self._line.process.pid if self._line is not None and not self._line.lost else None

    async def run(
        self,
        command: Command,
        *,
        grace: Callable[[], float] | None = None,
        every: float | None = None,
        look: Callable[[], Awaitable[None]] | None = None,
        ended: Callable[[Ending], None] = lambda _ending: None,
    ) -> ProcessReport:
        """Run `command` until nothing of it is left; `look` is awaited every `every` seconds meanwhile.

        `ended` is told how it ended, also where that is not returned.

        Cancelled, it stops the processes (SIGTERM, the grace, SIGKILL) before it passes the
        cancellation on; cancelled again, it does not wait for the grace. Raises CommandFailed
        where the program cannot run, NotStarted where the machine has no room for it,
        GuardianLost, and Abandoned where even SIGKILL does not end it.
        """
        line = self._connect()
        self._count += 1
        watched = _Watched(self._count, command.began)
        line.begin(watched, self._order(command), command.descriptors)
        try:
            while not watched.ended.is_set():
                with anyio.move_on_after(every if look is not None else None):
                    await watched.ended.wait()
                if look is not None and not watched.ended.is_set():
                    await look()
        finally:
            try:
                if not watched.ended.is_set():  # cancelled, or `look` has failed
                    await self._stop(line, watched, command.grace if grace is None else grace())
            finally:
                if watched.report is not None:
                    ended(watched.report.ending())
        return watched.outcome()

    async def _stop(self, line: _Line, watched: _Watched, grace: float) -> None:
        line.stop(watched, grace)
        with anyio.CancelScope(shield=True):
            while not watched.ended.is_set():
                try:
                    with anyio.fail_after(grace + self.patience):
                        await watched.ended.wait()
                except TimeoutError:
                    message = f"its processes did not end within {self.patience:g}s after SIGKILL"
                    raise Abandoned(message, finished=watched) from None
                except asyncio.CancelledError:
                    grace = 0.0
                    line.stop(watched, grace)

    def _connect(self) -> _Line:
        if self._line is not None and self._line.lost:
            self._gone.append(self._line)
            self._line = None
        if self._line is None:
            self._line = _Line(self._mark)
            for descriptor in self._held:
                self._line.hold(os.dup(descriptor))
        return self._line

    def _order(self, command: Command) -> dict[str, Any]:
        own = {**command.env, processes.MARK: self._mark}
        return {
            "argv": [os.fsencode(word) for word in command.argv],
            "env": {**os.environb, **{os.fsencode(name): os.fsencode(value) for name, value in own.items()}},
            "cwd": os.fsencode(command.cwd),
            "log": os.fsencode(command.log.absolute()),
            "cap": self.cap,
            "redactions": [os.fsencode(text) for text in (*self.redactions, *command.redactions)],
            "passed": len(command.descriptors),
            "files": [os.fsencode(path.absolute()) for path in command.files],
            "asked": command.began is not None,
            "signal": int(command.signal),
        }


def _begin(mark: str, theirs: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", _PROGRAM, str(theirs.fileno()), str(processes.tag_base(mark)), mark],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        pass_fds=(theirs.fileno(),),
        start_new_session=True,
    )


def _refusal(kind: str, message: str) -> Exception:
    if kind in _NEVER_BEGAN:
        return _NEVER_BEGAN[kind](message)
    return CommandFailed(Error(type=CommandFailed.__name__, message=message, exit_code=_EXIT_CODES.get(kind)))
