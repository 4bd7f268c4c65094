"""What becomes of a task whose end nobody knows: a person says it, or the task's own `reconcile`.

"Succeeded" is believed only with what the task declared: its outputs are looked at, hashed and
synced as after any other success, before the answer is recorded.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread

from flowd.authoring.binding import reconcile_key
from flowd.core import states as s
from flowd.core.errors import BadRequest, StorageFailing
from flowd.core.events import Artifact
from flowd.core.expressions import ExpressionError
from flowd.core.spec import TaskSpec
from flowd.core.stimuli import Resolved
from flowd.engine import results, secrecy
from flowd.engine.channel import AttemptChannel
from flowd.engine.files import MissingOutput, collect

if TYPE_CHECKING:
    from flowd.engine.driver import Driver

PATIENCE = timedelta(minutes=1)
"""How long a `reconcile` may think, where its task has no timeout."""


async def resolve(driver: Driver, task: str, verdict: str, *, by: str = "", value: Any = None) -> None:
    """Record the verdict on an uncertain task; `value` is the result of one that succeeded.

    Raises BadRequest where the task is not uncertain, or did not leave what it declares.
    """
    if verdict not in s.RESOLUTIONS:
        raise BadRequest(f"{verdict} is no verdict; write one of {', '.join(s.RESOLUTIONS)}")
    if task not in driver.run.shape.index:
        raise BadRequest(f"run {driver.run.id} has no task {task}")
    state = driver.run.task(task).state
    if state != s.UNCERTAIN:
        raise BadRequest(f"task {task} of run {driver.run.id} is {state}, not uncertain: there is nothing to resolve")
    if verdict == "succeeded":
        said = await secrecy.typed_to(driver, value=value)
        answer = await _success(driver, task, said["value"], by)
    else:
        answer = Resolved(task=task, verdict=verdict, by=by)
    driver.tell(answer)


async def reconcile(driver: Driver) -> None:
    """Ask the `reconcile` of every uncertain task that has one; what it cannot tell is left to a person."""
    for spec, task in list(zip(driver.run.shape.specs, driver.run.tasks, strict=True)):
        key = reconcile_key(spec.name)
        if task.state != s.UNCERTAIN or spec.reconcile is None or key not in driver.program.functions:
            continue
        try:
            answer = await _asked(driver, spec, task.attempt, key)
            verdict, value = _verdict(answer)
            if verdict is not None:
                await resolve(driver, spec.name, verdict, by="reconcile", value=value)
        except StorageFailing:
            raise
        except Exception as error:  # noqa: BLE001  # whatever the user's code raises: it could not tell
            channel = _channel(driver, spec.name, task.attempt)
            channel.log("warning", "reconcile could not tell what became of it", {"error": repr(error)})


async def _asked(driver: Driver, spec: TaskSpec, attempt: int, key: str) -> Any:
    function = driver.program.functions[key]
    values = await driver.values(spec)
    work = driver.survey.resolver.question(
        spec,
        values,
        attempt=attempt,
        run_folder=driver.folder,
        function=function,
        binding=driver.program.bindings[key],
        secrets=await secrecy.values(driver.services.adapters, driver.program, spec),
    )
    work.redactions = driver.services.adapters.secrecy.forms
    from flowd.authoring.resolve import is_async

    executor = driver.services.adapters.executors["async" if is_async(function) else "thread"]
    with anyio.fail_after((spec.timeout or PATIENCE).total_seconds()):
        return await executor.run(work, _channel(driver, spec.name, attempt))


def _channel(driver: Driver, task: str, attempt: int) -> AttemptChannel:
    return AttemptChannel(driver.stream, task, attempt, driver.now, driver.services.adapters.secrecy)


def _verdict(answer: Any) -> tuple[str | None, Any]:
    """done, not done or unknown; `{"done": True, "result": …}` brings the result along."""
    value = None
    if isinstance(answer, dict) and answer.keys() <= {"done", "result"}:
        answer, value = answer.get("done"), answer.get("result")
    words = {True: "succeeded", "done": "succeeded", False: "rerun", "not done": "rerun", None: None, "unknown": None}
    if not isinstance(answer, bool | str | None) or answer not in words:
        raise TypeError(f"it answered {answer!r}; the answers are True, False and None, or done, not done and unknown")
    return words[answer], value


async def _success(driver: Driver, task: str, value: Any, by: str) -> Resolved:
    number = driver.run.shape.index[task]
    spec = driver.run.shape.specs[number]
    survey = driver.survey
    try:
        prepared = survey.resolver.written(spec, await driver.values(spec))
        artifacts, parts = tuple[Artifact, ...](), driver.run.task(task).parts
        if prepared.outputs:
            threads = driver.services.threads
            artifacts = await anyio.to_thread.run_sync(collect, survey.files, prepared.outputs, {}, limiter=threads)
            parts = await anyio.to_thread.run_sync(survey.as_left, number, prepared, parts, artifacts, limiter=threads)
    except (MissingOutput, ExpressionError) as error:
        raise BadRequest(
            f"task {task} cannot have succeeded: {error}; put it in place, or resolve it as failed or rerun"
        ) from error
    value, _ = secrecy.hidden_result(value, driver.services.adapters.secrecy)
    return Resolved(
        task=task,
        verdict="succeeded",
        by=by,
        result=await results.store(value, driver.services.adapters.results),
        outputs=artifacts,
        parts=parts,
    )
