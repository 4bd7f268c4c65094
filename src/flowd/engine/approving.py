"""Questions to people: when a task's turn to ask has come, and what an answer has to pass before it counts.

A question holds no slot: it is prepared beside the attempts, and recorded with the digests of
what is shown. It stands only as long as those files, and its wording, are what they were: that is
looked at when an answer comes, and once more before the action starts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup

from flowd.authoring.params import resolve_params
from flowd.core import states as s
from flowd.core.answers import asks_nobody
from flowd.core.deciding.approvals import BY_TIMEOUT, MESSAGE, between
from flowd.core.errors import BadRequest, FlowdError, StorageFailing, cause, is_of_storage
from flowd.core.events import Artifact, Error
from flowd.core.expressions import ExpressionError
from flowd.core.reasons import because
from flowd.core.spec import Ask, TaskSpec
from flowd.core.stimuli import ApprovalAsked, ApprovalExpired, Approved, CouldNotBegin, Rejected
from flowd.core.task_state import ApprovalState
from flowd.core.views import WAITING, answer_scope, run_status
from flowd.engine import results, secrecy
from flowd.engine.files import ABSENT
from flowd.engine.survey import IF_NEEDED, Standing
from flowd.engine.timers import Timer

if TYPE_CHECKING:
    from flowd.engine.driver import Driver

MOST_ANSWERED = 64 * 1024
"""The bytes that the fields of a form may hold in all: they stand in the journal."""


class Approvals:
    """The questions of one run, each prepared in a task of its own in `group`.

    `patient`: the driver keeps a run that only waits for people.
    """

    def __init__(self, driver: Driver) -> None:
        self.group: TaskGroup | None = None
        self._driver = driver
        self.patient = driver.services.patient
        self._stays = 0
        self._busy: set[int] = set()
        self._waits: dict[int, Timer] = {}

    @property
    def busy(self) -> bool:
        """Whether a question is being prepared, an answer looked at, or silence turned into one."""
        return bool(self._busy) or self._stays > 0

    @property
    def are_all(self) -> bool:
        """Whether nothing goes on in the run but waiting for people."""
        return not self.busy and run_status(self._driver.run, owned=True) == WAITING

    @contextmanager
    def staying(self) -> Iterator[None]:
        """Let the driver not come to rest: an answer takes its time to be looked at, and then has to be acted on."""
        self._stays += 1
        try:
            yield
        finally:
            self._stays -= 1
            self._driver.go_on()

    def ask(self, number: int) -> None:
        """A task's turn has come, and a person has to answer before it may start."""
        self._begin(number, self._ask)

    def resume(self) -> None:
        """Wait for the ends of the questions that are open; those whose time is over end now."""
        for number, task in enumerate(self._driver.run.tasks):
            if task.state == s.WAITING and task.approval is not None:
                self._wait(number)

    def close(self) -> None:
        """Wait for nothing any more."""
        for timer in self._waits.values():
            timer.cancel()

    async def look(self, number: int, values: Mapping[str, Any]) -> tuple[str, tuple[Artifact, ...]]:
        """What a person would be asked now, and the files as they are. ExpressionError, OSError."""
        driver = self._driver
        message, paths = driver.survey.resolver.asked(driver.run.shape.specs[number], values)
        if not paths:
            return message, ()
        limiter = driver.services.threads
        return message, await anyio.to_thread.run_sync(self._look_at, paths, limiter=limiter)

    async def stands(self, number: int, values: Mapping[str, Any]) -> str:
        """Ask anew where what was asked about is not as it was; what differs, empty where nothing does."""
        driver, asked = self._driver, self._driver.run.tasks[number].approval
        assert asked is not None
        message, show = await self.look(number, values)
        then, now = _digests(asked.show), _digests(show)
        changed = sorted(path for path in then.keys() | now.keys() if then.get(path) != now.get(path))
        lapsed = changed[0] if changed else MESSAGE if message != asked.message else ""
        if lapsed:
            name = driver.run.shape.specs[number].name
            driver.tell(ApprovalAsked(task=name, message=message, show=show, lapsed=lapsed))
            self._wait(number)
        return "the wording of the question" if lapsed == MESSAGE else lapsed

    async def expire(self, number: int) -> None:
        """The time of a question is over: its task goes on as it says."""
        driver, spec = self._driver, self._driver.run.shape.specs[number]
        asked = driver.run.tasks[number].approval
        assert spec.approve is not None
        yes = None
        if asked is not None and spec.approve.then == "approve":
            values = resolve_params(spec.approve.form, {}, text=False, what="field", option="--set")
            yes = await _yes(driver, spec, asked, values, by=BY_TIMEOUT, comment="", at=driver.now())
        driver.tell(ApprovalExpired(task=spec.name, yes=yes))

    # --- within ------------------------------------------------------------------------------------------

    def _begin(self, number: int, act: Callable[[int], Awaitable[None]]) -> None:
        assert self.group is not None
        if number not in self._busy:
            self._busy.add(number)
            self.group.start_soon(self._act, number, act, name="flowd approval")

    async def _act(self, number: int, act: Callable[[int], Awaitable[None]]) -> None:
        driver = self._driver
        try:
            await act(number)
        except Exception as error:  # noqa: BLE001  # a defect or a dead disk ends this run, never the engine
            driver.fail(error)
        finally:
            self._busy.discard(number)
        driver.go_on()

    async def _ask(self, number: int) -> None:
        driver = self._driver
        spec = driver.run.shape.specs[number]
        try:
            values = await driver.values(spec)
            if (verdict := driver.survey.conditions.judge(number, values)) is not None:
                driver.tell(verdict)
                return
            if await found_fresh(driver, number, values):
                return
            message, show = await self.look(number, values)
            missing = next((artifact.path for artifact in show if artifact.digest == ABSENT), None)
            if missing is not None:
                raise FileNotFoundError(f"what it is to show, {missing}, is not there")
        except StorageFailing:
            raise
        except (ExpressionError, OSError, FlowdError) as error:
            if isinstance(error, OSError) and is_of_storage(error):
                raise StorageFailing(f"{error.filename}: {cause(error)}") from error
            driver.tell(CouldNotBegin(spec.name, Error(type=type(error).__name__, message=str(error))))
            return
        driver.tell(ApprovalAsked(task=spec.name, message=message, show=show))
        self._wait(number)

    def _wait(self, number: int) -> None:
        driver, task = self._driver, self._driver.run.tasks[number]
        if task.state != s.WAITING or task.approval is None or task.approval.expires_at is None:
            return
        left = (task.approval.expires_at - driver.now()).total_seconds()
        if left <= 0:
            self._begin(number, self.expire)
            return
        if number in self._waits:
            self._waits[number].cancel()
        self._waits[number] = driver.services.timers.after(left, partial(self._wait, number))

    def _look_at(self, paths: tuple[str, ...]) -> tuple[Artifact, ...]:
        files, found = self._driver.survey.files, []
        for named in paths:
            for written in files.matches(named) or [named]:
                look = files.look(files.path(written))
                digest, size = (ABSENT, 0) if look is None else (look.digest, look.size)
                found.append(Artifact(path=written, size=size, digest=digest))
        return tuple(found)


