"""A daemon on a state directory, from its settings: the one room that names what it is made of."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from flowd.adapters import daemon_folder
from flowd.adapters.agenda import FileAgenda
from flowd.adapters.clock import SystemClock
from flowd.adapters.daemon_folder import DaemonOwner
from flowd.adapters.systemd import ServiceManager
from flowd.authoring import loading
from flowd.core.settings import Settings
from flowd.core.spec import Definition
from flowd.daemon.catalogue import Catalogue
from flowd.daemon.daemon import Daemon
from flowd.daemon.parts import Part
from flowd.daemon.planner import Planner
from flowd.ports.clock import Clock
from flowd.wiring.build import Engine
from flowd.wiring.serving.ends import Ends
from flowd.wiring.serving.finding import pipeline_files
from flowd.wiring.serving.logging import Outlet


@asynccontextmanager
async def opened(
    settings: Settings, state_dir: Path, outlet: Outlet, clock: Clock | None = None
) -> AsyncIterator[Daemon]:
    """The daemon of a state directory, which is this process alone. StateLocked where it has one already."""
    clock = clock or SystemClock()
    with daemon_folder.owned(state_dir) as folder, closing(FileAgenda(folder)) as agenda:
        await agenda.open()
        manager = ServiceManager()
        ends = Ends()

        def followers(_run: str, run_folder: Path, definition: Definition) -> Sequence[Any]:
            return (outlet.of_run(run_folder, definition), ends)

        engine = Engine(
            state_dir,
            max_concurrency=settings.max_concurrency,
            limits=settings.limits,
            on_exit="detach",
            clock=clock,
            followers=followers,
            patient=True,
        )
        catalogue = Catalogue(partial(pipeline_files, settings), loading.load)
        planner = Planner(engine, catalogue, agenda, clock, timedelta(seconds=settings.misfire_grace_s))
        ends.listeners.append(planner.poke)
        owner = DaemonOwner(pid=os.getpid(), host=socket.gethostname(), started_at=clock.now())
        write: Callable[[], None] = partial(daemon_folder.write_owner, state_dir, owner)
        write()
        yield Daemon(
            engine,
            catalogue,
            clock,
            [Part(name="schedules", run=planner.run)],
            changed=planner.poke,
            ready=partial(manager.tell, "READY=1", f"STATUS=serving {state_dir}"),
            alive=partial(manager.tell, "WATCHDOG=1"),
            alive_every_s=manager.every_s,
        )
        manager.tell("STOPPING=1")
