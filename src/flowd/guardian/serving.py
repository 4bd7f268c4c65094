"""The guardian's loop: what the engine asks, what tasks print, who has died, what is due.

When the engine is gone (its socket at its end, its process dead) or SIGTERM arrives, everything
is ended at once and the guardian with it.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from flowd.guardian import cgroup, processes, spawning
from flowd.guardian.attempts import Attempt
from flowd.guardian.output import Log, Stream
from flowd.guardian.redaction import redaction
from flowd.guardian.wire import Incoming, Outgoing

_BEAT = 0.02  # seconds between two looks at what is being ended
_LAST_GRACE = 0.8  # seconds between SIGTERM and SIGKILL when the engine is gone
_LAST_MOMENT = 30.0  # seconds after which a guardian without an engine leaves even those that no SIGKILL ends
_MOST_SWEEPS = 20


class Guardian:
    """Everything the process knows; `base` is the first tag of its engine's incarnation, `mark` the name of that."""

    def __init__(self, engine: socket.socket, base: int, mark: str) -> None:
        self._engine = engine
        self._base = base
        self._mark = mark
        self._parent = os.getppid()
        self._group: cgroup.Group | None = None
        self._incoming = Incoming()
        self._outgoing = Outgoing()
        self._selector = selectors.DefaultSelector()
        self._attempts: dict[int, Attempt] = {}
        self._by_pid: dict[int, Attempt] = {}
        self._by_tag: dict[int, Attempt] = {}
        self._files = spawning.raise_file_limit()
        self._gone = False
        self._deaths = False

    # --- setting up --------------------------------------------------------------------------

    def open(self) -> None:
        """Become the reaper of all that follows, and listen."""
        processes.become_subreaper()
        self._group = cgroup.enter(self._mark)
        self._engine.setblocking(False)
        self._watch(self._engine.fileno(), self._hear)
        self._listen_for_signals()
        # A fork of the engine's process may hold its socket open longer than it lives.
        with contextlib.suppress(OSError, AttributeError):
            self._watch(os.pidfd_open(self._parent), self._engine_gone)
            if os.getppid() != self._parent:
                self._gone = True

    def _listen_for_signals(self) -> None:
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        os.set_blocking(theirs, False)
        self._watch(ours, partial(_empty, ours))
        signal.set_wakeup_fd(theirs, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, self._on_death)
        signal.signal(signal.SIGTERM, lambda *_: self._engine_gone())
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def _watch(self, descriptor: int, act: Any) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, act)

    def _on_death(self, *_: object) -> None:
        self._deaths = True

    def _engine_gone(self) -> None:
        self._gone = True

    # --- the loop ----------------------------------------------------------------------------

    def serve(self) -> None:
        """Until the engine is gone; then end everything."""
        while not self._gone:
            self._turn()
        self.end_everything()

    def _turn(self) -> None:
        busy = any(attempt.ending for attempt in self._attempts.values())
        for key, _ in self._selector.select(_BEAT if busy else None):
            key.data()
        if self._deaths:
            self._deaths = False
            self._bury()
        for attempt in [attempt for attempt in self._attempts.values() if attempt.ending]:
            if attempt.sweep(time.monotonic(), self._members):
                self._bury()  # what those took who have died since they were looked for
                if not self._strays(attempt):  # a child of one that died, begun while they were looked for
                    self._finish(attempt)

    def _hear(self) -> None:
        if not self._incoming.receive(self._engine):
            self._gone = True
        for message in self._incoming.messages():
            if message[0] == "spawn":
                self._spawn(*message[1:])
            elif message[0] == "hold":
                os.set_inheritable(self._incoming.descriptors.popleft(), False)  # open until this process ends
            else:
                self._stop(*message[1:])

    def _tell(self, *message: Any) -> None:
        self._outgoing.push(message)
        self._send()

    def _send(self) -> None:
        try:
            done = self._outgoing.flush(self._engine)
        except OSError:
            self._gone = True
            return
        events = selectors.EVENT_READ if done else selectors.EVENT_READ | selectors.EVENT_WRITE
        self._selector.modify(self._engine, events, self._hear if done else self._hear_and_send)

    def _hear_and_send(self) -> None:
        self._send()
        self._hear()

    # --- what is asked -----------------------------------------------------------------------

    def _spawn(self, ident: int, order: dict[str, Any]) -> None:
        arrived = self._incoming.descriptors
        passed = [arrived.popleft() for _ in range(min(order["passed"], len(arrived)))]
        opened: list[int] = []
        log = None
        try:
            passed = spawning.move_away(passed, order["passed"])
            log = _open_log(order["log"])
            _make_files(order["files"])
            pipes = [_pipe(opened), _pipe(opened)]
            tag = processes.tag(self._base, ident)
            pid = spawning.spawn(
                order["argv"],
                order["env"],
                order["cwd"],
                output=(pipes[0][1], pipes[1][1]),
                passed=passed,
                tag=tag,
                files=self._files,
            )
        except (spawning.CannotSpawn, OSError) as error:
            failure = error if isinstance(error, spawning.CannotSpawn) else spawning.from_error(error, "cannot begin")
            if log is not None:
                log.close()
            spawning.close(opened)
            self._tell("refused", ident, failure.kind, str(failure))
            return
        finally:
            spawning.close(passed)
        spawning.close([theirs for _, theirs in pipes])
        streams = tuple(
            Stream(name, ours, log, redaction(order["redactions"]), order["cap"])
            for name, (ours, _) in zip(("stdout", "stderr"), pipes, strict=True)
        )
        attempt = Attempt(ident, pid, tag, log, (streams[0], streams[1]), order["files"])
        attempt.confidential = bool(order["redactions"])
        attempt.signal = order["signal"]
        if order["asked"]:
            self._tell("began", ident, pid)
        self._attempts[ident] = self._by_pid[pid] = self._by_tag[tag] = attempt
        for stream in streams:
            self._watch(stream.pipe, partial(self._read, stream))

    def _stop(self, ident: int, grace: float) -> None:
        attempt = self._attempts.get(ident)
        if attempt is not None:
            attempt.stop(time.monotonic(), grace)

    def _read(self, stream: Stream) -> None:
        if stream.read() is False:
            self._selector.unregister(stream.pipe)
            stream.close()

    # --- who has died ------------------------------------------------------------------------

    def _bury(self) -> None:
        """Wait for all the dead. A shell that is stopped has waited for nobody: what its children took is told here."""
        ended = []
        with contextlib.suppress(ChildProcessError):
            while (dead := processes.bury(lambda pid: self._by_pid.get(pid) or self._owner(pid))) is not None:
                if dead.owner is not None:
                    dead.owner.took(dead.usage)
                if (attempt := self._by_pid.pop(dead.pid, None)) is not None:
                    attempt.ended(dead.status)
                    ended.append(attempt)
        for attempt in ended:  # later than all are counted
            self._after_main(attempt)

    def _after_main(self, attempt: Attempt) -> None:
        if attempt.ending:
            return
        if not processes.LINUX:
            attempt.leave_nothing(time.monotonic(), 0)
            return
        left = len(self._members(attempt)) if (strays := self._strays(attempt)) else 0
        if strays and not left:
            self._bury()  # they have died meanwhile; but children of theirs may be there
            left = len(self._strays(attempt))
        if left:
            attempt.leave_nothing(time.monotonic(), left)
        else:
            self._finish(attempt)

    def _finish(self, attempt: Attempt) -> None:
        for stream in attempt.streams:
            if stream.open:
                self._selector.unregister(stream.pipe)
        report = attempt.report(time.monotonic())
        del self._attempts[attempt.ident], self._by_tag[attempt.tag]
        self._tell("ended", attempt.ident, report)

    # --- whose they are ----------------------------------------------------------------------

    def _strays(self, attempt: Attempt) -> list[int]:
        """Children of the guardian that `attempt` has left to it."""
        return [pid for pid in processes.own_children() if pid not in self._by_pid and self._owner(pid) is attempt]

    def _owner(self, pid: int) -> Attempt | None:
        owner = self._by_tag.get(processes.tag_of(pid) or 0)
        if owner is not None:
            return owner
        with contextlib.suppress(OSError):
            session = os.getsid(pid)
            for attempt in self._attempts.values():
                if attempt.pid == session:
                    return attempt
        # Without any mark it belongs to whoever is there, where only one is.
        return next(iter(self._attempts.values())) if len(self._attempts) == 1 else None

    def _members(self, attempt: Attempt) -> set[int]:
        """The living processes of an attempt: its main process, its strays, and all theirs."""
        table = processes.processes()
        roots = self._strays(attempt)
        if not attempt.main_ended:
            roots.append(attempt.pid)
        return processes.family(table, roots)

    # --- the end -----------------------------------------------------------------------------

    def end_everything(self) -> None:
        """End every process there is, kindly for a moment, and keep writing what they still say."""
        self._engine_left()
        start = time.monotonic()
        everyone = self._everyone()
        processes.end(everyone, kindly=True)
        while everyone and time.monotonic() < start + _LAST_MOMENT:
            for key, _ in self._selector.select(_BEAT):
                key.data()
            self._deaths = False
            self._wait_for_all()
            everyone = self._everyone()
            if time.monotonic() >= start + _LAST_GRACE:
                everyone = self._kill(everyone)
        for attempt in self._attempts.values():
            attempt.report(time.monotonic())
            attempt.forget()
        if self._group is not None and os.getppid() != self._parent:  # a living engine does it without the wait
            self._group.leave()
            self._group.remove()

    def _kill(self, everyone: set[int]) -> set[int]:
        """Kill, and look again at once as long as there are more: some fork while they die."""
        for _ in range(_MOST_SWEEPS):
            if not everyone:
                break
            if self._group is not None and self._group.leave():
                self._group.kill()
            processes.end(everyone, kindly=False)
            self._wait_for_all()
            everyone = self._everyone()
        return everyone

    def _engine_left(self) -> None:
        """Hear the engine no more. It hears the end of the socket when everything has ended."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(self._engine)
        for descriptor, key in list(self._selector.get_map().items()):
            if key.data == self._engine_gone:
                self._selector.unregister(descriptor)

    def _everyone(self) -> set[int]:
        if processes.LINUX:
            table = processes.processes()
            children = processes.own_children()  # after the table: who was born meanwhile is not left out
            found = processes.family(table, children).union(children)
            if self._group is not None:
                found |= self._group.pids()
            return found - {os.getpid()}
        return {pid for pid in self._by_pid if processes.end_group(pid, kindly=True)}

    def _wait_for_all(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                attempt = self._by_pid.pop(found[0], None)
                if attempt is not None:
                    attempt.ended(found[1])

    def crashed(self, text: str) -> None:
        """Tell the engine what went wrong in here, as well as that still works."""
        with contextlib.suppress(OSError):
            self._outgoing.push(("crashed", text))
            self._outgoing.flush(self._engine)


def _open_log(path: bytes) -> Log:
    try:
        return Log(path)
    except OSError as error:
        raise _no_file(path, "the attempt's log file cannot be opened", error) from None


def _make_files(paths: Sequence[bytes]) -> None:
    """Make the files of an attempt, empty."""
    for path in paths:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise _no_file(path, "a file for its metrics or its result cannot be made", error) from None


def _no_file(path: bytes, what: str, error: OSError) -> spawning.CannotSpawn:
    said = f"{os.fsdecode(path)}: {what}: {os.strerror(error.errno or 0)}"
    return spawning.CannotSpawn("no_room" if error.errno in spawning.OF_STORAGE else "no_resources", said)


def _pipe(opened: list[int]) -> tuple[int, int]:
    ours, theirs = os.pipe()
    opened += (ours, theirs)
    os.set_blocking(ours, False)
    return ours, theirs


def _empty(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(descriptor, 4096)


def serve(descriptor: int, base: int, mark: str) -> None:
    """Be the guardian of the engine behind `descriptor`; does not return."""
    os.set_inheritable(descriptor, False)
    guardian = Guardian(socket.socket(fileno=descriptor), base, mark)
    code = 0
    try:
        guardian.open()
        guardian.serve()
    except BaseException:  # noqa: BLE001  # whatever it is, the tasks must not outlive it unwatched
        import traceback

        code = 1
        guardian.crashed(traceback.format_exc())
        with contextlib.suppress(Exception):
            guardian.end_everything()
    os._exit(code)
