"""What a host program holds of a run: `Run` while it goes on, `Result` once it has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import anyio
import msgspec

from flowd.core import states as s
from flowd.core import views
from flowd.core.codec import public
from flowd.core.deciding.serving import is_kept
from flowd.core.errors import BadRequest, RunFailed
from flowd.core.events import Envelope, Error, Reason
from flowd.core.run import RunState
from flowd.core.task_state import TaskState
from flowd.core.views import run_document, run_status, shown_state
from flowd.engine import results, secrecy
from flowd.engine.driver import Driver
from flowd.engine.services import Adapters
from flowd.ports.executor import log_path
from flowd.ports.follower import Signal


class RunEvent(dict[str, Any]):
    """An event as it stands on an event line, by key or by attribute: `seq at run event task …`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class TaskResult(msgspec.Struct, frozen=True, kw_only=True):
    """One task's end: its state, what it returned, and what it left."""

    state: str
    attempts: int
    result: Any
    metrics: Mapping[str, float]
    outputs: tuple[Path, ...]
    error: Error | None
    reason: Reason | None


class _Tasks(Mapping[str, TaskResult]):
    """The ends of a run's tasks by name, each made when it is asked for: most callers ask for few of thousands.

    `values` are the results that do not stand in the journal; output paths start at `folder`.
    """

    def __init__(self, ended: Mapping[str, TaskState], values: Mapping[str, Any], folder: Path) -> None:
        self._ended = ended
        self._values = values
        self._folder = folder

    def __getitem__(self, name: str) -> TaskResult:
        task = self._ended[name]
        return TaskResult(
            state=shown_state(task),
            attempts=task.attempt,
            result=self._values[name] if name in self._values else results.inline(task.result),
            metrics=task.metrics,
            outputs=tuple(Path(self._folder, artifact.path) for artifact in task.outputs),
            error=task.error,
            reason=task.reason,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._ended)

    def __len__(self) -> int:
        return len(self._ended)

    def __repr__(self) -> str:
        return repr(dict(self))


class Result:
    """How a run ended, or stands: `state` as in the run's JSON, `ok` if it succeeded.

    `tasks` are by name; `counts` says how many stand in each state; `error` is that of the first
    task that broke, with its name.
    """

    def __init__(self, run: RunState, tasks: Mapping[str, TaskResult], document: Callable[[], dict[str, Any]]) -> None:
        self.run_id = run.id
        self.state = run_status(run, owned=False)
        self.ok = self.state == s.RUN_SUCCEEDED
        self.tasks = tasks
        self.counts = views.counts(run)
        self.warnings = tuple(views.warnings(run))
        self.error = views.first_error(run)
        self._make_document = document

    def __repr__(self) -> str:
        return f"<Result {self.run_id} {self.state}>"

    @cached_property
    def document(self) -> dict[str, Any]:
        """The document of `show --json`; made when it is first asked for."""
        return self._make_document()

    def raise_for_failure(self) -> None:
        """RunFailed unless the run succeeded."""
        if not self.ok:
            detail = f": {self.error['task']}: {self.error['type']}: {self.error['message']}" if self.error else ""
            raise RunFailed(f"run {self.run_id} ended {self.state}{detail}")


