"""A daemon on a state directory, from its settings: the one room that names what it is made of."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from flowd.adapters import daemon_folder
from flowd.adapters.agenda import FileAgenda
from flowd.adapters.clock import SystemClock
from flowd.adapters.daemon_folder import DaemonOwner
from flowd.adapters.inbox import FileInbox, new_request_id
from flowd.adapters.secrets import SecretReader
from flowd.adapters.systemd import ServiceManager
from flowd.authoring import loading
from flowd.authoring.pipeline import Pipeline
from flowd.core.expressions import references_of, render_value
from flowd.core.settings import Settings
from flowd.core.spec import Definition
from flowd.daemon.after_triggers import AfterTriggers
from flowd.daemon.catalogue import Catalogue
from flowd.daemon.control import Control
from flowd.daemon.daemon import Daemon
from flowd.daemon.desk import Desk
from flowd.daemon.feed import Feed
from flowd.daemon.file_triggers import FileTriggers
from flowd.daemon.keeping import Keeping
from flowd.daemon.metrics import Metrics
from flowd.daemon.notices import Notices
from flowd.daemon.parts import Part
from flowd.daemon.planner import Planner
from flowd.daemon.triggering import Triggering
from flowd.daemon.webhooks import Webhooks
from flowd.ports.clock import Clock
from flowd.ports.follower import Follower
from flowd.wiring.build import Engine
from flowd.wiring.notices import notices
from flowd.wiring.pruning import Pruner
from flowd.wiring.reading import reading
from flowd.wiring.serving.archive import FileArchive
from flowd.wiring.serving.declared import Declared
from flowd.wiring.serving.ends import Ends
from flowd.wiring.serving.finding import Finder
from flowd.wiring.serving.intake import Intake, Reached
from flowd.wiring.serving.logging import Outlet

Told = Callable[[str, str | None], None]
"""Is told where the API is, and a word that is good for one link; None where nobody holds the first token."""


@asynccontextmanager
async def opened(
    settings: Settings, state_dir: Path, outlet: Outlet, told: Told, clock: Clock | None = None
) -> AsyncIterator[Daemon]:
    """The daemon of a state directory, which is this process alone. StateLocked where it has one already."""
    clock = clock or SystemClock()
    catalogue = Catalogue(Finder(settings), loading.load)
    with (
        daemon_folder.owned(state_dir) as folder,
        reading(state_dir) as journal,
        closing(FileAgenda(folder)) as agenda,
        closing(FileInbox(state_dir, below="")) as inbox,
        closing(Intake(settings, state_dir, folder, clock)) as intake,
        notices(
            state_dir,
            clock,
            Declared(catalogue, settings.notify),
            allow=settings.private,
            everywhere=settings.notify,
            base_url=intake.url,
        ) as telling,
    ):
        await agenda.open()
        manager = ServiceManager()
        owner = DaemonOwner(pid=os.getpid(), host=socket.gethostname(), started_at=clock.now())
        daemon_folder.write_owner(state_dir, owner)

        def listens(url: str, word: str | None) -> None:
            daemon_folder.write_owner(state_dir, msgspec.structs.replace(owner, url=url))
            told(url, word)

        kept = _Kept(agenda, FileArchive(journal), inbox)
        inside = _Inside(settings, state_dir, outlet, clock, catalogue, kept, telling)
        yield inside.daemon(intake, listens, manager)
        manager.tell("STOPPING=1")


class _Kept(NamedTuple):
    """What a daemon has on disk."""

    agenda: FileAgenda
    archive: FileArchive
    inbox: FileInbox


class _Inside:
    """What a daemon is made of, each with what it needs of the others."""

    def __init__(
        self,
        settings: Settings,
        state_dir: Path,
        outlet: Outlet,
        clock: Clock,
        catalogue: Catalogue,
        kept: _Kept,
        notices: Notices,
    ) -> None:
        agenda, archive, inbox = kept
        self._catalogue = catalogue
        self._notices = notices
        self._inbox = inbox
        self._state_dir = state_dir
        self._outlet = outlet
        self._clock = clock
        self._ends = Ends()
        engine = self._engine = Engine(
            state_dir,
            max_concurrency=settings.max_concurrency,
            limits=settings.limits,
            on_exit="detach",
            clock=clock,
            followers=self._followers,
            patient=True,
        )
        self._feed = Feed(archive, clock, engine.owns)
        self._metrics = Metrics(clock, engine.limits)
        agenda.listeners.append(self._metrics.decided)
        grace = timedelta(seconds=settings.misfire_grace_s)
        planner = self._planner = Planner(engine, catalogue, agenda, clock, grace)
        self._ends.listeners.append(planner.poke)
        pruner = Pruner(state_dir, otherwise=settings.retention)
        self._keeping = Keeping(lambda now: pruner.carry_out(pruner.plan(now)), clock)
        triggering = Triggering(engine, catalogue, agenda)
        self._files = FileTriggers(triggering, clock)
        self._after = AfterTriggers(triggering, archive, clock)
        self._ends.listeners.append(self._after.poke)
        self._webhooks = Webhooks(triggering, clock, _secret_of)
        self._control = Control(engine, archive, catalogue, planner, new_request_id)

    def daemon(self, intake: Intake, listens: Told, manager: ServiceManager) -> Daemon:
        """All of it, and the API before it."""

        def opening() -> AbstractAsyncContextManager[None]:
            return intake.serving(
                Reached(self._control, self._feed, self._metrics, self._webhooks, self._notices),
                status=partial(_status, daemon, self._state_dir),
                ready=lambda: daemon.ready,
                told=listens,
            )

        daemon = Daemon(
            self._engine,
            self._catalogue,
            self._clock,
            [
                Part(name="schedules", run=self._planner.run),
                Part(name="file triggers", run=self._files.run),
                Part(name="triggers by other pipelines", run=self._after.run),
                Part(name="feed", run=self._feed.run),
                Part(name="notices", run=self._notices.run),
                Part(name="keeping", run=self._keeping.run),
                Part(name="desk", run=Desk(self._control, self._inbox).run),
                Part(name="loop lag", run=self._metrics.run),
            ],
            changed=self._planner.poke,
            intake=opening,
            ready=partial(manager.tell, "READY=1", f"STATUS=serving {self._state_dir}"),
            alive=partial(manager.tell, "WATCHDOG=1"),
            alive_every_s=manager.every_s,
        )
        return daemon

    def _followers(self, run: str, run_folder: Path, definition: Definition) -> Sequence[Follower]:
        log = self._outlet.of_run(run_folder, definition)
        bell = self._notices.follower(run, run_folder)
        return (log, self._ends, self._feed, self._metrics.follower(definition.spec), *bell)


async def _secret_of(pipeline: Pipeline, template: str) -> str:
    """What a template makes of the pipeline's secrets, as they are now. SecretMissing."""
    definition = pipeline.definition()
    named = {access[1] for access in references_of(template) if access[0] == "secrets" and len(access) > 1}
    reader, folder = SecretReader(), Path(definition.folder)
    values = {name: await reader.read(name, definition.spec.secrets[name], folder) for name in named}
    return str(render_value(template, {"secrets": values}))


def _status(daemon: Daemon, state_dir: Path) -> Mapping[str, Any]:
    return {
        "state_dir": str(state_dir),
        "started": daemon.started_at,
        "pid": os.getpid(),
        "parts": [
            {"name": part.name, "since": part.since, "failures": part.failures, "error": part.error}
            for part in daemon.parts
        ],
    }
