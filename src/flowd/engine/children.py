"""A task that is another pipeline: a run of its own, begun and gone on with for this one, and stopped with it.

The run's id stands in the record of the attempt's start, so whoever goes on with this run after a
death goes on with that one, too. It holds no slot of its own while its tasks run: they are counted
where this run's are.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from flowd.authoring.params import resolve_params
from flowd.core import events as e
from flowd.core import states as s
from flowd.core.answers import open_commands
from flowd.core.errors import NoSuchRun, StateLocked
from flowd.core.events import Reason
from flowd.core.expressions import references_of, render_value
from flowd.core.lineage import KIND, child_id, origin_of, parent_of, turn_of
from flowd.core.reasons import because
from flowd.core.run import RunState
from flowd.core.spec import Nested, TaskSpec
from flowd.core.stimuli import CancelAsked, FoundFresh, RetryAsked, Stopped, WaitsForPeople
from flowd.core.task_state import INTERRUPTED, TaskState
from flowd.core.views import WAITING, first_error, run_status
from flowd.engine import admitting, checkpointing, results, secrecy
from flowd.engine.entering import NeverBegan, adoption, read
from flowd.engine.foreseeing import foreseen
from flowd.engine.prepare import Resolver
from flowd.engine.program import Program
from flowd.engine.services import Services
from flowd.engine.survey import FRESH, SKIP, files_of
from flowd.ports.executor import Work

if TYPE_CHECKING:
    from flowd.engine.driver import Driver


RUN_LIMIT = "max_concurrency"
"""With a run's id, the name of what bounds how many of its tasks run at once."""


class PipelineFailed(Exception):
    """The run that a task is did not end well."""


