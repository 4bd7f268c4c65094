"""What becomes of a task whose end nobody knows: a person says it, or the task's own `reconcile`.

"Succeeded" is believed only with what the task declared: its outputs are looked at, hashed and
synced as after any other success, before the answer is recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio.to_thread

from flowd.core import states as s
from flowd.core.errors import BadRequest
from flowd.core.expressions import ExpressionError
from flowd.core.stimuli import Resolved
from flowd.engine import results
from flowd.engine.files import MissingOutput, collect

if TYPE_CHECKING:
    from flowd.engine.driver import Driver

VERDICTS = ("succeeded", "failed", "rerun")


async def resolve(driver: Driver, task: str, verdict: str, *, by: str = "", value: Any = None) -> None:
    """Record the verdict on an uncertain task; `value` is the result of one that succeeded.

    Raises BadRequest where the task is not uncertain, or did not leave what it declares.
    """
    if verdict not in VERDICTS:
        raise BadRequest(f"{verdict} is no verdict; write one of {', '.join(VERDICTS)}")
    if task not in driver.run.shape.index:
        raise BadRequest(f"run {driver.run.id} has no task {task}")
    state = driver.run.task(task).state
    if state != s.UNCERTAIN:
        raise BadRequest(f"task {task} of run {driver.run.id} is {state}, not uncertain: there is nothing to resolve")
    if verdict == "succeeded":
        answer = await _success(driver, task, value, by)
    else:
        answer = Resolved(task=task, verdict=verdict, by=by)
    driver.tell(answer)


async def _success(driver: Driver, task: str, value: Any, by: str) -> Resolved:
    number = driver.run.shape.index[task]
    spec = driver.run.shape.specs[number]
    survey = driver.survey
    try:
        prepared = survey.resolver.written(spec, await driver.values(spec))
        before = [None] * len(prepared.outputs)
        threads = driver.services.threads
        artifacts = await anyio.to_thread.run_sync(collect, survey.files, prepared.outputs, before, limiter=threads)
    except (MissingOutput, ExpressionError) as error:
        raise BadRequest(
            f"task {task} cannot have succeeded: {error}; put it in place, or resolve it as failed or rerun"
        ) from error
    return Resolved(
        task=task,
        verdict="succeeded",
        by=by,
        result=await results.store(value, driver.services.adapters.results),
        outputs=artifacts,
        parts=survey.as_left(number, driver.run.task(task).parts, artifacts),
    )
