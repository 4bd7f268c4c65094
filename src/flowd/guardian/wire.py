"""How the engine and its guardian speak: framed messages over a socket, descriptors beside them.

Both ends are the same interpreter and trust each other, so a message is marshalled: bytes stay
bytes, and nothing has to be imported for it.
"""

from __future__ import annotations

import marshal
import os
import socket
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

_LENGTH = struct.Struct("!I")
_CHUNK = 1 << 16
MOST_DESCRIPTORS = 32


def pack(message: tuple[Any, ...]) -> bytes:
    """`message`, framed; it may hold None, bool, numbers, str, bytes, tuples, lists and dicts."""
    body = marshal.dumps(message)
    return _LENGTH.pack(len(body)) + body


class Incoming:
    """Bytes in, whole messages out; descriptors wait in `descriptors` in the order they came."""

    def __init__(self) -> None:
        self.descriptors: deque[int] = deque()
        self._buffer = bytearray()

    def receive(self, sock: socket.socket) -> bool:
        """Take what the socket has now; False once the other end is gone."""
        try:
            data, descriptors, _, _ = socket.recv_fds(sock, _CHUNK, MOST_DESCRIPTORS)
        except (BlockingIOError, InterruptedError):
            return True
        except ConnectionError:
            return False
        self.descriptors.extend(descriptors)
        self._buffer += data
        return bool(data)

    def messages(self) -> Iterator[tuple[Any, ...]]:
        """Every message that has wholly arrived, once."""
        while len(self._buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(self._buffer)[0]
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield marshal.loads(body)  # noqa: S302  # only ever from the other half of flowd


class Outgoing:
    """Messages on their way through a socket that does not block."""

    def __init__(self) -> None:
        self._queue: deque[tuple[bytes, Sequence[int]]] = deque()

    def push(self, message: tuple[Any, ...], descriptors: Sequence[int] = ()) -> None:
        """Queue a message; `descriptors` now belong to the queue, which closes them once sent."""
        self._queue.append((pack(message), descriptors))

    def flush(self, sock: socket.socket) -> bool:
        """Send what the socket takes; True when nothing is left. OSError where the other end is gone."""
        while self._queue:
            data, descriptors = self._queue.popleft()
            try:
                sent = socket.send_fds(sock, [data], descriptors) if descriptors else sock.send(data)
            except (BlockingIOError, InterruptedError):
                self._queue.appendleft((data, descriptors))
                return False
            for descriptor in descriptors:
                os.close(descriptor)
            if sent < len(data):
                self._queue.appendleft((data[sent:], ()))
        return True

    def drop(self) -> None:
        """Forget what was not sent and close the descriptors that waited with it."""
        for _, descriptors in self._queue:
            for descriptor in descriptors:
                os.close(descriptor)
        self._queue.clear()
