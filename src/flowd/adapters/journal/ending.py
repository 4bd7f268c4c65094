"""Whether a run has ended, from the last bytes of its journal: many runs can be asked for what one costs to read."""

from __future__ import annotations

import os
import re
from pathlib import Path

from flowd.adapters import disk
from flowd.adapters.journal.layout import segment_path, segments

_TAIL = 64 * 1024
_FINISHED = re.compile(rb'\{"seq":\d+,"at":"[^"]*","run":"[^"]*","prev":"[0-9a-f]{8}","event":"run_finished",')


def seems_ended(folder: Path) -> bool:
    """Whether the newest record of the run in `folder` is its end; nothing is verified.

    False where that cannot be told so quickly, such as after a torn record. Raises StateDamaged, OSError.
    """
    descriptor = disk.open_regular(segment_path(folder, segments(folder)[-1]), os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        tail = os.pread(descriptor, _TAIL, max(size - _TAIL, 0))
    finally:
        os.close(descriptor)
    last = tail.removesuffix(b"\n").rpartition(b"\n")[2]
    return tail.endswith(b"\n") and _FINISHED.match(last) is not None
