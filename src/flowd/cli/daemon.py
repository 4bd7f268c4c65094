"""`flowd daemon`: whether there is one, what it does, and its end."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowd.cli.options import JSON, STATE_DIR
from flowd.cli.state_dir import find_state_dir
from flowd.cli.streams import say, say_document
from flowd.core.errors import BadRequest, StateLocked

if TYPE_CHECKING:
    from flowd.adapters.daemon_folder import DaemonOwner

_LEAST_WAIT_S = 30.0


@click.group()
def daemon() -> None:
    """Look at the daemon of a state directory, or stop it."""


@daemon.command()
@STATE_DIR
@JSON
def status(state_dir: str | None, *, as_json: bool) -> int:
    """Say whether there is a daemon, since when, and where it listens."""
    place, owner = _found(state_dir)
    if as_json:
        document: dict[str, Any] = {"state_dir": str(place), "running": owner is not None}
        if owner is not None:
            document |= {"pid": owner.pid, "host": owner.host, "since": owner.started_at, "url": owner.url or None}
        say_document(document)
    elif owner is None:
        say(f"no daemon serves {place}; start one with: flowd serve")
    else:
        at = f", at {owner.url}" if owner.url else ""
        say(f"pid {owner.pid} on {owner.host} serves {place} since {owner.started_at:%Y-%m-%dT%H:%M:%SZ}{at}")
    return 0


@daemon.command()
@STATE_DIR
@click.option("--timeout", type=click.FloatRange(min=0), default=_LEAST_WAIT_S, show_default=True, help="Seconds.")
def stop(state_dir: str | None, timeout: float) -> int:
    """Stop the daemon, and return when it has ended; what it ran can be resumed."""
    from flowd.adapters.daemon_folder import living

    place, owner = _found(state_dir)
    if owner is None:
        say(f"no daemon serves {place}")
        return 0
    _check_here(owner)
    os.kill(owner.pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if living(place) is None:
            say(f"pid {owner.pid} has ended")
            return 0
        time.sleep(0.05)
    raise StateLocked(f"pid {owner.pid} still serves {place}; kill -TERM {owner.pid} once more has it leave at once")


def _check_here(owner: DaemonOwner) -> None:
    import socket

    if owner.host != socket.gethostname():
        raise BadRequest(f"the daemon runs on {owner.host}; stop it there: kill -TERM {owner.pid}")


def _found(asked: str | None) -> tuple[Path, DaemonOwner | None]:
    from flowd.adapters.daemon_folder import living

    place = find_state_dir(asked, Path.cwd(), os.environ)
    return place, living(place)
