"""The child process of one `process` attempt: reads the request, calls the function, tells the end.

It is begun with `-c` and never sees the host's `__main__`. What it has to say goes over one
socket in frames; what the function prints goes to the attempt's file. A child begins anew for every
attempt, so what is not needed for every function is imported where it is needed; the pickle of C alone
is imported, since that in Python brings regular expressions along.
"""

from __future__ import annotations

import _pickle as pickle
import os
import struct
import sys
import time
from _thread import allocate_lock
from importlib import import_module

from flowd.adapters.executors.context import Context

TYPE_CHECKING = False  # as in typing
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

HEADER = struct.Struct("!cQ")
REQUEST, LOG, METRIC, PROGRESS, RESULT, ERROR = b"Q", b"L", b"M", b"P", b"R", b"E"
_PROTOCOL = 5  # the highest of all Pythons from 3.8 on
_PROGRESS_EVERY = 0.05  # seconds: a tight loop may report each of its rounds


def frame(kind: bytes, body: bytes) -> bytes:
    """One message: its kind, its length, its body."""
    return HEADER.pack(kind, len(body)) + body


class Speaker:
    """The child's end of the socket; any thread may speak."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = allocate_lock()
        self._progress: tuple[float, float | None] | None = None
        self._progress_at = 0.0

    def request(self) -> dict[str, Any]:
        """What to do."""
        _, length = HEADER.unpack(self._receive(HEADER.size))
        request: dict[str, Any] = pickle.loads(self._receive(length))  # from the engine that began us
        return request

    def _receive(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            got = os.read(self._descriptor, length - len(data))
            if not got:
                raise ConnectionError("the engine is gone")
            data += got
        return data

    def say(self, kind: bytes, body: bytes) -> None:
        """Send one frame whole."""
        left = memoryview(frame(kind, body))
        with self._lock:
            while left:
                left = left[os.write(self._descriptor, left) :]

    def log(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """A line for people; values that are not plain go as their text."""
        self.say(LOG, _json([level, event, _plain(fields)]))

    def metric(self, name: str, value: float) -> None:
        """A named finite number."""
        self.say(METRIC, _json([name, value]))

    def progress(self, done: float, total: float | None) -> None:
        """How far it is; at most some twenty times a second, the last word in any case."""
        self._progress = (done, total)
        if time.monotonic() - self._progress_at >= _PROGRESS_EVERY:
            self.flush()

    def flush(self) -> None:
        """Send the progress that was held back."""
        latest, self._progress = self._progress, None
        if latest is not None:
            self._progress_at = time.monotonic()
            self.say(PROGRESS, _json([_plain(number) for number in latest]))


def _json(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()


def _plain(value: Any) -> Any:
    """`value` as JSON can say it; what it cannot becomes text."""
    import math
    from collections.abc import Mapping

    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    try:
        return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes | bytearray) else str(value)
    except Exception as error:  # noqa: BLE001  # a log line must not fail the task that logs
        return f"(its text could not be made: {type(error).__name__})"


class _Subject:
    """What the context of the attempt is about."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.run_id: str = request["run_id"]
        self.attempt: int = request["attempt"]
        self.params: Mapping[str, Any] = request["params"]
        self.name: str = request["task"]
        self._request = request

    @property
    def inputs(self) -> Sequence[Path]:
        return _paths(self._request["inputs"])

    @property
    def outputs(self) -> Sequence[Path]:
        return _paths(self._request["outputs"])

    @property
    def task(self) -> _Subject:
        return self


def _paths(names: Sequence[str]) -> list[Path]:
    from pathlib import Path

    return [Path(name) for name in names]


class _Asked:
    """Whether SIGTERM has come. Who asks is taken to look again: from then on it does not kill."""

    def __init__(self) -> None:
        self._listening = False
        self._asked = False

    def __call__(self) -> bool:
        import signal
        import threading

        if not self._listening and threading.current_thread() is threading.main_thread():
            self._listening = True
            signal.signal(signal.SIGTERM, self._note)
        return self._asked

    def _note(self, *_: object) -> None:
        self._asked = True


def _find(request: Mapping[str, Any]) -> Callable[..., Any]:
    found: Any = import_module(request["module"])
    for part in request["function"].split("."):
        found = getattr(found, part)
    # A decorated task stands in its module as what flowd made of it; its function is meant.
    if type(found).__module__.partition(".")[0] == "flowd":
        found = getattr(found, "function", found)
    if not callable(found):
        raise TypeError(f"{request['module']}:{request['function']} is no function")
    return found  # type: ignore[no-any-return]  # any callable of the user's


def _call(request: Mapping[str, Any], speaker: Speaker) -> Any:
    function = _find(request)
    try:
        arguments = pickle.loads(request["arguments"])  # from the engine that began us
    except Exception as error:
        raise TypeError(f"its arguments cannot be read in a child process: {error}") from error
    if request["wants_ctx"]:
        arguments["ctx"] = Context(_Subject(request), speaker, _Asked())
    value = function(**arguments)
    if hasattr(value, "__await__"):
        import asyncio

        return asyncio.run(_awaiting(value))
    if hasattr(value, "send") and hasattr(value, "throw"):
        raise TypeError("executor process: the function is a generator, which has not done anything yet; return a list")
    return value


async def _awaiting(awaitable: Any) -> Any:
    return await awaitable


def _packed(value: Any) -> bytes:
    try:
        return pickle.dumps(value, _PROTOCOL)
    except Exception as error:
        kind = type(value).__name__
        raise TypeError(f"its result (a {kind}) cannot be sent out of the child process: {error}") from error


def _tell(failure: BaseException, named: str, speaker: Speaker) -> None:
    """Send the failure in words and, where it survives that, the exception itself."""
    from pathlib import Path

    import msgspec

    from flowd.adapters.executors.failure import CHILDS_ROOM, describe, of_user_code

    folder = Path(named)
    words = msgspec.json.encode(describe(of_user_code(failure, folder), folder, room=CHILDS_ROOM))
    kinds = [kind.__name__ for kind in type(failure).__mro__]
    try:
        pickled = pickle.dumps(failure, _PROTOCOL)
        same = type(pickle.loads(pickled)) is type(failure)  # what was just made
    except Exception:  # noqa: BLE001  # many exceptions do not survive it; the words do
        same = False
    body = pickle.dumps((words, kinds, pickled if same else b""))
    speaker.say(ERROR, body)


def main(descriptor: int) -> None:
    """Carry out the one request that comes over `descriptor`."""
    os.set_inheritable(descriptor, False)
    speaker = Speaker(descriptor)
    request = speaker.request()
    sys.path[:] = [request["folder"], *request["path"]]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # both are text files here
    code = 0
    try:
        packed = _packed(_call(request, speaker))
        speaker.flush()
        speaker.say(RESULT, packed)
    except BaseException as failure:  # noqa: BLE001  # sys.exit too is the task's end, not a silent one
        code = 1
        speaker.flush()
        _tell(failure, request["folder"], speaker)
    sys.exit(code)
