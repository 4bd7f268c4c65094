"""`flowd serve`: the daemon, from its configuration to its end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from flowd.cli.options import STATE_DIR
from flowd.cli.state_dir import find_state_dir
from flowd.cli.streams import tell
from flowd.core.errors import BadRequest

if TYPE_CHECKING:
    from flowd.core.settings import Settings
    from flowd.daemon.daemon import Daemon

INTERRUPTED = 130

CONFIG = click.option("--config", metavar="FILE", help="The configuration; flowd.yaml here, or all defaults.")


@click.command()
@CONFIG
@STATE_DIR
@click.option("--log-format", type=click.Choice(["console", "json"]), help="How log lines look on stderr.")
def serve(config: str | None, state_dir: str | None, log_format: str | None) -> int:
    """Run pipelines by themselves: by the clock, files, webhooks, the API and each other."""
    from flowd.cli.prints import routed
    from flowd.wiring.serving.intake import check_server
    from flowd.wiring.serving.logging import Outlet

    check_server()
    settings = settings_of(config)
    place = place_of(settings, state_dir)
    outlet = Outlet(settings.log, log_format)
    with routed(aside=True), outlet.open():
        return anyio.run(_serve, settings, place, outlet)


async def _serve(settings: Settings, place: Path, outlet: object) -> int:
    from flowd.wiring.serving.build import opened
    from flowd.wiring.serving.logging import Outlet

    assert isinstance(outlet, Outlet)
    async with opened(settings, place, outlet, _tell_address) as daemon, _heard(daemon):
        await daemon.run()
    return 0


def _tell_address(url: str, word: str | None) -> None:
    """Where it is, and a link for whoever started it: it is good once, so that it may stand in a log."""
    tell(f"flowd serves at {url}")
    if word is not None:
        tell(
            f"open {url}/?token={word} (once, within 15 minutes; the token itself is in the state directory's `token`)"
        )


@asynccontextmanager
async def _heard(daemon: Daemon) -> AsyncIterator[None]:
    """SIGTERM and SIGINT end it, the second at once; SIGHUP has it look at the pipelines now."""
    async with anyio.create_task_group() as group:
        group.start_soon(_hear, daemon, name="flowd signals")
        yield
        group.cancel_scope.cancel()


async def _hear(daemon: Daemon) -> None:
    stopping = False
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            if number == signal.SIGHUP:
                daemon.reload()
            elif stopping:
                tell("stopped at once; what still ran is ended behind it, and can be resumed")
                sys.stderr.flush()
                os._exit(INTERRUPTED)  # the process guarding the tasks' own processes ends what is left of them
            else:
                stopping = True
                tell("stopping: nothing new begins, and what runs is being stopped; once more leaves at once")
                daemon.stop()


def settings_of(config: str | None) -> Settings:
    """The settings that are meant: those of the file that is named, of one here, or all defaults.

    Raises BadSettings, and BadRequest where what is named is not there.
    """
    from flowd.authoring.settings import NAMES, default_settings, load_settings

    if config is not None:
        return load_settings(Path(config))
    for name in NAMES:
        if Path(name).is_file():
            return load_settings(Path(name))
    return default_settings(Path.cwd())


def place_of(settings: Settings, asked: str | None) -> Path:
    """The state directory: asked for, of the settings, or as `flowd run` finds it. BadRequest where it is no folder."""
    place = find_state_dir(asked or settings.state_dir, Path(settings.folder), os.environ)
    if place.exists() and not place.is_dir():
        raise BadRequest(f"{place} is no folder; name another state directory")
    return place
