"""The runs that go on in this process: each is owned from here to its end, by one driver in one task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup

from flowd.core.errors import BadRequest, StorageFailing
from flowd.core.events import RunStarted
from flowd.core.lineage import parent_of
from flowd.core.spec import PipelineSpec
from flowd.core.stimuli import ChildMoved, FoundFresh, Redefined, Stimulus
from flowd.engine import admitting, checkpointing
from flowd.engine.children import RUN_LIMIT
from flowd.engine.driver import Driver
from flowd.engine.entering import Enter, adoption, beginning, has_ended
from flowd.engine.handle import Run
from flowd.engine.program import Program
from flowd.engine.services import Services
from flowd.engine.stream import Stream
from flowd.ports.stores import Checkpoint


class Fleet:
    """The living runs of one engine, in `group`; `limits` are the engine's own."""

    def __init__(self, services: Services, group: TaskGroup, limits: Mapping[str, float]) -> None:
        self.drivers: dict[str, Driver] = {}
        self._services = services
        self._group = group
        self.limits = limits
        self._owned: dict[str, anyio.Event] = {}
        self._ended: dict[str, anyio.Event] = {}
        self._failures: dict[str, Exception] = {}
        self._closing = False

    async def begin(
        self,
        run_id: str,
        program: Program,
        first: RunStarted,
        checkpoints: Mapping[str, Checkpoint],
        lent: Sequence[FoundFresh] = (),
    ) -> Run:
        """Make a run and begin it. FileExistsError where its id is taken."""
        digest = await self._services.adapters.journal.create(run_id, program.definition)
        first = msgspec.structs.replace(first, spec=digest)
        return await self.launch(run_id, beginning(program, run_id, first, checkpoints, lent))

    async def until_still(self, run_id: str) -> None:
        """Return when a run does not go on here any more; raises what kept it from being recorded."""
        if (ended := self._ended.get(run_id)) is not None:
            await ended.wait()
        if (failure := self._failures.get(run_id)) is not None:
            raise failure

    def __contains__(self, run_id: str) -> bool:
        """Whether the run is being opened or goes on here."""
        return run_id in self._owned

    def handle(self, run_id: str) -> Run:
        """The run as a host program holds it, living or not."""
        adapters = self._services.adapters
        driver, ended = self.drivers.get(run_id), self._ended.get(run_id)
        program = driver.program if driver is not None else None
        go_on = partial(self.go_on, run_id, program)
        return Run(run_id, adapters, driver, ended, partial(self._failures.get, run_id), go_on)

    async def living(self, run_id: str) -> Driver | None:
        """The driver of a run that is being opened or goes on here; None where it does neither, or ended meanwhile."""
        if run_id in self._owned:
            await self._owned[run_id].wait()
        return self.drivers.get(run_id)

    async def tell(self, run_id: str, asked: Stimulus, otherwise: Enter) -> Run:
        """Tell a run something: here where it goes on here, else by entering it so that it is told."""
        driver = await self.awake(run_id)
        if driver is None:
            return await self.launch(run_id, otherwise)
        handle = self.handle(run_id)
        driver.tell(asked)
        await driver.recorded()
        return handle

    async def awake(self, run_id: str) -> Driver | None:
        """The driver of a run that goes on here; None where none does, and one that came to rest has let go of it."""
        ended = self._ended.get(run_id)
        driver = await self.living(run_id)
        if driver is not None and driver.at_rest and ended is not None:
            await ended.wait()
            return None
        return driver

    async def go_on(self, run_id: str, program: Program | None = None) -> Run:
        """Go on with a run that stands still, here or anywhere; one that goes on or has ended is left as it is.

        `program` holds its functions, where they are not to be imported.
        """
        ended = self._ended.get(run_id)
        driver = await self.living(run_id)
        if driver is not None and ended is not None:
            if driver.resume():
                await driver.recorded()
                return self.handle(run_id)
            program = program or driver.program
            await ended.wait()
        adapters = self._services.adapters
        if await has_ended(adapters, run_id):
            return self.handle(run_id)
        return await self.launch(run_id, adoption(adapters, run_id, given=program))

    async def launch(self, run_id: str, enter: Enter) -> Run:
        """Start the run's driver and return when it owns the run; raise what kept it from that.

        A run that is being opened here already is waited for.
        """
        if run_id in self:
            await self.living(run_id)
            return self.handle(run_id)
        if self._closing:
            raise BadRequest("the engine is closing: it begins no run")
        self._ended[run_id] = anyio.Event()
        self._failures.pop(run_id, None)
        owned = self._owned[run_id] = anyio.Event()
        self._group.start_soon(self._drive, run_id, enter, name=f"flowd run {run_id}")
        await owned.wait()
        failure = self._failures.get(run_id)
        if failure is not None and run_id not in self.drivers:
            raise self._failures.pop(run_id)  # it kept whoever asked from the run, and is no end of it
        return self.handle(run_id)

    async def end(self, on_exit: str, grace: timedelta) -> None:
        """Do to all runs what `on_exit` says (cancel, drain, detach), and return when none is left; open no more."""
        self._closing = True
        for opening in list(self._owned.values()):
            with anyio.CancelScope(shield=True):
                await opening.wait()
        for driver in list(self.drivers.values()):
            if on_exit == "cancel":
                driver.cancel("the engine was closed", "engine", within=grace)
            elif on_exit == "detach":
                driver.interrupt(within=grace)
        with anyio.CancelScope(shield=True):
            while self._ended:
                await next(iter(self._ended.values())).wait()

    def _open_limits(self, changed: PipelineSpec) -> None:
        living = [driver.run.spec for driver in self.drivers.values()]
        services = self._services
        admitting.open_limits(services.admission, services.sharing.rates, self.limits, living, changed)

    async def _drive(self, run_id: str, enter: Enter) -> None:
        """Own a run from here to its end; its failure is the run's, never the engine's."""
        services, adapters = self._services, self._services.adapters
        try:
            async with adapters.journal.open(run_id) as writer, anyio.create_task_group() as group:
                if writer.left_by:
                    await adapters.end_leftovers(writer.left_by)
                entry = await enter(writer)
                followers = adapters.followers(run_id, adapters.run_folder(run_id), entry.program.definition)
                stream = Stream(run_id, writer, entry.last, followers)
                driver = self.drivers[run_id] = Driver(services, entry, stream)
                if not isinstance(entry.first, RunStarted):  # a new run may yet turn out to have nothing to do
                    if any(isinstance(asked, Redefined) for asked in entry.first):
                        await checkpointing.merge(
                            adapters, entry.program, entry.state
                        )  # of tasks that may be gone then
                    await checkpointing.announce(adapters, entry.program, run_id)
                driver.approvals.group = group
                group.start_soon(_publish, driver, name="flowd publish")
                await driver.enter()
                self._open_limits(entry.program.spec)
                self._owned[run_id].set()
                await driver.drive()
                group.cancel_scope.cancel()
            await checkpointing.merge(adapters, entry.program, entry.state)
            if driver.survey.files.news:
                await anyio.to_thread.run_sync(driver.survey.keep_looks, limiter=services.threads)
        except Exception as error:  # noqa: BLE001  # given to whoever waits for the run
            self._failures[run_id] = single(error)
        finally:
            services.admission.drop((run_id, RUN_LIMIT))
            if (ended := self.drivers.pop(run_id, None)) is not None:
                ended.fans.close()
                self._open_limits(ended.run.spec)
                self._tell_parent(ended)
            self._owned.pop(run_id).set()
            self._ended.pop(run_id).set()

    def _tell_parent(self, ended: Driver) -> None:
        """The run of which this was a task may wait for it, if somebody else had it go on."""
        parent = self.drivers.get(parent_of(ended.run.trigger) or "")
        if parent is not None and not parent.at_rest:
            parent.tell(ChildMoved(ended.run.trigger["task"]))


async def _publish(driver: Driver) -> None:
    """Tell followers what is durable, until there is nothing more, or the disk fails and the run with it."""
    try:
        await driver.stream.publish()
    except StorageFailing as failure:
        driver.fail(failure)


def single(error: Exception) -> Exception:
    """The one error inside a group of one, since whoever waits for a run wants that."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