class Child:
    """The run that the next attempt of a task is.

    `how` it is entered: `begin`, `go_on`, `retry`, or `take` where it has ended well and only the record
    of that is missing.
    """

    def __init__(self, driver: Driver, number: int, program: Program, params: Mapping[str, Any]) -> None:
        self.run = ""
        self.how = ""
        self.living: Driver | None = None
        self._driver = driver
        self._number = number
        self._spec = driver.run.shape.specs[number]
        self._program = program
        self._params = dict(params)

    @classmethod
    async def of(cls, driver: Driver, number: int, given: Mapping[str, Any]) -> Child:
        """The run for a task that is given these parameters. BadParameters, BadRequest where there can be none."""
        program, params = _asked(driver, driver.run.shape.specs[number], given)
        child = cls(driver, number, program, params)
        child.run, child.how = await child._choose()
        return child

    # --- which run ------------------------------------------------------------------------------------

    async def _choose(self) -> tuple[str, str]:
        """The one that the attempt before had, as far as it can be gone on with; else another."""
        driver, adapters = self._driver, self._driver.services.adapters
        task = driver.run.tasks[self._number]
        if task.child is None:
            return child_id(driver.run.id, self._spec.name, 1), "begin"
        known = task.child.run
        try:
            state, _, _ = await read(adapters, known, uncalled=True)
            began = await adapters.journal.definition(known)
        except NoSuchRun:
            return known, "begin"
        if state.state == s.RUN_NEW:
            return known, "begin"
        following = child_id(driver.run.id, self._spec.name, turn_of(known) + 1)
        if began.spec != self._program.spec or dict(state.params) != self._params:
            if state.state not in s.RUN_ENDED:
                why = CancelAsked(reason="its task has to run with something else")
                await self._fleet.tell(known, why, adoption(adapters, known, [why], uncalled=True))
                await self._fleet.until_still(known)
            return following, "begin"
        if state.state not in s.RUN_ENDED:
            return known, "go_on"
        if state.state == s.RUN_SUCCEEDED:
            return (known, "take") if _was_interrupted(task) else (following, "begin")
        return known, "take" if state.state == s.RUN_PARTIAL and _was_interrupted(task) else "retry"

    # --- its time -------------------------------------------------------------------------------------

    async def carry_out(self, work: Work, cause: Any) -> tuple[Any, Reason | None] | WaitsForPeople | Stopped:
        """Its result and why it is partial, if it is; or why it goes on later.

        `cause` tells why the attempt is stopped, once it is. PipelineFailed where the run did not end well.
        """
        driver = self._driver
        if self.how != "take":
            with driver.services.away():
                try:
                    await self._enter()
                except StateLocked:
                    return WaitsForPeople(child=self.run, commands=(f"flowd resume {driver.run.id}",))
                await self._until_still(work, cause)
        state, _, _ = await read(driver.services.adapters, self.run, uncalled=True)
        return await self._outcome(state)

    async def _enter(self) -> None:
        driver, fleet, adapters = self._driver, self._fleet, self._driver.services.adapters
        if self.how == "begin":
            try:
                await self._begin()
            except FileExistsError:
                with_record = adoption(adapters, self.run, given=self._program)
                await fleet.launch(self.run, with_record)
        else:
            again = [RetryAsked(by=f"run {driver.run.id}")] if self.how == "retry" else []
            try:
                await fleet.launch(self.run, adoption(adapters, self.run, again, given=self._program))
            except NeverBegan:
                await self._begin()
        self.living = fleet.drivers.get(self.run)
        if self.living is not None:
            self.living.approvals.patient = False  # what it asks is asked of whoever asks for this run
            driver.children[self._number] = self.living

    async def _begin(self) -> None:
        driver, program, adapters = self._driver, self._program, self._driver.services.adapters
        admitting.check_request(program.spec, (), (), self._fleet.limits, patient=False)
        first = _first(driver, self._spec, self._number, program, self._params)
        admitting.check_inputs(program, first, adapters.clock.now())
        await secrecy.check(adapters, program, program.spec.tasks)
        await self._fleet.begin(self.run, program, first, await checkpointing.load(adapters, program))

    async def _until_still(self, work: Work, cause: Any) -> None:
        try:
            await self._fleet.until_still(self.run)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                if self.living is not None:
                    self._stop(self.living, cause(), work.grace)
                await self._fleet.until_still(self.run)
            raise
        finally:
            self._driver.children.pop(self._number, None)

    def _stop(self, living: Driver, cause: str | None, within: timedelta) -> None:
        if cause in {None, "interrupted"}:
            living.interrupt(within=within)
        else:
            living.cancel(f"run {self._driver.run.id} ended it ({cause})", "", within=within)

    # --- its end --------------------------------------------------------------------------------------

    async def _outcome(self, state: RunState) -> tuple[Any, Reason | None] | WaitsForPeople | Stopped:
        status = run_status(state, owned=False)
        if status == WAITING:
            return WaitsForPeople(child=self.run, commands=(*open_commands(state), *self._and_then))
        if status in {s.RUN_SUCCEEDED, s.RUN_PARTIAL}:
            names = ", ".join(spec.name for spec, task in state.own() if task.state == s.PARTIAL)
            partial = because("child_partial", child=self.run, tasks=names) if names else None
            return await result_of(self._driver.services, self._program, state), partial
        if state.state in s.RUN_ENDED:
            raise PipelineFailed(f"{_why(state)}; flowd show {self.run}")
        if self._driver.run.state == s.RUN_RUNNING and status == s.RUN_PAUSED:
            return WaitsForPeople(child=self.run, commands=(f"flowd resume {self.run}", *self._and_then))
        return Stopped(cause="interrupted")

    @property
    def _and_then(self) -> tuple[str, ...]:
        return (f"flowd resume {self._driver.run.id}",)

    @property
    def _fleet(self) -> Any:
        return self._driver.services.fleet


def _was_interrupted(task: TaskState) -> bool:
    last = task.attempts[-1] if task.attempts else None
    return last is not None and last.error is not None and last.error.type == INTERRUPTED


