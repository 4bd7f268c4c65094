"""What people and programs may ask of a daemon, whatever they ask it through.

House rules of this room. Everything is asked by somebody, whose name goes into the run's journal. A run
that another process owns is asked through its inbox, as commands do; it makes no difference to who asks.
What has ended is read once: the newest documents are kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import anyio

from flowd.core import states as s
from flowd.core.errors import BadRequest, FlowdError, NoSuchRun, StateLocked
from flowd.core.views import moment
from flowd.daemon.catalogue import Catalogue
from flowd.daemon.planner import Planner
from flowd.engine.engine import Engine
from flowd.engine.handle import Run
from flowd.ports.archive import Archive, Seen
from flowd.ports.inbox import Request

SUMMARY: Final = ("run", "pipeline", "state", "exit_code", "started", "ended", "duration_s", "counts", "trigger")
MOST_LISTED: Final = 200
_KEPT: Final = 2_000
_MOST_LOOKED_AT: Final = 2_000
_CHUNK: Final = 64 * 1024
_LOG_S: Final = 0.3


class Control:
    """Everything that may be asked. `new_request` makes the id of a request to another process."""

    def __init__(
        self, engine: Engine, archive: Archive, catalogue: Catalogue, planner: Planner, new_request: Callable[[], str]
    ) -> None:
        self._engine = engine
        self._archive = archive
        self._catalogue = catalogue
        self._planner = planner
        self._new_request = new_request
        self._ended: OrderedDict[str, dict[str, Any]] = OrderedDict()

    # --- runs ------------------------------------------------------------------------------------------------

    async def start(
        self,
        pipeline: str,
        tasks: Sequence[str] = (),
        *,
        params: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        force: bool = False,
        by: str,
    ) -> tuple[dict[str, Any], bool]:
        """Begin a run; its document, and whether it is new: a known `run_id` gives the run that has it.

        Raises BadRequest, BadParameters or BadPipeline before anything is written.
        """
        found = self._catalogue.get(pipeline)
        known = run_id is not None and await self._exists(run_id)
        run = await self._engine.start(
            found, *tasks, params=params, run_id=run_id, force=force, trigger={"kind": "api", "by": by}
        )
        await run.recorded()
        return await self.run(run.id), not known

    async def runs(
        self, cursor: str | None = None, limit: int = 50, pipeline: str | None = None, state: str | None = None
    ) -> dict[str, Any]:
        """A page of runs, newest first, and the cursor of the next one. BadRequest for a cursor that leads nowhere."""
        ids = await anyio.to_thread.run_sync(self._archive.runs)
        if cursor is not None:
            if cursor not in ids:
                raise BadRequest(f"the cursor {cursor} leads nowhere any more; leave it out, and begin anew")
            ids = ids[ids.index(cursor) + 1 :]
        found: list[dict[str, Any]] = []
        following = None
        for number, run in enumerate(ids):
            if len(found) == limit or number == _MOST_LOOKED_AT:
                following = ids[number - 1]
                break
            row = await self._summary(run)
            if row is not None and pipeline in {None, row.get("pipeline")} and state in {None, row["state"]}:
                found.append(row)
        return {"runs": found, "next": following}

    async def run(self, run: str) -> dict[str, Any]:
        """The document of `show --json`. NoSuchRun, StateDamaged."""
        return (await self._archive.look(run)).document

    async def cancel(self, run: str, reason: str, by: str) -> dict[str, Any]:
        """Stop a run for good; its document."""
        seen = await self._archive.look(run)
        if seen.state.state in s.RUN_ENDED:
            raise BadRequest(f"run {run} has already {seen.state.state}")
        request = Request(id=self._new_request(), kind="cancel", by=by, reason=reason)
        return await self._told(run, request, lambda: self._engine.cancel(run, reason, by))

    async def pause(self, run: str, by: str) -> dict[str, Any]:
        """Start nothing new in a run; its document."""
        request = Request(id=self._new_request(), kind="pause", by=by)
        return await self._told(run, request, lambda: self._engine.pause(run, by))

    async def resume(self, run: str, by: str) -> dict[str, Any]:
        """Go on with a run; its document."""
        seen = await self._archive.look(run)
        if seen.state.state == s.RUN_CANCELLED:
            raise BadRequest(f"run {run} was cancelled; `retry` runs what is left of it")
        request = Request(id=self._new_request(), kind="resume", by=by)
        return await self._told(run, request, lambda: self._engine.resume(run, by=by))

    async def retry(
        self, run: str, tasks: Sequence[str], *, downstream: bool, failed_items: bool, by: str
    ) -> dict[str, Any]:
        """Run tasks again, or all that did not end well; the run's document."""
        request = Request(
            id=self._new_request(),
            kind="retry",
            by=by,
            tasks=tuple(tasks),
            downstream=downstream,
            failed_items=failed_items,
        )

        async def here() -> Run:
            return await self._engine.retry(run, *tasks, downstream=downstream, failed_items=failed_items, by=by)

        return await self._told(run, request, here)

    # --- tasks -----------------------------------------------------------------------------------------------

    async def approve(self, run: str, task: str, comment: str, values: Mapping[str, Any], by: str) -> dict[str, Any]:
        """Say yes to a task that waits for an answer; the run's document."""
        request = self._of_task("approve", task, by, comment=comment, values=dict(values))

        async def here() -> Run:
            return await self._engine.approve(run, task, comment=comment, values=values, by=by)

        return await self._told(run, request, here)

    async def reject(self, run: str, task: str, comment: str, back_to: str, by: str) -> dict[str, Any]:
        """Say no to a task that waits for an answer; the run's document."""
        request = self._of_task("reject", task, by, comment=comment, back_to=back_to)

        async def here() -> Run:
            return await self._engine.reject(run, task, comment=comment, back_to=back_to, by=by)

        return await self._told(run, request, here)

    async def resolve(self, run: str, task: str, verdict: str, result: Any, by: str) -> dict[str, Any]:
        """Say what became of an uncertain task; the run's document."""
        request = self._of_task("resolve", task, by, verdict=verdict, result=result)

        async def here() -> Run:
            return await self._engine.resolve(run, task, verdict, result=result, by=by)

        return await self._told(run, request, here)

    async def stop(self, run: str, task: str, by: str) -> dict[str, Any]:
        """Stop a service; the run's document."""
        await self._check_task(run, task)

        async def here() -> Run:
            found = await self._engine.get(run)
            await found.stop(task)
            return found

        return await self._told(run, self._of_task("stop", task, by), here)

    async def log(
        self, run: str, task: str, attempt: int | None = None, *, follow: bool = False
    ) -> AsyncIterator[bytes]:
        """What an attempt (the newest) wrote; with `follow` until the task has ended. NoSuchRun, BadRequest."""
        seen = await self._check_task(run, task)
        chosen = attempt or seen.state.task(task).attempt
        if chosen < 1 or chosen > seen.state.task(task).attempt:
            newest = seen.state.task(task).attempt
            raise BadRequest(
                f"task {task} of run {run} has no attempt {chosen}; the newest is {newest}"
                if newest
                else f"task {task} of run {run} has not begun"
            )
        return self._pieces(run, task, chosen, follow=follow)

    async def _pieces(self, run: str, task: str, attempt: int, *, follow: bool) -> AsyncIterator[bytes]:
        path = self._archive.log(run, task, attempt)
        offset = 0
        while True:
            going_on = follow and await self._goes_on(run, task, attempt)
            while piece := await anyio.to_thread.run_sync(_read, path, offset):
                offset += len(piece)
                yield piece
            if not going_on:
                return  # this look came after the attempt had ended
            await anyio.sleep(_LOG_S)

    async def _goes_on(self, run: str, task: str, attempt: int) -> bool:
        seen = await self._archive.look(run)
        found = seen.state.task(task)
        return bool(seen.owner) and found.attempt == attempt and found.state in s.LIVE

    # --- all else --------------------------------------------------------------------------------------------

    def pipelines(self) -> list[dict[str, Any]]:
        """Every pipeline's file, with what is wrong with it."""
        return self._catalogue.documents()

    def schedules(self) -> list[dict[str, Any]]:
        """Every schedule."""
        return self._planner.schedules()

    async def pause_schedule(self, name: str, by: str) -> dict[str, Any]:
        """Have a schedule fire no more."""
        return await self._planner.pause(name, by)

    async def resume_schedule(self, name: str, by: str) -> dict[str, Any]:
        """Have a schedule fire again."""
        return await self._planner.resume(name, by)

    def limits(self) -> dict[str, Any]:
        """The limits of this engine, and who waits."""
        return {"limits": self._engine.limits(), "waiting": self._engine.waiting()}

    async def services(self) -> list[dict[str, Any]]:
        """The services of all runs that go on, in whatever process."""
        found = []
        for run in await anyio.to_thread.run_sync(self._living):
            seen = await self._archive.look(run)
            for spec, task in seen.state.own():
                if spec.service is not None and task.state not in s.ENDED:
                    known = task.service
                    found.append(
                        {
                            "run": run,
                            "pipeline": seen.state.spec.name,
                            "task": spec.name,
                            "state": task.state,
                            "url": (known.url or None) if known is not None else None,
                            "since": moment(known.since) if known is not None else None,
                            "restarts": known.restarts if known is not None else 0,
                        }
                    )
        return found

    async def artifacts(self, run: str) -> list[dict[str, Any]]:
        """The outputs of a run's tasks, each with its task."""
        document = await self.run(run)
        return [{"task": name, **output} for name, task in document["tasks"].items() for output in task["outputs"]]

    # --- within ----------------------------------------------------------------------------------------------

    def _living(self) -> list[str]:
        return [run for run in self._archive.runs() if run not in self._ended and self._is_owned(run)]

    def _is_owned(self, run: str) -> bool:
        try:
            return self._archive.is_owned(run)
        except FlowdError:  # removed meanwhile, or damaged
            return False

    async def _exists(self, run: str) -> bool:
        try:
            seen = await self._archive.look(run)
        except NoSuchRun:
            return False
        return seen.state.state != s.RUN_NEW

    async def _summary(self, run: str) -> dict[str, Any] | None:
        if (known := self._ended.get(run)) is not None:
            self._ended.move_to_end(run)
            return known
        try:
            seen = await self._archive.look(run)
        except NoSuchRun:
            return None  # removed in this very moment
        except FlowdError as error:  # one damaged run hides no other
            return {"run": run, "state": "damaged", "error": str(error)}
        row = {name: seen.document[name] for name in SUMMARY}
        if seen.state.state in s.RUN_ENDED and not seen.owner:
            self._ended[run] = row
            while len(self._ended) > _KEPT:
                self._ended.popitem(last=False)
        return row

    def _of_task(self, kind: str, task: str, by: str, **more: Any) -> Request:
        return Request(id=self._new_request(), kind=kind, by=by, tasks=(task,), **more)

    async def _check_task(self, run: str, task: str) -> Seen:
        """The run as it stands. BadRequest where it has no such task, so that no name leads to another file."""
        seen = await self._archive.look(run)
        if task not in seen.state.shape.index:
            raise BadRequest(f"run {run} has no task {task}")
        return seen

    async def _told(self, run: str, request: Request, here: Callable[[], Awaitable[Run]]) -> dict[str, Any]:
        """Have it done here, or ask whoever owns the run; the run's document once that is durable."""
        self._ended.pop(run, None)
        try:
            found = await here()
            await found.recorded()
        except StateLocked as held:
            answer = await self._archive.ask(run, request)
            if answer is None or answer.again:
                raise StateLocked(f"{held}; it did not answer in time") from held
            if answer.error:
                raise BadRequest(answer.error) from held
        return await self.run(run)


def _read(path: Any, offset: int) -> bytes:
    """The next piece of a file; empty at its end, or where it is not there yet."""
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(_CHUNK)
    except FileNotFoundError:
        return b""
