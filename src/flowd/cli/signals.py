"""The signals with which a person stops a command that runs pipelines in the foreground."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from flowd.cli.streams import tell

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
INTERRUPTED = 130


@contextmanager
def heard(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop`, in the running loop, for each signal that comes within; elsewhere than in the main thread: none."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    taken = [number for number in SIGNALS if before[number] is not signal.SIG_IGN]  # as under nohup
    for number in taken:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in taken:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number] or signal.SIG_DFL)


def leave_at_once() -> NoReturn:
    """End this process now: the one that guards the tasks' own processes ends what is left of them."""
    tell("stopped at once; what still ran is ended behind it")
    sys.stderr.flush()
    os._exit(INTERRUPTED)