def _asked(driver: Driver, spec: TaskSpec, given: Mapping[str, Any]) -> tuple[Program, dict[str, Any]]:
    """What a task runs, and with what. BadParameters, BadRequest."""
    assert isinstance(spec.action, Nested)
    program = driver.program.inner(spec.name, spec.action)
    return program, resolve_params(program.spec.params, given, text=False)


def _first(driver: Driver, spec: TaskSpec, number: int, program: Program, params: Mapping[str, Any]) -> e.RunStarted:
    run = driver.run
    origin = {"kind": KIND, "run": run.id, "task": spec.name, "origin": origin_of(run.trigger)}
    if "time" in run.trigger:
        origin["time"] = run.trigger["time"]
    force = run.force or run.is_forced(number) or not spec.cache
    owner = driver.services.adapters.owner
    return e.RunStarted(
        pipeline=program.spec.name, spec="", params=dict(params), trigger=origin, force=force, owner=owner
    )


def _why(state: RunState) -> str:
    error = first_error(state)
    if error is not None:
        return f"{error['task']} failed: {error['type']}: {error['message']}"
    return state.reason.sentence if state.reason is not None else f"it ended {state.state}"


async def result_of(services: Services, program: Program, state: RunState) -> Any:
    """What a pipeline gives as a task: its `result`, of a run that has ended. ExpressionError."""
    written = program.spec.result
    if written is None:
        return None
    store = services.adapters.results
    named = {access[1] for access in references_of(written) if access[0] == "tasks" and len(access) > 1}
    values = {name: await results.load(state.task(name).result, store) for name in sorted(named & {*state.shape.index})}
    resolver = Resolver(state, files_of(services.adapters, program))
    return render_value(written, resolver.scope_of_run(values))


async def found_fresh(driver: Driver, number: int, given: Mapping[str, Any]) -> bool:
    """Whether a task that is a pipeline need not run, since none of its tasks has to; the driver is told then."""
    run, services, spec = driver.run, driver.services, driver.run.shape.specs[number]
    if spec.gate or not spec.cache or run.is_forced(number) or run.tasks[number].attempt:
        return False
    program, params = _asked(driver, spec, given)
    first = _first(driver, spec, number, program, params)
    state, standings = await foreseen(services.adapters, program, first, services.threads)
    if any(standing.action not in {FRESH, SKIP} for standing in standings.values()):
        return False
    value = await result_of(services, program, state)
    stored = await results.store(value, services.adapters.results) if value is not None else None
    source = max((task.source or "" for _, task in state.own()), default="")
    outputs = await anyio.to_thread.run_sync(partial(_artifacts, driver, spec), limiter=services.threads)
    driver.tell(
        FoundFresh(
            task=spec.name,
            source=source,
            result=stored,
            outputs=outputs,
            reason=because("fresh", run=source),
        )
    )
    return True


def _artifacts(driver: Driver, spec: TaskSpec) -> tuple[e.Artifact, ...]:
    """What a task's outputs are now. Blocks."""
    files = driver.survey.files
    return tuple(
        e.Artifact(path=written, size=look.size, digest=look.digest, checkpoint=output.checkpoint)
        for output, path in driver.survey.resolver.outputs(spec)
        for written in files.matches(path)
        if (look := files.look(files.path(written))) is not None
    )


def limits_above(driver: Driver) -> list[Hashable]:
    """What bounds how many tasks at once the living runs have of which this one is a task, directly or not."""
    found: list[Hashable] = []
    drivers: Mapping[str, Driver] = driver.services.fleet.drivers
    run = driver.run
    while (parent := drivers.get(parent_of(run.trigger) or "")) is not None:
        run = parent.run
        if run.spec.max_concurrency is not None:
            found.append((run.id, RUN_LIMIT))
    return found


def pass_on(event: e.RunPaused | e.RunAdopted, children: Sequence[Driver]) -> None:
    """The runs that are tasks of another are paused and go on with it."""
    for child in children:
        if isinstance(event, e.RunAdopted):
            child.resume()
        elif event.reason != "interrupted":
            child.pause(event.by)
