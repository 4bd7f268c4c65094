"""`flowd` and `python -m flowd`: the command line's outermost frame.

Whatever goes wrong inside, a person gets a message and a script gets an exit code here.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

DEBUG = "FLOWD_DEBUG"
INTERRUPTED = 130
BROKEN_PIPE = 141
"""As a shell says it of a program that SIGPIPE ended: nobody read what it had to say."""
DEFECT = 70
"""The exit code of an error that flowd did not foresee (`EX_SOFTWARE`)."""


def main(argv: Sequence[str] | None = None, pipeline: Any = None) -> int:
    """Carry out one command and return its exit code; `pipeline` stands for any FILE where it is given."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["--version"]:
        from flowd import __version__

        sys.stdout.write(f"flowd {__version__}\n")
        return 0
    try:
        code = _carry_out(arguments, pipeline)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence(sys.stdout)
        return BROKEN_PIPE
    return code


def _carry_out(arguments: list[str], pipeline: Any) -> int:
    import click

    from flowd.cli.commands import flowd
    from flowd.core.errors import FlowdError

    try:
        return flowd.main(arguments, prog_name="flowd", standalone_mode=False, obj=pipeline) or 0
    except BrokenPipeError:
        raise
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as mistake:
        mistake.show()
        return mistake.exit_code
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    except FlowdError as error:
        return _refuse(error)
    except Exception as error:  # noqa: BLE001  # the frame around all of it
        known = _only(error)
        return _refuse(known) if isinstance(known, FlowdError) else _report_defect(known)


def _refuse(error: Any) -> int:
    sys.stderr.write(f"{error}\n")
    return int(error.exit_code)


def _only(error: BaseException) -> BaseException:
    """The one error inside groups of one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _report_defect(error: BaseException) -> int:
    """One line for the person, the traceback for whoever mends it."""
    import traceback

    text = "".join(traceback.format_exception(error))
    line = f"flowd met an error of its own: {type(error).__name__}: {error}"
    if os.environ.get(DEBUG):
        sys.stderr.write(f"{text}{line}\n")
        return DEFECT
    try:
        with tempfile.NamedTemporaryFile("w", prefix="flowd-", suffix=".txt", delete=False, encoding="utf-8") as file:
            file.write(text)
        sys.stderr.write(f"{line}; its traceback is in {Path(file.name)}\n")
    except OSError:
        sys.stderr.write(f"{line}; set {DEBUG}=1 to see its traceback\n")
    return DEFECT


def _silence(stream: Any) -> None:
    """Nobody reads any more: let what is still buffered, and the interpreter's last flush, go nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