async def found_fresh(driver: Driver, number: int, values: Mapping[str, Any]) -> bool:
    """Judge a task behind one that had to run, now that its needs have ended; whether it need not run."""
    standing = driver.standings.get(number)
    if standing is None and number >= driver.run.declared and driver.run.shape.specs[number].cache:
        standing = Standing(IF_NEEDED, because("items"))  # an item: it was not there at the pass over the graph
    if standing is None or standing.action != IF_NEEDED or driver.run.tasks[number].attempt:
        return False
    threads = driver.services.threads
    verdict = await anyio.to_thread.run_sync(driver.survey.judge_one, number, values, driver.now(), limiter=threads)
    driver.standings[number] = msgspec.structs.replace(standing, reason=verdict.reason)
    if verdict.fresh:
        driver.tell(driver.survey.found(number, verdict.reason, verdict.warnings))
    return verdict.fresh


async def approve(driver: Driver, task: str, *, comment: str = "", values: Mapping[str, Any], by: str = "") -> None:
    """Record a person's yes, with the fields of the form; returns once it is durable.

    Raises BadRequest where nobody asks, or what was asked about has changed; BadParameters for the fields.
    """
    said = await secrecy.typed_to(driver, comment=comment, values=dict(values))
    number, spec, asked = await _waiting(driver, task)
    assert spec.approve is not None
    typed = resolve_params(spec.approve.form, said["values"], text=False, what="field", option="--set")
    if len(msgspec.json.encode(typed)) > MOST_ANSWERED:
        raise BadRequest(f"the fields hold over {MOST_ANSWERED // 1024} kB; write a file, and name it in one of them")
    try:
        lapsed = await driver.approvals.stands(number, await driver.values(spec))
    except (ExpressionError, OSError) as error:
        raise BadRequest(f"what {task} asks cannot be told any more: {error}") from error
    if lapsed:
        await driver.recorded()
        raise BadRequest(
            f"{lapsed} has changed since {task} asked, so the answer would stand for something else; "
            "look at it again, and answer once more"
        )
    yes = await _yes(driver, spec, asked, typed, by=by, comment=said["comment"], at=driver.now())
    driver.tell(yes)
    await _confirm(driver, number, yes)


