"""Tasks that are carried out for each item of a list: what the list holds, and what its items have left.

House rules of this room. Neither step holds anything of the limits: an item does while it runs. The list
is kept, and on record, before an item begins, and what its items are given is read from there.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import msgspec

from flowd.core import states as s
from flowd.core.errors import FlowdError, StorageFailing, cause, is_of_storage
from flowd.core.events import Artifact, Error, Stored
from flowd.core.expressions import ExpressionError, compile_expression, references_of, render_value
from flowd.core.fanout import Fan, cell_keys, default_keys, first_twice, item_spec, key_problem
from flowd.core.items import is_well
from flowd.core.spec import Foreach, TaskSpec
from flowd.core.stimuli import CouldNotBegin, Expanded, Gathered
from flowd.engine import results
from flowd.engine.files import make_folders, sync

if TYPE_CHECKING:
    from flowd.engine.driver import Driver

FAILED_ITEMS = "failed.jsonl"
MOST_KEY_BYTES = 8 * 1024 * 1024
"""The keys of a list stand in one record."""
MOST_OUTPUTS = 20_000
"""Of so many outputs of its items a task tells; of more it tells none, and its result alone."""
_NAMED = 5
_encode = msgspec.json.Encoder(enc_hook=str).encode


class BadItems(FlowdError):
    """A list that a task cannot be carried out for: the message says what is wrong with it."""


class FanWork:
    """The expansion of a task, or the gathering of what its items left, while it lasts; as an attempt to the driver."""

    def __init__(self, driver: Driver, number: int, scope: anyio.CancelScope, since: float) -> None:
        self.since = since
        self.cause: str | None = None
        self.hold: int | None = None  # it holds nothing of what engines share
        self._driver = driver
        self._number = number
        self._scope = scope

    async def perform(self) -> None:
        """Expand a task that is ready, or gather what its items left. Raises StorageFailing."""
        driver, number = self._driver, self._number
        spec = driver.run.shape.specs[number]
        try:
            if driver.run.tasks[number].state == s.EXPANDED:
                await _gather(driver, number)
            else:
                await _expand(driver, number, spec)
        except asyncio.CancelledError:
            if self.cause is None:
                raise
        except StorageFailing:
            raise
        except (ExpressionError, OSError, FlowdError) as error:
            if isinstance(error, OSError) and is_of_storage(error):
                raise StorageFailing(f"{error.filename}: {cause(error)}") from error
            told = Error(type=type(error).__name__, message=driver.services.adapters.secrecy.hide(str(error)))
            driver.tell(CouldNotBegin(spec.name, told, allowed=spec.allow_failure is True))

    def stop(self, cause: str) -> None:
        """End it: it is done again where the run goes on."""
        if self.cause is None:
            self.cause = cause
            self._scope.cancel()

    def bound_grace(self, within: timedelta) -> None:
        """It needs none."""


# --- before its items begin --------------------------------------------------------------------------


async def _expand(driver: Driver, number: int, spec: TaskSpec) -> None:
    values = await driver.values(spec)
    verdict = driver.survey.conditions.judge(number, values)
    if verdict is not None:
        driver.tell(verdict)
        return
    if spec.approve is not None and await driver.approvals.stands(number, values):
        return  # it is asked about anew
    stored: Stored | None = None
    if spec.foreach is not None:
        items, keys = await _listed(driver, spec, spec.foreach)
        stored = await results.store(items, driver.services.adapters.results)
        items = await results.load(stored, driver.services.adapters.results)
    else:
        items, keys = list(spec.matrix), cell_keys(spec.matrix, spec.axes)
    if spec.outputs:
        await _in_thread(driver, _refuse_shared_outputs, driver, spec, items, keys)
    if driver.run.tasks[number].state != s.PENDING:
        return
    driver.survey.resolver.lists[spec.name] = items
    driver.tell(Expanded(spec.name, len(items), keys, stored))


async def _listed(driver: Driver, spec: TaskSpec, foreach: Foreach) -> tuple[list[Any], tuple[str, ...]]:
    names = {name for place, name, *_ in (one for one in _references(foreach) if len(one) > 1) if place == "tasks"}
    found = {
        name: await results.load(driver.run.task(name).result, driver.services.adapters.results)
        for name in sorted(names & driver.run.shape.index.keys())
    }
    scope = driver.survey.resolver.scope(spec, found)
    items = compile_expression(foreach.over).evaluate(scope) if isinstance(foreach.over, str) else foreach.over
    if not isinstance(foreach.over, str):
        items = render_value(items, scope)
    if not isinstance(items, list | tuple):
        kind = "null" if items is None else f"a {type(items).__name__}"
        raise BadItems(f"`foreach` needs a list, and `{foreach.over}` is {kind}")
    keys = await _in_thread(driver, _keys, items, foreach, scope)
    return list(items), keys


def _references(foreach: Foreach) -> set[tuple[str, ...]]:
    over = compile_expression(foreach.over).references if isinstance(foreach.over, str) else references_of(foreach.over)
    return {*over, *(compile_expression(foreach.key).references if foreach.key else ())}


def _keys(items: Sequence[Any], foreach: Foreach, scope: Mapping[str, Any]) -> tuple[str, ...]:
    """What the items are called by; BadItems for what is no key, and for two that are the same."""
    if not foreach.key:
        keys = default_keys(items)
        return keys if sum(map(len, keys)) < MOST_KEY_BYTES else ()
    expression, keys_ = compile_expression(foreach.key), []
    for index, item in enumerate(items):
        key = expression.evaluate({**scope, "item": item, "index": index})
        if problem := key_problem(key):
            raise BadItems(
                f"the key of item {index}, `{foreach.key}`, {problem}; write an expression that is short and plain"
            )
        keys_.append(str(key))
    if (twice := first_twice(keys_)) is not None:
        first, second = twice
        raise BadItems(
            f"items {first} and {second} have the same key `{keys_[first]}`; "
            f"write a `key` that tells them apart (it is `{foreach.key}`)"
        )
    if sum(map(len, keys_)) > MOST_KEY_BYTES:
        raise BadItems(f"the keys of {len(items)} items are too long for one record; write a shorter `key`, or none")
    return tuple(keys_)


def _refuse_shared_outputs(driver: Driver, spec: TaskSpec, items: Sequence[Any], keys: Sequence[str]) -> None:
    """BadItems where two items write one path. Blocks."""
    resolver, writers = driver.survey.resolver, dict[str, str]()
    for index, item in enumerate(items):
        key = keys[index] if keys else str(index)
        one = item_spec(spec, key)
        try:
            outputs = resolver.outputs_of(one, {"matrix" if spec.matrix else "item": item, "index": index})
        except ExpressionError:
            return  # it depends on a result: found when its turn comes
        for _, written in outputs:
            place = driver.survey.files.place(written)
            if writers.setdefault(place, key) != key:
                raise BadItems(
                    f"{spec.name}[{writers[place]}] and {spec.name}[{key}] both write {written}; "
                    f"put {{{{ {'matrix' if spec.matrix else 'item'} }}}} or {{{{ index }}}} into the path"
                )


async def load_list(driver: Driver, task: str) -> None:
    """Read the list that a task is carried out for, unless it is at hand."""
    lists = driver.survey.resolver.lists
    if task not in lists:
        state, spec = driver.run.task(task), driver.run.shape.specs[driver.run.shape.index[task]]
        items = await results.load(state.items, driver.services.adapters.results)
        lists[task] = list(spec.matrix) if spec.matrix else items or []


# --- once its items have ended -----------------------------------------------------------------------


async def _gather(driver: Driver, number: int) -> None:
    run = driver.run
    fan = run.fans[number]
    spec = fan.template
    stored = await _result(driver, fan)
    outputs = [one for item in fan.numbers() if run.tasks[item].state in s.OK for one in run.tasks[item].outputs]
    if len(outputs) > MOST_OUTPUTS:
        outputs = []
    failed = [place for place in range(fan.count) if not is_well(run.tasks[fan.base + place])]
    if failed:
        await load_list(driver, spec.name)
        lines = b"".join(_failed_line(driver, fan, place) for place in failed)
        outputs.append(await _in_thread(driver, _write, driver.folder, spec.name, lines))
    if run.tasks[number].state == s.EXPANDED:
        driver.tell(
            Gathered(task=spec.name, result=stored, outputs=tuple(outputs), failed=_in_words(driver, fan, failed))
        )


async def _result(driver: Driver, fan: Fan) -> Stored | None:
    """The results in the order of the items; joined as they are kept, since there may be very many."""
    kept, pieces = driver.services.adapters.results, list[bytes]()
    ends = [task.result if task.state in s.OK else None for task in driver.run.tasks[fan.base : fan.base + fan.count]]
    if any(end is not None and end.codec != "json" for end in ends):
        return await results.store([await results.load(end, kept) for end in ends], kept)
    for end in ends:
        if end is None:
            pieces.append(b"null")
        else:
            inline = end.inline
            pieces.append(bytes(inline) if isinstance(inline, msgspec.Raw) else await kept.get(end.digest, end.codec))
    return await results.store_json(b"[%b]" % b",".join(pieces), kept)


def _failed_line(driver: Driver, fan: Fan, place: int) -> bytes:
    task, items = driver.run.tasks[fan.base + place], driver.survey.resolver.lists[fan.template.name]
    what = "matrix" if fan.template.matrix else "item"
    error: Any = None
    if task.error is not None:
        error = {"type": task.error.type, "message": task.error.message}
    elif task.reason is not None:
        error = {"type": task.state, "message": task.reason.sentence}
    line = {"key": fan.key(place), "index": place, what: items[place], "error": error}
    return bytes(_encode(line)) + b"\n"


def _write(folder: Path, task: str, data: bytes) -> Artifact:
    """The list of the items that failed, on disk. Blocks."""
    path = folder / "items" / task / FAILED_ITEMS
    make_folders(path.parent)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(data)
    os.replace(unfinished, path)
    sync(path, folder)
    digest = hashlib.sha256(data).hexdigest()
    return Artifact(path=str(path), size=len(data), digest=digest, mtime_ns=path.stat().st_mtime_ns, checkpoint=False)


def _in_words(driver: Driver, fan: Fan, failed: Sequence[int]) -> str:
    """The items that failed by name, before those that were stopped for it."""
    broken = [place for place in failed if driver.run.tasks[fan.base + place].state in s.BROKEN] or list(failed)
    more = f" and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
    return ", ".join(fan.key(place) for place in broken[:_NAMED]) + more


async def _in_thread(driver: Driver, call: Any, *arguments: Any) -> Any:
    return await anyio.to_thread.run_sync(call, *arguments, limiter=driver.services.threads)
