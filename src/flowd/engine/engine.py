"""All runs of one process: the engine opens what they share, starts them, and sees them end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self

import anyio

from flowd.authoring.importing import CallError
from flowd.authoring.params import resolve_params
from flowd.authoring.pipeline import Pipeline
from flowd.core import events as e
from flowd.core import states as s
from flowd.core.durations import parse_duration
from flowd.core.errors import BadPipeline, BadRequest, FlowdError, NoSuchRun, StateLocked
from flowd.core.keyed import EACH
from flowd.core.limits import Admission
from flowd.core.lineage import MARK
from flowd.core.shape import select
from flowd.core.stimuli import CancelAsked, FoundFresh, PauseAsked, RetryAsked, Stimulus
from flowd.core.views import moment
from flowd.engine import admitting, checkpointing, redefining, secrecy
from flowd.engine.answering import Answers
from flowd.engine.capacity import capacity_document, waiting_document
from flowd.engine.entering import NeverBegan, adoption, check_same, has_ended, is_paused, read
from flowd.engine.fleet import Fleet
from flowd.engine.foreseeing import foresee
from flowd.engine.handle import Result, Run
from flowd.engine.host import Host
from flowd.engine.ids import new_run_id
from flowd.engine.inboxes import Inboxes
from flowd.engine.program import Program, from_pipeline
from flowd.engine.saying import warn
from flowd.engine.services import Adapters, Services
from flowd.engine.sharing import Sharing
from flowd.engine.survey import Standing
from flowd.engine.timers import Timers
from flowd.engine.workers import Workers

DEFAULT_CONCURRENCY = 32
EXITS = ("cancel", "drain", "detach")


class Engine(Answers):
    """Runs pipelines concurrently, in the event loop that it is opened in.

    `open_adapters` gives an async context manager of the outside world (wiring has two: the
    file system, and memory for tests). `on_exit` says what leaving does to runs that are not
    done: `cancel` them, `drain` (wait for) them, or `detach`: stop them so that they can be
    resumed. It takes no signal, configures no logging, and starts no loop.
    """

    def __init__(
        self,
        open_adapters: Callable[[], Any],
        *,
        max_concurrency: int | None = None,
        limits: Mapping[str, float] | None = None,
        on_exit: str = "cancel",
        grace: str | timedelta = "10s",
        patient: bool = False,
    ) -> None:
        if on_exit not in EXITS:
            raise BadRequest(f"on_exit is {on_exit!r}; write one of {', '.join(EXITS)}")
        if max_concurrency is not None and max_concurrency < 1:
            raise BadRequest(f"max_concurrency is {max_concurrency}; write a number from 1")
        self._open_adapters = open_adapters
        self._most = max_concurrency or DEFAULT_CONCURRENCY
        self._limits = dict(limits or {})
        self._on_exit = on_exit
        self._patient = patient
        self._grace = parse_duration(grace) if isinstance(grace, str) else grace
        self._host = Host(self._live)
        self._services: Services | None = None

    # --- opening and closing -------------------------------------------------------------------------

    async def open(self) -> Self:
        """Open the engine; for places that cannot hold an `async with`, such as notebooks."""
        await self._host.open()
        return self

    async def aclose(self) -> None:
        """Do to unfinished runs what `on_exit` says, then close."""
        await self._host.close()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @asynccontextmanager
    async def _live(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            adapters: Adapters = await stack.enter_async_context(self._open_adapters())
            for executor in adapters.executors.values():
                await stack.enter_async_context(executor)
            async with anyio.create_task_group() as group:
                admission: Admission[Any] = Admission()
                for name, capacity in self._limits.items():
                    if not name.endswith(EACH):
                        admission.resize(name, capacity)
                workers = Workers(group, admission, self._most, adapters.clock.monotonic)
                timers = Timers(adapters.clock)
                sharing = Sharing(adapters.locks, admission, timers, adapters.clock, workers.wake, workers.has_room)
                services = self._services = Services(
                    adapters=adapters,
                    timers=timers,
                    admission=admission,
                    sharing=sharing,
                    wake=workers.wake,
                    threads=anyio.CapacityLimiter(8),
                    away=workers.away,
                    patient=self._patient,
                )
                fleet = services.fleet = Fleet(services, group, self._limits)
                group.start_soon(services.timers.run, name="flowd timers")
                group.start_soon(sharing.run, name="flowd sharing")
                group.start_soon(Inboxes(adapters.inbox, fleet.drivers).run, name="flowd inboxes")
                try:
                    yield
                finally:
                    await fleet.end(self._on_exit, self._grace)
                    group.cancel_scope.cancel()

    # --- starting ----------------------------------------------------------------------------------------

    async def start(
        self,
        pipeline: Pipeline,
        *tasks: str,
        params: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        force: bool = False,
        force_tasks: Sequence[str] = (),
        only: bool = False,
        time: datetime | None = None,
        trigger: Mapping[str, Any] | None = None,
    ) -> Run:
        """Start a run of `pipeline` (of `tasks` and what they need, where named) and return at once.

        `run_id` is an idempotency key: a known id gives that run, resumed where it is unfinished
        and nobody owns it. `only` runs the named tasks without their needs, whose newest
        checkpoints stand in for them. Raises BadPipeline, BadParameters or BadRequest before
        anything is written.
        """
        adapters = self._adapters()
        if run_id is not None and MARK in run_id:
            raise BadRequest(f"{run_id!r} cannot be a run's id: `{MARK}` is for runs of tasks that are pipelines")
        program = from_pipeline(pipeline)
        resolved = resolve_params(program.spec.params, params or {}, text=False)
        admitting.check_request(program.spec, tasks, force_tasks, self._limits, patient=self._patient)
        if run_id is not None and (known := await self._known(run_id, program, resolved)) is not None:
            return known
        selected = admitting.with_direct_needs(program.spec, tasks) if only else select(program.spec.tasks, tasks)
        checkpoints = await checkpointing.load(adapters, program)
        lent = admitting.lent(tasks, selected, checkpoints) if only else ()
        origin = {**(trigger or {"kind": "hand"}), **({} if time is None else {"time": moment(time)})}
        first = e.RunStarted(
            pipeline=program.spec.name,
            spec="",
            params=resolved,
            trigger=origin,
            tasks=selected if tasks else (),
            force=force,
            force_tasks=tuple(force_tasks),
            owner=adapters.owner,
        )
        admitting.check_inputs(program, first, adapters.clock.now())
        chosen = frozenset(selected)
        await secrecy.check(adapters, program, (task for task in program.spec.tasks if task.name in chosen))
        if run_id is not None:
            return await self._begin_or_find(run_id, program, first, checkpoints, lent)
        while True:
            candidate = new_run_id(adapters.clock.now())
            with suppress(FileExistsError):  # another process drew the same id in the same millisecond
                return await self._begin(candidate, program, first, checkpoints, lent)

    async def run(self, pipeline: Pipeline, *tasks: str, **options: Any) -> Result:
        """`start`, then wait for the end."""
        run = await self.start(pipeline, *tasks, **options)
        return await run.wait()

    async def resume(
        self, run_id: str, pipeline: Pipeline | None = None, *, with_new_definition: bool = False, by: str = ""
    ) -> Run:
        """Go on with a run that was interrupted, paused or whose owner died.

        A finished run is returned as it is. StateLocked names a living owner elsewhere. A run keeps
        the definition that it began with, unless `with_new_definition`: it then goes on as `pipeline`
        is now. What had succeeded stays so; BadRequest for what cannot be mapped.
        """
        if with_new_definition:
            self._check_anew(run_id, pipeline)
            enter = adoption(self._adapters(), run_id, pipeline=pipeline, anew=redefining.asking(by))
            return await self._here.launch(run_id, enter)
        return await self._here.go_on(run_id, None if pipeline is None else from_pipeline(pipeline))

    async def retry(
        self,
        run_id: str,
        *tasks: str,
        downstream: bool = False,
        failed_items: bool = False,
        by: str = "",
        pipeline: Pipeline | None = None,
        go_on: bool = True,
        with_new_definition: bool = False,
    ) -> Run:
        """Run tasks of a run again (all that did not end well, where none is named), in the same run.

        Of a task with items, those that did not end well run again; with `failed_items` nothing else does.

        A run that nobody owns is adopted and goes on, unless `go_on` is false; as `pipeline` is
        now, where `with_new_definition`.
        """
        if with_new_definition:
            self._check_anew(run_id, pipeline)
            again = RetryAsked(tasks=tasks, downstream=downstream, by=by, failed_items=failed_items)
            anew = redefining.asking(by, again)
            enter = adoption(self._adapters(), run_id, pipeline=pipeline, anew=anew, go_on=go_on)
            return await self._here.launch(run_id, enter)
        state, _, _ = await read(self._adapters(), run_id, uncalled=True)
        redefining.refuse_unknown(tasks, state.shape.index, f"run {run_id}")
        asked = RetryAsked(tasks=tasks, downstream=downstream, by=by, failed_items=failed_items)
        enter = adoption(self._adapters(), run_id, [asked], pipeline=pipeline, go_on=go_on)
        return await self._here.tell(run_id, asked, enter)

    async def cancel(self, run_id: str, reason: str = "", by: str = "", *, pipeline: Pipeline | None = None) -> Run:
        """Stop a run for good; one that nobody owns is adopted for it, and what stands under its `finally` runs here.

        For that the run's functions (those of `pipeline`, else they are imported) and secrets are needed, as by a
        `resume`; where they cannot be had, it is left to one, and a warning says so. A run without `finally` needs
        neither. A finished run is returned as it is. StateLocked names a living owner elsewhere.
        """
        adapters = self._adapters()
        definition = await adapters.journal.definition(run_id)
        said = await secrecy.typed(adapters.secrets, adapters.secrecy, definition, reason=reason)
        asked = CancelAsked(reason=said["reason"], by=by)
        if run_id not in self._here:
            state, _, _ = await read(adapters, run_id, uncalled=True)
            if state.state not in {s.RUN_NEW, *s.RUN_ENDED} and state.shape.finals and state.closing is None:
                try:
                    return await self._here.launch(run_id, adoption(adapters, run_id, [asked], pipeline=pipeline))
                except (BadPipeline, BadRequest, CallError) as error:
                    warn("finally_left", run=run_id, error=str(error))
        return await self._ask(run_id, asked)

    async def pause(self, run_id: str, by: str = "") -> Run:
        """Start nothing new in a run; what runs goes on to its end. `resume` goes on, whatever process asks for it.

        One that nobody owns is adopted for it, and none of its code is needed; a finished run is
        returned as it is. StateLocked names a living owner elsewhere.
        """
        return await self._ask(run_id, PauseAsked(by=by))

    # --- reading -----------------------------------------------------------------------------------------

    async def get(self, run_id: str) -> Run:
        """The run with this id, living or not. NoSuchRun if there is none."""
        if run_id not in self._here:
            await self._adapters().journal.definition(run_id)
        return self._here.handle(run_id)

    def owns(self, run_id: str) -> bool:
        """Whether a run goes on here."""
        return run_id in self._here

    def limits(self) -> dict[str, Any]:
        """Each limit by name: its capacity, its use, who holds it since when, and who waits in which order."""
        return capacity_document(self._shared.admission)

    def waiting(self) -> list[dict[str, Any]]:
        """Every task that could start and waits, the most urgent first: since when, for what, and who has it."""
        return waiting_document(self._shared.admission, self._shared.sharing)

    def runs(self) -> list[Run]:
        """All runs of the state directory, newest first."""
        return [self._here.handle(run_id) for run_id in self._adapters().runs()]

    async def recover(self) -> list[Run]:
        """Go on with every run that is unfinished and that nobody owns; those runs. One that is paused stays so.

        One that cannot be gone on with (a person has to answer, its functions cannot be imported,
        it is damaged) is left as it is and said in a warning.
        """
        adopted = []
        for run_id in self._adapters().runs():
            if run_id in self._here:
                continue
            try:
                if not (await has_ended(self._adapters(), run_id) or await is_paused(self._adapters(), run_id)):
                    adopted.append(await self._here.launch(run_id, adoption(self._adapters(), run_id)))
            except StateLocked:
                continue  # it is going on elsewhere
            except FlowdError as error:
                warn("run_not_recovered", run=run_id, error=str(error))
        return adopted

    async def plan(
        self,
        pipeline: Pipeline,
        *tasks: str,
        params: Mapping[str, Any] | None = None,
        force: bool = False,
        force_tasks: Sequence[str] = (),
    ) -> dict[str, Standing]:
        """What a run started now would do with each task, and why; nothing is written."""
        program = from_pipeline(pipeline)
        resolved = resolve_params(program.spec.params, params or {}, text=False)
        admitting.check_request(program.spec, tasks, force_tasks, self._limits, patient=True)
        first = e.RunStarted(
            pipeline=program.spec.name,
            spec="",
            params=resolved,
            tasks=select(program.spec.tasks, tasks) if tasks else (),
            force=force,
            force_tasks=tuple(force_tasks),
        )
        return await foresee(self._adapters(), program, first, self._services.threads if self._services else None)

    # --- within ------------------------------------------------------------------------------------------

    @property
    def _shared(self) -> Services:
        if self._services is None:
            raise BadRequest("the engine is not open; write `async with Engine() as engine:`")
        return self._services

    def _adapters(self) -> Adapters:
        return self._shared.adapters

    @property
    def _here(self) -> Fleet:
        fleet: Fleet = self._shared.fleet
        return fleet

    def _check_anew(self, run_id: str, pipeline: Pipeline | None) -> None:
        """BadRequest where a run cannot be given another definition now."""
        if pipeline is None:
            raise BadRequest("with_new_definition takes the pipeline, too: engine.resume(run_id, pipeline, …)")
        if run_id in self._here:
            raise BadRequest(f"run {run_id} is going on; pause it, and let it go on with the new definition then")

    async def _known(self, run_id: str, program: Program, params: Mapping[str, Any]) -> Run | None:
        """The run with this id, gone on with where it may be; None where there is none or it never began."""
        if run_id not in self._here:
            try:
                await self._adapters().journal.definition(run_id)
            except NoSuchRun:
                return None
        state, _, recorded = await read(self._adapters(), run_id, uncalled=True)
        if state.state == s.RUN_NEW:
            return None
        check_same(state, recorded.definition.folder, program, params)
        if run_id in self._here or state.state in s.RUN_ENDED:
            return self._here.handle(run_id)
        return await self._here.launch(run_id, adoption(self._adapters(), run_id, given=program, params=params))

    async def _ask(self, run_id: str, asked: Stimulus) -> Run:
        """Tell an unfinished run something that none of its code is needed for."""
        if run_id not in self._here and await has_ended(self._adapters(), run_id):
            return self._here.handle(run_id)
        return await self._here.tell(run_id, asked, adoption(self._adapters(), run_id, [asked], uncalled=True))

    async def _begin(
        self,
        run_id: str,
        program: Program,
        first: e.RunStarted,
        checkpoints: Mapping[str, Any],
        lent: Sequence[FoundFresh],
    ) -> Run:
        """Make the run and begin it. FileExistsError where its id is taken."""
        return await self._here.begin(run_id, program, first, checkpoints, lent)

    async def _begin_or_find(
        self,
        run_id: str,
        program: Program,
        first: e.RunStarted,
        checkpoints: Mapping[str, Any],
        lent: Sequence[FoundFresh],
    ) -> Run:
        """Begin a run of this id, or go on with what another process has begun of it, perhaps in part, since."""
        for _ in range(2):
            with suppress(FileExistsError):
                return await self._begin(run_id, program, first, checkpoints, lent)
            with suppress(NeverBegan):  # a death has left a piece of its first record; who locks it sets that aside
                enter = adoption(self._adapters(), run_id, given=program, params=first.params)
                return await self._here.launch(run_id, enter)
        raise BadRequest(f"run {run_id} exists with another pipeline; take another --run-id, or none")