async def reject(driver: Driver, task: str, *, comment: str = "", by: str = "", back_to: str = "") -> None:
    """Record a person's no; returns once it is durable.

    `back_to`: the task above from which on it is done again. BadRequest where nobody asks, or
    that is none of those above.
    """
    said = await secrecy.typed_to(driver, comment=comment)
    number, spec, _ = await _waiting(driver, task)
    if back_to:
        _refuse_way(driver, number, back_to)
    no = Rejected(task=spec.name, by=by, answered_at=driver.now(), comment=said["comment"], back_to=back_to)
    driver.tell(no)
    await _confirm(driver, number, no)


def _refuse_way(driver: Driver, number: int, back_to: str) -> None:
    """BadRequest where a task cannot be sent back there."""
    run, name = driver.run, driver.run.shape.specs[number].name
    above = run.shape.reach([number], down=False) - {number}
    if run.shape.index.get(back_to) not in above:
        there = [run.shape.specs[one].name for one in run.shape.order() if one in above]
        hint = f"name one of {', '.join(there[-10:])}" if there else "it needs none"
        raise BadRequest(f"{back_to} is not a task that {name} needs; {hint}")
    going_on = [n for n in between(run, run.shape.index[back_to], number) if run.tasks[n].state not in s.ENDED]
    for one in going_on:
        if one != number:
            raise BadRequest(f"{run.shape.specs[one].name} has not ended: {name} can be sent back once it has")


async def _waiting(driver: Driver, task: str) -> tuple[int, TaskSpec, ApprovalState]:
    """The question that is open; BadRequest where none is, or no longer."""
    run = driver.run
    if task not in run.shape.index:
        raise BadRequest(f"run {run.id} has no task {task}")
    number = run.shape.index[task]
    spec, known = run.shape.specs[number], run.tasks[number]
    if refused := asks_nobody(run, task):
        raise BadRequest(refused)
    asked = known.approval
    if known.state == s.WAITING and asked is not None:
        if asked.expires_at is None or driver.now() < asked.expires_at:
            return number, spec, asked
        await driver.approvals.expire(number)
        await driver.recorded()
    raise BadRequest(f"task {task} of run {run.id} waits for no answer: {_standing(driver, number)}")


def _standing(driver: Driver, number: int) -> str:
    known = driver.run.tasks[number]
    asked = known.approval
    if asked is not None and asked.state in {"approved", "rejected"}:
        at = "" if asked.answered_at is None else f" at {asked.answered_at:%Y-%m-%d %H:%M:%S} UTC"
        who = "its timeout" if asked.by == BY_TIMEOUT else asked.by or "a person"
        return f"it was {asked.state} by {who}{at}"
    sentence = f" ({known.reason.sentence})" if known.reason is not None else ""
    return f"it is {known.state.replace('_', ' ')}{sentence}"


async def _yes(
    driver: Driver,
    spec: TaskSpec,
    asked: ApprovalState,
    values: Mapping[str, Any],
    *,
    by: str,
    comment: str,
    at: datetime,
) -> Approved:
    result = None
    if isinstance(spec.action, Ask):
        given = msgspec.structs.replace(asked, by=by, comment=comment, answered_at=at, values=dict(values))
        result = await results.store(answer_scope(given), driver.services.adapters.results)
    return Approved(task=spec.name, by=by, answered_at=at, comment=comment, values=dict(values), result=result)


async def _confirm(driver: Driver, number: int, answer: Approved | Rejected) -> None:
    """Return once the answer is durable; BadRequest where something else came first."""
    await driver.recorded()
    asked = driver.run.tasks[number].approval
    if isinstance(answer, Rejected) and answer.back_to and asked is None:
        return  # it is asked anew, or about to be
    if asked is None or (asked.answered_at, asked.by) != (answer.answered_at, answer.by):
        name = driver.run.shape.specs[number].name
        raise BadRequest(f"task {name} of run {driver.run.id} waits for no answer: {_standing(driver, number)}")


def _digests(show: tuple[Artifact, ...]) -> dict[str, str]:
    return {artifact.path: artifact.digest for artifact in show}
