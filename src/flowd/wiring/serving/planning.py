"""Schedules as those see them who have no daemon: looked at, paused and resumed in its stead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from flowd.adapters import daemon_folder
from flowd.adapters.agenda import FileAgenda
from flowd.adapters.clock import SystemClock
from flowd.authoring import loading
from flowd.core.settings import Settings
from flowd.daemon.catalogue import Catalogue
from flowd.daemon.planner import Planner
from flowd.wiring.planning import planning_engine
from flowd.wiring.serving.finding import Finder


async def planned(settings: Settings, state_dir: Path, do: Callable[[Planner], Awaitable[Any]]) -> Any:
    """Do something with the planner of a state directory. StateLocked where a daemon has just begun there."""
    clock = SystemClock()
    with daemon_folder.owned(state_dir) as folder, closing(FileAgenda(folder)) as agenda:
        await agenda.open()
        catalogue = Catalogue(Finder(settings), loading.load)
        await catalogue.look(clock.now())
        return await do(Planner(planning_engine(state_dir), catalogue, agenda, clock))
