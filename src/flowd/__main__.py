"""`flowd` and `python -m flowd`: the command line's outermost frame.

Whatever goes wrong inside, a person gets a message and a script gets an exit code here.

House rule of this room: what `--version` does not need is imported where it is needed
(`tests/system/test_import_budget.py`).
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress

TYPE_CHECKING = False  # as in typing, which takes a third of the interpreter's own start to import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

DEBUG = "FLOWD_DEBUG"
INTERRUPTED = 130
BROKEN_PIPE = 141
"""As a shell says it of a program that SIGPIPE ended: nobody read what it had to say."""
STORAGE_FAILING = 4
"""Where what was asked for could not be written."""
DEFECT = 70
"""The exit code of an error that flowd did not foresee (`EX_SOFTWARE`)."""

_MOST_YOUNG = 20_000
"""So many new objects before the garbage collector looks at them: nearly all that a start makes is there to stay."""


def program() -> int:
    """`main` as the whole of a process."""
    import gc

    gc.set_threshold(_MOST_YOUNG)
    code = main()
    gc.freeze()  # at its exit the interpreter would go through all that is about to be given back anyway
    return code


def main(argv: Sequence[str] | None = None, pipeline: Any = None) -> int:
    """Carry out one command and return its exit code; `pipeline` stands for any FILE where it is given."""
    _open_what_is_closed()
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
    except OSError as error:  # only what a stream still held is written outside of the frame
        return _cannot_write(error)
    finally:
        try:
            sys.stderr.flush()
        except OSError:  # what could not be told keeps nothing from its end: the interpreter's last flush would
            _silence(sys.stderr)
    return code


def _carry_out(arguments: list[str], pipeline: Any) -> int:
    import click

    from flowd.cli.commands import flowd

    try:
        return flowd.main(arguments, prog_name="flowd", standalone_mode=False, obj=pipeline) or 0
    except BrokenPipeError:
        raise
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as mistake:
        mistake.show()
        return mistake.exit_code
    except (KeyboardInterrupt, click.Abort) as ended:
        return _interrupted(ended)
    except Exception as error:  # noqa: BLE001  # the frame around all of it
        from flowd.core.errors import FlowdError, is_of_storage

        known = _only(error)
        if isinstance(known, FlowdError):
            return _refuse(known)
        if isinstance(known, BrokenPipeError):
            raise known from None
        if not isinstance(known, OSError):
            return _report_defect(known)
        if known.filename is None and (is_of_storage(known) or known.errno == errno.EBADF):
            return _cannot_write(known)
        if known.filename is not None and isinstance(known, PermissionError):
            _complain(f"{os.fsdecode(known.filename)}: {known.strerror}; make it accessible for this user")
            return STORAGE_FAILING
        if is_of_storage(known):
            return _storage_failing(known)
        return _report_defect(known)


def _interrupted(ended: BaseException) -> int:
    if isinstance(ended.__cause__, EOFError):  # click takes it for the end of an answer, and nobody was asked
        return _report_defect(ended.__cause__)
    _complain("interrupted")
    return INTERRUPTED


def _refuse(error: Any) -> int:
    _complain(str(error))
    return int(error.exit_code)


def _complain(text: str) -> None:
    """Tell the person, where that is possible."""
    with suppress(OSError):
        sys.stderr.write(f"{text}\n")


def _cannot_write(error: OSError) -> int:
    """What was asked for could not be written to stdout."""
    _silence(sys.stdout)
    _complain(f"cannot write to stdout: {error.strerror or error}")
    return STORAGE_FAILING


def _storage_failing(error: OSError) -> int:
    """The disk gives up where nobody expected it."""
    _complain(f"{error.filename or 'the disk'}: {error.strerror} ({errno.errorcode.get(error.errno or 0, '')})")
    return STORAGE_FAILING


def _only(error: BaseException) -> BaseException:
    """The one error inside groups of one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _report_defect(error: BaseException) -> int:
    """One line for the person, the traceback for whoever mends it."""
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    line = f"flowd met an error of its own: {type(error).__name__}: {error}"
    if os.environ.get(DEBUG):
        _complain(f"{text}{line}")
        return DEFECT
    try:
        with tempfile.NamedTemporaryFile("w", prefix="flowd-", suffix=".txt", delete=False, encoding="utf-8") as file:
            file.write(text)
        _complain(f"{line}; its traceback is in {file.name}")
    except OSError:
        _complain(f"{line}; set {DEBUG}=1 to see its traceback")
    return DEFECT


def _open_what_is_closed() -> None:
    """A standard stream that is closed leads nowhere, lest a file that is opened later takes its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # for as long as the program runs


def _silence(stream: Any) -> None:
    """Nobody reads any more: let what is still buffered, and the interpreter's last flush, go nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    sys.exit(program())
