"""One run's loop: it carries stimuli to `decide`, events to the stream, and starts what may start.

The driver decides nothing. It is told (`tell`, `started`, `ended`) by attempts, timers, people
and the engine, all on one loop, so that no two decisions of a run ever overlap. A failed append
ends it at once: the run is then recovered from its journal, never patched in memory.
"""

from __future__ import annotations

from collections.abc import Awaitable, Hashable, Mapping
from datetime import datetime, timedelta
from typing import Any

import anyio.lowlevel
import anyio.to_thread

from flowd.core import events as e
from flowd.core import states as s
from flowd.core.claims import urgency
from flowd.core.decide import begin, decide, start
from flowd.core.fanout import base_name
from flowd.core.items import owner
from flowd.core.rank import critical_path, learned
from flowd.core.spec import TaskSpec, Wait
from flowd.core.stimuli import AttemptEnded, CancelAsked, PauseAsked, ResumeAsked, Stimulus, TimerStarted
from flowd.engine import checkpointing, fanning, results
from flowd.engine.acting import ACTS
from flowd.engine.approving import Approvals
from flowd.engine.attempt import Attempt
from flowd.engine.children import RUN_LIMIT, limits_above
from flowd.engine.entering import Entry
from flowd.engine.fanning import FanWork
from flowd.engine.fans import Fans
from flowd.engine.holding import uses_of
from flowd.engine.long_waits import LongWaits
from flowd.engine.moments import Moments
from flowd.engine.prepare import NO_BINDING
from flowd.engine.references import asks, is_plain, referenced_results
from flowd.engine.resolving import reconcile
from flowd.engine.services import Services
from flowd.engine.serving import Servings
from flowd.engine.stream import Stream
from flowd.engine.survey import Standing, Survey, files_of

_NO_VALUES: Mapping[str, Any] = {}


