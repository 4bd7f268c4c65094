"""A pipeline's file as bytes, whatever stands in its place."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from flowd.authoring.findings import Findings
from flowd.authoring.nodes import Broken

MOST_BYTES = 16 * 1024 * 1024


def read_bytes(path: Path, findings: Findings) -> bytes:
    """All of a file's bytes; Broken where the findings say why there are none."""

    def refuse(code: str, message: str, hint: str = "") -> Broken:
        findings.add(code, (), message, hint)
        return Broken()

    try:
        # Without waiting: opening a FIFO that nobody writes to would never return.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise refuse("no_file", "there is no such file") from None
    except (OSError, ValueError) as error:
        raise refuse("unreadable", f"it cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        found = os.fstat(number)
        if stat.S_ISDIR(found.st_mode):
            raise refuse("not_a_file", "this is a folder", "name the pipeline's file in it")
        if not stat.S_ISREG(found.st_mode):
            raise refuse("not_a_file", "this is not a regular file")
        if found.st_size > MOST_BYTES:
            raise refuse("too_large", f"it has {found.st_size} bytes; a pipeline's file has at most {MOST_BYTES}")
        with open(number, "rb", closefd=False) as file:  # only now: a folder's descriptor cannot be opened so
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise refuse("unreadable", f"it cannot be read: {error.strerror}") from None
    finally:
        os.close(number)
    if len(data) > MOST_BYTES:
        raise refuse("too_large", f"it grows while it is read; a pipeline's file has at most {MOST_BYTES} bytes")
    return data