class Run:
    """A run, living or recorded. Waiting for it never stops it."""

    def __init__(
        self,
        run_id: str,
        adapters: Adapters,
        driver: Driver | None,
        ended: anyio.Event | None,
        failure: Callable[[], Exception | None],
        go_on: Callable[[], Awaitable[Run]],
    ) -> None:
        self.id = run_id
        self._adapters = adapters
        self._driver = driver
        self._ended = ended
        self._failure = failure
        self._go_on = go_on

    def __repr__(self) -> str:
        return f"<Run {self.id}>"

    async def wait(self, timeout: float | None = None) -> Result:  # noqa: ASYNC109  # the contract's own keyword
        """The result once nothing can go on by itself; TimeoutError after `timeout` seconds.

        Raises StorageFailing or StateDamaged where the run could not be recorded.
        """
        if self._ended is not None:
            with anyio.fail_after(timeout):
                await self._ended.wait()
        failure = self._failure()
        if failure is not None:
            raise failure
        state = self._driver.run if self._driver is not None else await self._state()
        return await self._result(state)

    async def result(self, task: str) -> Any:
        """What `task` returned, once it has ended; RunFailed if it did not end well."""
        if self._driver is not None and task not in self._driver.run.shape.index:
            raise BadRequest(f"run {self.id} has no task {task}")
        async for event in self.events():
            if event.get("task") == task and self._task_ended(task):
                break
        state = self._driver.run if self._driver is not None else await self._state()
        if task not in state.shape.index:
            raise BadRequest(f"run {self.id} has no task {task}")
        found = state.task(task)
        if found.state not in s.OK:
            sentence = found.reason.sentence if found.reason else found.state
            raise RunFailed(f"task {task} of run {self.id} ended {found.state}: {sentence}")
        return await results.load(found.result, self._adapters.results)

    async def events(self, after: int = 0) -> AsyncIterator[RunEvent]:
        """Every durable event with `seq > after`, then each new one, until the run is still."""
        seen = after
        driver = self._driver
        queue = _Queue() if driver is not None else None
        if driver is not None and queue is not None:
            driver.stream.add(queue)
        try:
            async for envelope in self._adapters.journal.read(self.id, after):
                seen = envelope.seq
                yield event_line(envelope)
            while queue is not None and self._ended is not None and driver is not None:
                for envelope in await queue.take(self._ended):
                    if envelope.seq > seen:
                        seen = envelope.seq
                        yield event_line(envelope)
                if self._ended.is_set() and not queue.waiting:
                    break
        finally:
            if driver is not None and queue is not None:
                driver.stream.remove(queue)

    async def status(self) -> str:
        """The run's state as `show` says it: of one that goes on elsewhere, as it would be with nobody there.

        `new` where nothing of it is on record, since whoever made it died.
        """
        state = self._driver.run if self._driver is not None else await self._state()
        return (
            state.state
            if state.state == s.RUN_NEW
            else run_status(state, owned=self._ended is not None and not self._ended.is_set())
        )

    async def is_kept(self) -> bool:
        """Whether nothing is left of it but services that are kept always."""
        return is_kept(self._driver.run if self._driver is not None else await self._state())

    async def recorded(self) -> None:
        """Return when all that has happened so far is durable, where the run goes on here. Raises StorageFailing."""
        if self._driver is not None:
            await self._driver.recorded()

    async def cancel(self, reason: str | None = None) -> None:
        """Ask for the run to stop, and return when that is durable; it ends as cancelled."""
        driver = self._living()
        said = await secrecy.typed_to(driver, reason=reason or "")
        driver.cancel(said["reason"], "host")
        await driver.recorded()

    async def pause(self) -> None:
        """Start nothing new; what runs goes on to its end, then the run is still and resumable."""
        driver = self._living()
        driver.pause()
        await driver.recorded()

    async def resume(self) -> None:
        """Go on after a pause or an interruption; returns when that is durable, and `wait` waits anew.

        A run that goes on or has ended stays as it is. StateLocked names a living owner elsewhere.
        """
        vars(self).update(vars(await self._go_on()))

    async def stop(self, task: str) -> None:
        """Stop a service of this run and return once that is durable: it has done what it was begun for.

        BadRequest where it does not serve here.
        """
        driver = self._living()
        if task not in driver.run.shape.index:
            raise BadRequest(f"run {self.id} has no task {task}")
        driver.servings.stop(task)
        async for _ in self.events():
            if driver.run.task(task).state != s.SERVING:
                return

    def stop_services(self) -> bool:
        """Stop the services where nothing but them is left of the run; False where anything is."""
        driver = self._driver
        return driver is not None and not driver.at_rest and driver.servings.stop_all()

    def interrupt(self) -> None:
        """Stop what runs and start nothing more; the run ends here, and can be resumed anywhere."""
        if self._driver is not None and self._ended is not None and not self._ended.is_set():
            self._driver.interrupt()

    async def snapshot(self) -> dict[str, Any]:
        """The document of `show --json`, as the run stands now."""
        state = self._driver.run if self._driver is not None else await self._state()
        return self._document(state)

    # --- within ------------------------------------------------------------------------------------------

    def _living(self) -> Driver:
        if self._driver is None or (self._ended is not None and self._ended.is_set()):
            raise BadRequest(f"run {self.id} is not going on here")
        return self._driver

    def _task_ended(self, task: str) -> bool:
        return self._driver is None or self._driver.run.task(task).state in s.ENDED

    async def _state(self) -> RunState:
        definition = await self._adapters.journal.definition(self.id)
        state = RunState(self.id, definition.spec)
        async for envelope in self._adapters.journal.read(self.id):
            state.apply(envelope.event, envelope.at)
        return state

    async def _folder(self) -> Path:
        """The pipeline's folder, below which its outputs are."""
        if self._driver is not None:
            return self._driver.program.folder
        return Path((await self._adapters.journal.definition(self.id)).folder)

    def _document(self, state: RunState) -> dict[str, Any]:
        folder = self._adapters.run_folder(self.id)
        return run_document(
            state,
            owned=self._ended is not None and not self._ended.is_set(),
            state_dir=self._adapters.state_dir,
            log_of=lambda task, attempt: str(log_path(folder, task, attempt)),
        )

    async def _result(self, state: RunState) -> Result:
        ended = {spec.name: task for spec, task in state.own()}
        values = {
            name: await results.load(task.result, self._adapters.results)
            for name, task in ended.items()
            if task.result is not None and results.is_apart(task.result)
        }
        return Result(state, _Tasks(ended, values, await self._folder()), partial(self._document, state))


def event_line(envelope: Envelope) -> RunEvent:
    """An event as users see it."""
    return RunEvent(msgspec.json.decode(public(envelope)))


class _Queue:
    """A follower that keeps what it is told until somebody takes it."""

    def __init__(self) -> None:
        self.waiting: list[Envelope] = []
        self._news = anyio.Event()

    async def record(self, envelopes: Sequence[Envelope]) -> None:
        """Keep them."""
        self.waiting.extend(envelopes)
        self._news.set()

    def signal(self, signal: Signal) -> None:
        """Events only."""

    async def take(self, ended: anyio.Event) -> list[Envelope]:
        """What has come; waits for the first, or for the run to end."""
        if not self.waiting and not ended.is_set():
            self._news = anyio.Event()
            async with anyio.create_task_group() as group:

                async def until(event: anyio.Event) -> None:
                    await event.wait()
                    group.cancel_scope.cancel()

                group.start_soon(until, self._news)
                group.start_soon(until, ended)
        taken, self.waiting = self.waiting, []
        return taken