class Driver:
    """Drives one run from its first event, or from where another owner left it, to its end."""

    def __init__(self, services: Services, entry: Entry, stream: Stream) -> None:
        self.services = services
        self.program = entry.program
        self.run = entry.state
        self.stream = stream
        self.standings: dict[int, Standing] = {}
        self.failure: Exception | None = None
        self.attempts: dict[int, Attempt | FanWork] = {}
        self.approvals = Approvals(self)
        self.answered_at = 0  # the last record of a person's yes: what it lets start begins once that is durable
        self._entry = entry
        self._checkpoints = entry.checkpoints
        self._queued: list[Stimulus] | None = []  # until the run is entered, and during the survey: nothing is decided
        self._going = False  # until what is fresh is known, nothing starts
        self._offered: dict[int, float] = {}  # since when each waits, in monotonic seconds
        self._long_waits = LongWaits(self)
        self._queues: dict[float, list[float]] = {}  # by priority: how many wait, and since when the first
        self._ranks: list[float] = []
        self.folder = services.adapters.run_folder(self.run.id)
        self._still = anyio.Event()
        self.at_rest = False  # whether nothing that it is told comes of anything: it is about to let go of the run
        self._heard = anyio.Event()
        self.fans = Fans(self.run, services.admission)
        self.moments = Moments(self)
        self.servings = Servings(self)
        self.children: dict[int, Driver] = {}
        self.above: list[Hashable] = []  # what bounds the runs of which this one is a task
        files = files_of(services.adapters, self.program)
        self.survey = Survey(
            self.run,
            files,
            self._checkpoints,
            function_file=self.program.function_file,
            bindings=self.program.bindings,
            hide=services.adapters.secrecy.hide,
        )

    # --- the loop ----------------------------------------------------------------------------------

    async def enter(self) -> None:
        """Begin the run or adopt it, and hear what it was entered for. Raises what refuses that."""
        now, entry = self.now(), self._entry
        if isinstance(entry.first, e.RunStarted):
            self._emit(begin(self.run, entry.first, now), now)
        for stimulus in entry.lent if isinstance(entry.first, e.RunStarted) else entry.first:
            self._emit(decide(self.run, stimulus, now), now)
        self._hear_queued()
        if entry.ask is not None:
            await entry.ask(self)
        if not isinstance(entry.first, e.RunStarted) and self.run.state == s.RUN_RUNNING:
            await reconcile(self)

    async def drive(self) -> None:
        """Find what is fresh, start what may start, until nothing can go on.

        Returns when every event is durable and told. Raises StorageFailing.
        """
        if self._entry.go_on and self.run.state not in s.RUN_ENDED:
            await self._find_fresh()
            if isinstance(self._entry.first, e.RunStarted) and self.run.unended:
                await checkpointing.announce(self.services.adapters, self.program, self.run.id)
            self._rank()
            self.moments.set_deadline()
            self._going = True
            await anyio.lowlevel.checkpoint()  # what was done for a large graph takes as long as what follows
            self.go_on()
            await self._still.wait()
        self.approvals.close()
        self.moments.close()
        self.servings.close()
        if self.failure is not None:
            raise self.failure
        await self.stream.told()

    async def _find_fresh(self) -> None:
        """The one pass over the graph; what is asked of the run meanwhile waits until it is done."""
        self._queued = []
        if any(task.cache for task in self.run.shape.specs):
            limiter = self.services.threads
            now = self.now()
            self.standings, events = await anyio.to_thread.run_sync(self.survey.pass_over, now, limiter=limiter)
            self.stream.emit(events, now)
        self._hear_queued()

    def _hear_queued(self) -> None:
        queued, self._queued = self._queued or (), None
        for stimulus in queued:
            self.tell(stimulus)
        heard, self._heard = self._heard, anyio.Event()
        heard.set()

    async def recorded(self) -> None:
        """Return when all that was told until now is decided and on disk. Raises StorageFailing."""
        while self._queued is not None:
            await self._heard.wait()
        await self.stream.durable()

    def _rank(self) -> None:
        shape, known = self.run.shape, self._checkpoints
        durations = [known[spec.name].duration_s if spec.name in known else None for spec in shape.specs]
        self._ranks = critical_path(shape.order(), shape.successors, learned(durations))
        bound = self.run.spec.max_concurrency
        if bound is not None:
            self.services.admission.resize((self.run.id, RUN_LIMIT), bound)
        self.above = limits_above(self)
        self.moments.resume()
        self.approvals.resume()

    # --- what the driver is told -------------------------------------------------------------------

    def tell(self, stimulus: Stimulus, *, hands: int = 0) -> None:
        """Something has happened: decide what follows, record it, and act on it.

        `hands` workers look for work by themselves as soon as this returns.
        """
        if self._queued is not None:
            self._queued.append(stimulus)
            return
        if self.failure is None:
            self._decide(stimulus)
        self.go_on(hands)

    def _decide(self, stimulus: Stimulus) -> None:
        now = self.now()
        self._emit(decide(self.run, stimulus, now), now)

    def started(self, number: int, reason: e.Reason | None, parts: Mapping[str, str], child: str = "") -> None:
        """An attempt is about to begin; `parts` is its fingerprint, `child` the run that it is."""
        now = self.now()
        self._emit([start(self.run, self.run.shape.specs[number].name, now, reason, parts, child)], now)

    def ended(self, number: int, report: AttemptEnded, *, goes_on: bool = False) -> None:
        """An attempt has ended: it is no longer among the living. `goes_on`: what it did holds its worker still."""
        self.attempts.pop(number, None)
        self.tell(report, hands=0 if goes_on else 1)

    def cancel(self, reason: str, by: str, *, within: timedelta | None = None) -> None:
        """Stop the run for good; `within` bounds the grace of each task."""
        self._bound_grace(within)
        self.tell(CancelAsked(reason=reason, by=by))

    def pause(self, by: str = "") -> None:
        """Start nothing more; what runs goes on to its end."""
        self.tell(PauseAsked(by=by))

    def resume(self) -> bool:
        """Go on after a pause; False where this driver has come to rest, and another has to."""
        if self.at_rest:
            return False
        self.tell(ResumeAsked(owner=self.services.adapters.owner))
        if self._going:
            self.moments.resume()
        return True

    def interrupt(self, *, within: timedelta | None = None) -> None:
        """Stop what runs and start nothing more; the run can be resumed. `within` bounds the grace of each task."""
        self._bound_grace(within)
        self.approvals.patient = False
        if self._going and not (self.attempts or self._offered) and self.approvals.are_all:
            self.go_on()  # there is nothing to stop: it goes on waiting, without us
            return
        self.tell(PauseAsked(reason="interrupted"))
        self.stop_attempts("interrupted")
        self.go_on()

    def fail(self, error: Exception) -> None:
        """Give the run up: its journal can no longer be written, or flowd itself is at fault.

        It is let go when its attempts have ended: whoever takes it next must not meet them.
        """
        if self.failure is None:
            self.failure = error
            self.stop_attempts("interrupted")
            self.go_on()

    # --- acting --------------------------------------------------------------------------------------

    async def perform(self, number: int, scope: anyio.CancelScope) -> Awaitable[object] | None:
        """Carry out one attempt of a task that was admitted, if it may still start; `scope` is what stops it.

        Returns what has to be awaited outside of the scope before what the task uses is free.
        """
        left_running: Awaitable[object] | None = None
        since = self._taken(number)
        if self.failure is None and self.run.may_start(number):
            fanned = self.fans.is_fan(number)
            attempt = (FanWork if fanned else Attempt)(self, number, scope, since)
            self.attempts[number] = attempt
            try:
                left_running = await attempt.perform()
            except Exception as error:  # noqa: BLE001  # a defect or a dead disk ends this run, never the engine
                self.fail(error)
            finally:
                if self.attempts.get(number) is attempt:
                    del self.attempts[number]
                if attempt.hold is not None:
                    left_running = self.services.sharing.leave_after(attempt.hold, left_running)
        if not self.attempts:
            self.go_on()
        return left_running

    def _emit(self, events: list[e.AnyEvent], now: datetime) -> None:
        try:
            self.stream.emit(events, now)
        except Exception as error:  # noqa: BLE001  # whatever keeps a record from the journal ends the run
            self.fail(error)
            return
        for event in events:
            if (act := ACTS.get(type(event))) is not None:
                act(self, event)

    def go_on(self, hands: int = 0) -> None:
        """Offer what has become startable; notice when nothing can go on by itself."""
        run = self.run
        if self.failure is not None and not (self.attempts or self.approvals.busy):
            self._come_to_rest()
        if not self._going or self.at_rest:  # whoever comes next goes on: this one is letting go of the run
            return
        if run.shape.services:
            self.servings.stop_unneeded()
        if run.state == s.RUN_RUNNING and self.failure is None:
            ready = run.take_ready() if not run.shape.conditional else self.survey.conditions.take_ready(self._decide)
            special, since = run.shape.special, self.services.adapters.clock.monotonic()
            for number in ready:
                if number in special and self._turn_of_another_kind(number):
                    continue
                if (retry_at := run.tasks[number].retry_at) is None:
                    self.offer(number, since)
                else:
                    self.moments.wait_for_retry(number, retry_at)
            more = len(ready) + (self.fans.hand_out(self.offer) if run.fans else 0)
            if more > hands:
                self.services.wake(more - hands)
        if self.attempts or self.approvals.busy:
            return
        if run.state != s.RUN_RUNNING or not self.is_busy:
            self._come_to_rest()

    @property
    def is_busy(self) -> bool:
        """Whether anything goes on by itself but what runs."""
        waits = bool(self._offered or self.servings.back or self.approvals.busy)
        return waits or any(map(self._goes_on, range(len(self.run.tasks))))

    def _come_to_rest(self) -> None:
        self.at_rest = True
        self._still.set()

    def _turn_of_another_kind(self, number: int) -> bool:
        """Let a task whose turn has come ask a person, or wait; False where it is one for an attempt."""
        if self.run.is_held(number):
            self.approvals.ask(number)
        elif isinstance((spec := self.run.shape.specs[number]).action, Wait):
            self._decide(TimerStarted(spec.name))
        else:
            return number in self.servings.back
        return True

    def _goes_on(self, number: int) -> bool:
        """Whether a task goes on after a while; with a patient engine one that waits for a person does."""
        state = self.run.tasks[number].state
        if state == s.RETRYING:
            return self.run.could_start(number)  # not where a need was asked for again: that has to end first
        return state == s.SLEEPING or (state == s.WAITING and self.approvals.patient)

    def offer(self, number: int, since: float | None = None, closed: Hashable = None) -> None:
        """Let a task compete for a start. Those of one priority grow older together: rank decides among them."""
        if number in self._offered:
            return
        if since is None:
            since = self.services.adapters.clock.monotonic()
        self._offered[number] = since
        if number >= self.run.declared:
            self.fans.offered(number)
        spec = self.run.shape.specs[number]
        priority = spec.priority
        if closed is not None or spec.uses:
            self._long_waits.may_come()
        queue = self._queues.get(priority)
        if queue is None:
            queue = self._queues[priority] = [0, since]
        if not queue[0] or since < queue[1]:
            queue[1] = since
        queue[0] += 1
        self.services.admission.offer(
            (self, number),
            priority=priority,
            rank=self._ranks[owner(self.run, number)],
            uses=uses_of(self, number) if closed is None else {**uses_of(self, number), closed: 1.0},
            since=since,
            waits_since=queue[1],
        )

    def _taken(self, number: int) -> float:
        """A task waits no more; since when it did."""
        since = self._offered.pop(number, None)
        if since is None:
            return self.services.adapters.clock.monotonic()
        if number >= self.run.declared:
            self.fans.begun(number)
        self._queues[self.run.shape.specs[number].priority][0] -= 1
        return since

    def urgency(self, number: int) -> float:
        """Where a waiting task stands among those of other engines."""
        return urgency(self.run.shape.specs[number].priority, self.waits_since(number))

    def is_waiting(self, number: int) -> bool:
        """Whether a task is offered and could start, were there room."""
        return number in self._offered and self.run.may_start(number)

    def wait_for(self, number: int, closed: Hashable) -> None:
        """An attempt that was about to begin has to wait; `closed` is what for, where it is none of its limits."""
        if self.failure is None and self.run.may_start(number):
            self.offer(number, self.attempts[number].since, closed)

    def waits_since(self, number: int) -> datetime:
        """When the task became ready that waits, or is about to begin."""
        attempt, clock = self.attempts.get(number), self.services.adapters.clock
        since = self._offered.get(number) or (attempt.since if attempt is not None else clock.monotonic())
        return self.now() - timedelta(seconds=clock.monotonic() - since)

    def _bound_grace(self, within: timedelta | None) -> None:
        if within is not None:
            for attempt in self.attempts.values():
                attempt.bound_grace(within)

    def stop_attempts(self, cause: str) -> None:
        """End all that runs, for a cause that each of them is told."""
        for attempt in list(self.attempts.values()):
            attempt.stop(cause)

    # --- what attempts ask -----------------------------------------------------------------------------

    def now(self) -> datetime:
        """The moment, by the engine's clock."""
        return self.services.adapters.clock.now()

    async def values(self, spec: TaskSpec) -> Mapping[str, Any]:
        """The results that a task takes as arguments or refers to in expressions, by task."""
        taken = self.program.bindings.get(base_name(spec.name), NO_BINDING).result_parameters
        if "[" in spec.name:
            await fanning.load_list(self, base_name(spec.name))
        if not taken and is_plain(spec) and not asks(spec):
            return _NO_VALUES
        names = sorted(referenced_results(spec).union(taken) & self.run.shape.index.keys())
        stored = {name: self.run.task(name).result for name in names}
        if (own := self.survey.recorded_result(spec)) is not None:
            stored[spec.name] = own
        return {name: await results.load(one, self.services.adapters.results) for name, one in stored.items()}
