"""One attempt, top to bottom: resolve, judge, start, execute, collect, tell.

Every step that can wait can also be stopped: `stop` names the cause and cancels the scope, and
the cause decides how the attempt is recorded. A cancellation without a cause is the engine's
own end: the journal then shows an attempt without an end, which recovery knows how to read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import msgspec

from flowd.core import gates
from flowd.core.errors import FlowdError, StorageFailing, cause, is_of_storage
from flowd.core.events import Artifact, Ending, Error, Reason
from flowd.core.expressions import ExpressionError
from flowd.core.fanout import base_name
from flowd.core.reasons import because
from flowd.core.spec import Nested
from flowd.core.stimuli import (
    Again,
    AttemptEnded,
    CouldNotBegin,
    Failed,
    LeftRunning,
    NeverBegan,
    Outcome,
    Stopped,
    Succeeded,
    TimedOut,
)
from flowd.engine import children, gating, log_plan, results, retrying, rounds, secrecy, serving
from flowd.engine.approving import found_fresh
from flowd.engine.channel import AttemptChannel
from flowd.engine.children import Child
from flowd.engine.files import Declared, MissingOutput, collect, prepare_places
from flowd.engine.looks import Look
from flowd.engine.prepare import NO_BINDING, NO_SECRETS, Prepared
from flowd.engine.read_params import ReadParams
from flowd.engine.references import is_bare
from flowd.engine.self_cancelled import SelfCancelled, is_its_own
from flowd.ports.executor import Abandoned, EndUnknown, NoRoom, Work

if TYPE_CHECKING:
    from flowd.engine.driver import Driver

TIMEOUT = "timeout"
_NOTHING: Mapping[str, Look] = {}


class Attempt:
    """One try of one task of one run, held by the driver while it lasts."""

    __slots__ = (
        "_before",
        "_began_ns",
        "_child",
        "_driver",
        "_number",
        "_parts",
        "_prepared",
        "_scope",
        "_secrecy",
        "_spec",
        "_stopped_at",
        "_values",
        "_work",
        "cause",
        "channel",
        "hold",
        "since",
    )

    def __init__(self, driver: Driver, number: int, scope: anyio.CancelScope, since: float) -> None:
        self._driver = driver
        self._number = number
        self._spec = driver.run.shape.specs[number]
        self._scope = scope
        self._secrecy = driver.services.adapters.secrecy
        self._parts: dict[str, str] = {}
        self._before: Mapping[str, Look] = _NOTHING
        self._began_ns = 0
        self._prepared: Prepared | None = None
        self._work: Work | None = None
        self._values: Mapping[str, Any] = {}
        self._child: Child | None = None
        self._stopped_at = 0.0
        self.cause: str | None = None
        self.channel: AttemptChannel | None = None
        self.since = since
        self.hold: int | None = None

    def stop(self, cause: str) -> None:
        """End it, whatever it does now; the first cause stands."""
        if self.cause is None:
            self.cause = cause
            self._stopped_at = self._driver.services.adapters.clock.monotonic()
            self._scope.cancel()

    def bound_grace(self, within: timedelta) -> None:
        """Give it at most so long to stop, whatever its task says."""
        if self._work is not None:
            self._work.grace = min(self._work.grace, within)

    async def perform(self) -> Awaitable[object] | None:
        """Carry the attempt out and tell the driver; ends early if the task is fresh or cannot begin.

        What it returns is to be awaited outside of the scope: the end of what could not be stopped.
        """
        try:
            work = await self._begin()
            if work is None:
                return None
            report = await self._execute(work)
        except (asyncio.CancelledError, BaseExceptionGroup):  # a group: the task's own children went with it
            if self.cause is None:
                raise
            if self._work is None:
                return None  # stopped before it started: what stopped it has said what becomes of the task
            report = self._report(*self._cut_short())
        except Abandoned as error:
            message = LeftRunning(message=self._secrecy.hide(str(error)))
            self._driver.ended(self._number, self._report(message), goes_on=error.finished is not None)
            return error.finished
        except NoRoom as error:
            self._driver.ended(self._number, self._report(NeverBegan(message=self._secrecy.hide(str(error)))))
            raise StorageFailing(str(error)) from error
        finally:
            for close in self._work.closing if self._work is not None else ():
                close()
        self._driver.ended(self._number, report)
        return None

    def _report(self, outcome: Outcome, again: Again | None = None) -> AttemptEnded:
        assert self._work is not None
        allowed = False
        if again is None and self._spec.allow_failure is not False:
            if isinstance(outcome, Failed | TimedOut):
                allowed = self._allowed(outcome.error)
            elif isinstance(outcome, LeftRunning):
                allowed = self._allowed(Error(type="Abandoned", message=outcome.message))
        return AttemptEnded(self._spec.name, self._work.attempt, outcome, again, allowed)

    def _allowed(self, error: Error) -> bool:
        """Whether the task may fail so; one whose `allow_failure` cannot tell may not, and it is said."""
        if self._spec.allow_failure is False:
            return False
        try:
            return self._driver.survey.resolver.is_allowed(self._spec, error, self._values)
        except ExpressionError as wrong:
            if self.channel is not None:
                self.channel.log("error", f"`allow_failure` cannot be judged: {wrong}", {})
            return False

    # --- before it starts ----------------------------------------------------------------------

    async def _begin(self) -> Work | None:
        """Start the attempt and give its work, or None where the task is fresh or cannot begin."""
        driver = self._driver
        try:
            work, reason = await self._prepare()
        except StorageFailing:
            raise
        except (ExpressionError, OSError, FlowdError) as error:
            if isinstance(error, OSError) and is_of_storage(error):
                raise StorageFailing(f"{error.filename}: {cause(error)}") from error
            why = secrecy.hidden_error(Error(type=type(error).__name__, message=str(error)), self._secrecy)
            driver.tell(CouldNotBegin(self._spec.name, why, allowed=self._allowed(why)))
            return None
        if work is None or not driver.run.may_start(self._number):  # much may have happened while it was prepared
            return None
        driver.started(self._number, reason, self._parts, self._child.run if self._child is not None else "")
        if driver.failure is not None:
            return None  # its start is in no journal
        self._work = work
        is_late = self._spec.final or driver.answered_at > driver.stream.durable_seq  # what it follows is on disk first
        if is_late or not self._spec.idempotent or self._child is not None:
            await driver.stream.durable()
        return work

    async def _prepare(self) -> tuple[Work | None, Reason | None]:
        """The work to do and why, or None where the task turned out fresh or has to wait for others."""
        driver, spec, number = self._driver, self._spec, self._number
        name = base_name(spec.name)
        resolver, binding = driver.survey.resolver, driver.program.bindings.get(name, NO_BINDING)
        is_call = number < driver.run.declared and not binding.result_parameters and is_bare(spec)
        self._prepared = prepared = resolver.written(spec, self._values) if is_call else await self._due()
        if prepared is None:
            return None, None
        standing = driver.standings.get(number)
        attempt = driver.run.tasks[number].attempt + 1
        self.channel = AttemptChannel(driver.stream, spec.name, attempt, driver.now, self._secrecy, spec.logs)
        work = resolver.work(
            spec,
            prepared,
            self._values,
            attempt=attempt,
            run_folder=driver.folder,
            function=driver.program.functions.get(name),
            binding=binding,
            port=serving.port_of(spec, driver.run.tasks[number]),
            secrets=await secrecy.values(driver.services.adapters, driver.program, spec)
            if driver.run.spec.secrets
            else NO_SECRETS,
        )
        work.redactions = self._secrecy.forms
        if isinstance(spec.action, Nested):
            if await children.found_fresh(driver, number, work.arguments):
                return None, None
            self._child = await Child.of(driver, number, work.arguments)
        return work, standing.reason if standing is not None else None

    async def _due(self) -> Prepared | None:
        """What the task says now; None where it is fresh, its conditions do not hold, or what it shares is taken."""
        driver, spec, number = self._driver, self._spec, self._number
        values = await driver.values(spec)
        if spec.when is not None and (verdict := driver.survey.conditions.judge(number, values)) is not None:
            driver.tell(verdict)
            return None
        self._values = values
        if spec.repeat is not None and (overdue := rounds.overdue(driver, number)) is not None:
            driver.tell(msgspec.structs.replace(overdue, allowed=self._allowed(overdue.error)))
            return None
        is_nested = isinstance(spec.action, Nested)
        if not is_nested and await found_fresh(driver, number, values):
            return None
        asked = driver.run.tasks[number].approval
        if asked is not None and not asked.begun and await driver.approvals.stands(number, values):
            return None  # a person has to answer once more: what the answer stood for is not as it was
        prepared = driver.survey.resolver.written(spec, values)
        if (spec.uses or spec.inputs or spec.outputs) and not is_nested:  # its own tasks ask for themselves
            self.hold = await driver.services.sharing.enter(driver, number, prepared)
            if self.hold is None:
                return None
        if spec.inputs or spec.outputs or spec.cache:
            await self._in_thread(self._look_at_files, prepared)
        return prepared

    def _look_at_files(self, prepared: Prepared) -> None:
        survey, files = self._driver.survey, self._driver.survey.files
        own = Declared(files, [path for _, path in prepared.outputs])
        for named in prepared.inputs:
            for written in files.matches(named) or [named]:
                if not files.path(written).exists() and not own.meets(written):
                    raise FileNotFoundError(f"its input {written} is not there")
        files.note_synced(survey.recorded_outputs(self._number))
        self._before, self._began_ns = prepare_places(files, prepared.outputs), time.time_ns()
        if self._spec.cache:
            self._parts = survey.parts(self._number, prepared, ())

    # --- while it runs -------------------------------------------------------------------------

    async def _execute(self, work: Work) -> AttemptEnded:
        driver, spec = self._driver, self._spec
        assert self.channel is not None
        timer, most = None, spec.timeout if spec.repeat is None else rounds.time_left(driver, self._number)
        if most is not None:
            timer = driver.services.timers.after(most.total_seconds(), partial(self.stop, TIMEOUT))
        outcome: Outcome
        again: Again | None = None
        try:
            if self._child is None and spec.repeat is None and spec.service is None:
                executor = driver.services.adapters.executors[spec.executor]
                outcome = await self._outcome(work, await executor.run(work, self.channel))
            else:
                outcome = await self._carried_out(work)
        except (Abandoned, NoRoom, StorageFailing):
            raise
        except EndUnknown as error:
            if spec.idempotent:
                outcome, again = self._failed(error, timed_out=False)
            else:  # it may have done all that it was to do
                self.channel.log("warning", str(error), {})
                outcome = Stopped(cause="interrupted", ending=self._ending())
        except Exception as error:  # noqa: BLE001  # whatever the user's code raises is the attempt's outcome
            outcome, again = self._failed(error, timed_out=False)
        except (asyncio.CancelledError, BaseExceptionGroup) as error:
            if self.cause is not None or not is_its_own(error):
                raise
            outcome, again = self._failed(SelfCancelled().with_traceback(error.__traceback__), timed_out=False)
        finally:
            if timer is not None:
                timer.cancel()
        return self._report(outcome, again)

    async def _carried_out(self, work: Work) -> Outcome:
        """The outcome of a round, of a run that the task is, or of a service."""
        assert self.channel is not None
        if self._spec.service is not None:
            return await self._outcome(work, await serving.carry_out(self._driver, self._number, work, self.channel))
        if self._child is None:
            carrying_out = self._driver.services.adapters.executors[self._spec.executor].run(work, self.channel)
            return await self._outcome(work, *await rounds.carried_out(self._spec, carrying_out))
        ended = await self._child.carry_out(work, lambda: self.cause)
        if not isinstance(ended, tuple):
            return ended
        outcome = await self._outcome(work, ended[0])
        return msgspec.structs.replace(outcome, partial=ended[1]) if isinstance(outcome, Succeeded) else outcome

    async def _outcome(self, work: Work, value: object, exit_code: int | None = None) -> Outcome:
        driver, spec, channel = self._driver, self._spec, self.channel
        assert channel is not None
        assert self._prepared is not None
        value, hidden = secrecy.hidden_result(value, self._secrecy)
        most = results.INLINE_BYTES if self._number < driver.run.declared else results.ITEM_BYTES
        stored = await results.store(value, driver.services.adapters.results, most) if value is not None else None
        if spec.repeat is not None:
            goes_on = await rounds.left_open(driver, self._number, self._prepared, channel, stored, exit_code)
            if goes_on is not None:
                return goes_on
        artifacts: tuple[Artifact, ...] = ()
        if spec.outputs:
            files = driver.survey.files
            artifacts = await self._in_thread(collect, files, self._prepared.outputs, self._before, self._began_ns)
            secrecy.check_names([artifact.path for artifact in artifacts], self._secrecy)
        parts = self._parts
        if spec.cache:
            if isinstance(work.params, ReadParams) and work.wants_ctx:
                read = work.params if spec.executor == "process" else work.params.read
                parts = parts | driver.survey.param_parts(read)
            if spec.outputs and spec.inputs:
                left = driver.survey.as_left
                parts = await self._in_thread(left, self._number, self._prepared, parts, artifacts)
        warnings = hidden
        if spec.logs:
            told = channel.said | channel.metrics.keys()
            printed = partial(self._in_thread, partial(log_plan.not_printed, log=work.log))
            warnings += await log_plan.warnings(spec.logs, told, value, printed)
        if spec.gate:
            warnings += await gating.pass_gates(driver, spec, self._prepared, channel, stored)
        return Succeeded(
            result=stored,
            outputs=artifacts,
            metrics=channel.metrics,
            parts=parts,
            warnings=warnings,
            ending=channel.ending,
        )

    # --- when it ended otherwise -----------------------------------------------------------------

    def _cut_short(self) -> tuple[Outcome, Again | None]:
        assert self.channel is not None
        driver, number = self._driver, self._number
        if self.cause == TIMEOUT and (over := rounds.cut_off(driver, number, self.channel, self._ending())) is not None:
            return over, None
        if self.cause == serving.SERVED:
            return Succeeded(metrics=self.channel.metrics, ending=self._ending()), None
        if self.cause == TIMEOUT and self._spec.timeout is not None:
            seconds = self._spec.timeout.total_seconds()
            return self._failed(TimeoutError(f"it took longer than its timeout of {seconds:g}s"), timed_out=True)
        return Stopped(cause=self.cause or "interrupted", ending=self._ending()), None

    def _ending(self) -> Ending | None:
        """How it ended; for one that was stopped and is no process, the receipt."""
        assert self.channel is not None
        if self.channel.ending is not None or self.cause is None:
            return self.channel.ending
        by = "cancellation" if self._spec.executor == "async" else "return"
        took = self._driver.services.adapters.clock.monotonic() - self._stopped_at
        return Ending(stopped_by=by, stop_s=round(took, 6))

    def _failed(self, failure: Exception, *, timed_out: bool) -> tuple[Outcome, Again | None]:
        driver, spec = self._driver, self._spec
        assert self.channel is not None
        reason = because("gate_failed", gates=str(failure)) if isinstance(failure, gating.GateFailed) else None
        if isinstance(failure, gating.GateFailed | MissingOutput | results.BadResult):
            error = Error(type=type(failure).__name__, message=str(failure))
        else:
            error = driver.services.adapters.describe(failure, driver.program.folder, self._secrecy.hide)
        error = secrecy.hidden_error(error, self._secrecy)
        task, now = driver.run.tasks[self._number], driver.now()
        again = None
        policy, tries = serving.policy(spec, task)
        if policy is not None and (reason is None or gates.GATE_FAILED in policy.on):
            again = retrying.answer(
                policy,
                driver.program.strategies.get(base_name(spec.name)) if policy is spec.retry else None,
                tries=tries,
                elapsed=now - (task.tried_at or now),
                failure=failure,
                error=error,
                timed_out=timed_out,
            )
        metrics, ending = self.channel.metrics, self._ending()
        if timed_out:
            return TimedOut(error=error, metrics=metrics, ending=ending), again
        return Failed(error=error, metrics=metrics, ending=ending, reason=reason), again

    async def _in_thread(self, call: Any, *arguments: Any) -> Any:
        return await anyio.to_thread.run_sync(call, *arguments, limiter=self._driver.services.threads)
