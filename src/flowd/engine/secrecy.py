"""Secrets of runs: found before anything starts, read for the attempt that uses them, kept out of what is written.

What is fresh is judged by the names of secrets and never by their values: nothing in the state
directory depends on a value, and a secret that is renewed makes nothing stale.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import msgspec

from flowd.core import states as s
from flowd.core.errors import BadPipeline, Problem
from flowd.core.events import Error
from flowd.core.expressions import references_of
from flowd.core.run import RunState
from flowd.core.secrecy import Secrecy
from flowd.core.spec import Definition, PipelineSpec, Secret, TaskSpec
from flowd.engine.results import BadResult, is_json
from flowd.ports.secrets import SecretMissing, Secrets

if TYPE_CHECKING:
    from flowd.engine.driver import Driver
    from flowd.engine.program import Program
    from flowd.engine.services import Adapters

REDACTED = "secret_redacted: the result held a secret, and is kept with *** in its place"
PATIENCE = timedelta(seconds=5)
"""How long what a person typed waits for the secrets that are to be hidden in it: whoever asks waits ten."""

_REPORTS = ("*.metrics", "*.result")


def used_by(task: TaskSpec, spec: PipelineSpec) -> tuple[str, ...]:
    """The names of the secrets that a task's attempts are given."""
    if not spec.secrets:
        return ()
    references = {*references_of(task.with_), *references_of(spec.env | task.env)}
    return tuple(sorted({access[1] for access in references if access[0] == "secrets" and len(access) > 1}))


async def check(adapters: Adapters, program: Program, tasks: Iterable[TaskSpec]) -> None:
    """Learn what can be known at once; BadPipeline (`secret_missing`) where `tasks` use one that is not there."""
    if program.spec.secrets:
        await anyio.to_thread.run_sync(_check, adapters, program, tasks)


async def enter(adapters: Adapters, program: Program, state: RunState | None, run_id: str) -> None:
    """As `check`, for a run that another owner left and whose tasks go on, where there is a `state`."""
    left = () if state is None else zip(state.shape.specs, state.tasks, strict=True)
    await check(adapters, program, [spec for spec, task in left if task.state not in s.OK])
    await anyio.to_thread.run_sync(sweep, adapters.run_folder(run_id))


def _check(adapters: Adapters, program: Program, tasks: Iterable[TaskSpec]) -> None:
    spec = program.spec
    wanted = {name: task.name for task in tasks for name in used_by(task, spec)}
    problems = []
    for name, secret in spec.secrets.items():
        try:
            value = adapters.secrets.glance(name, secret, program.folder)
        except SecretMissing as error:
            if name in wanted:
                line, column = program.place(("secrets", name)) or (None, None)
                problems.append(
                    Problem(
                        file=program.file,
                        line=line,
                        column=column,
                        key=f"secrets.{name}",
                        code="secret_missing",
                        message=str(error),
                        hint=f"task {wanted[name]} uses it",
                    )
                )
        else:
            if value is not None:
                adapters.secrecy.learn(value)
    if problems:
        raise BadPipeline(problems)


async def values(adapters: Adapters, program: Program, task: TaskSpec) -> Mapping[str, str]:
    """The secrets that an attempt of `task` is given, which are hidden from now on. SecretMissing."""
    found = {}
    for name in used_by(task, program.spec):
        found[name] = await adapters.secrets.read(name, program.spec.secrets[name], program.folder)
        adapters.secrecy.learn(found[name])
    return found


async def typed(secrets: Secrets, secrecy: Secrecy, definition: Definition, **said: Any) -> dict[str, Any]:
    """What a person typed, as it may be kept: without any secret of the pipeline that can be read now.

    One whose command or keyring does not answer in time, or that is not there, is known only if it was before.
    """

    async def learn(name: str, secret: Secret) -> None:
        with suppress(SecretMissing):
            secrecy.learn(await secrets.read(name, secret, Path(definition.folder)))

    if any(said.values()):
        with anyio.move_on_after(PATIENCE.total_seconds()):
            async with anyio.create_task_group() as group:  # a slow one keeps no other from being known
                for name, secret in definition.spec.secrets.items():
                    group.start_soon(learn, name, secret)
    return {name: secrecy.hide_in(value) for name, value in said.items()}


async def typed_to(driver: Driver, **said: Any) -> dict[str, Any]:
    """As `typed`, of what is said to a living run."""
    adapters = driver.services.adapters
    return await typed(adapters.secrets, adapters.secrecy, driver.program.definition, **said)


class Unread(dict[str, str]):
    """`secrets` of expressions where no value may be known: each stands for itself."""

    def __missing__(self, name: str) -> str:
        return f"{{{{ secrets.{name} }}}}"


def sweep(run_folder: Path) -> None:
    """Remove what commands of a dead owner's attempts reported: they wrote it themselves, secrets and all. Blocks."""
    for pattern in _REPORTS:
        for path in (run_folder / "logs").glob(pattern):
            with suppress(FileNotFoundError):
                path.unlink()


# --- what an attempt leaves ------------------------------------------------------------------------


def hidden_result(value: Any, secrecy: Secrecy) -> tuple[Any, tuple[str, ...]]:
    """A result as it may be kept, and what has to be said of that.

    A value that is no JSON is kept as a pickle, in which nothing can be replaced: BadResult.
    """
    if not secrecy or value is None:
        return value, ()
    if is_json(value):
        kept = secrecy.hide_in(value)
        return kept, () if kept == value else (REDACTED,)
    import pickle

    try:
        data = pickle.dumps(value, protocol=5)
    except Exception:  # noqa: BLE001  # said where it is stored
        return value, ()
    if secrecy.holds_bytes(data) or secrecy.holds(_text(value)):
        raise BadResult(f"the result, a {type(value).__name__}, holds a secret; leave it out, or return plain data")
    return value, ()


def _text(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  # the user's class
        return ""


def hidden_error(error: Error, secrecy: Secrecy) -> Error:
    """`error` without secrets."""
    if not secrecy:
        return error
    texts = {
        name: secrecy.hide(value) for name in error.__struct_fields__ if isinstance(value := getattr(error, name), str)
    }
    return msgspec.structs.replace(error, **texts)


def check_names(paths: Collection[str], secrecy: Secrecy) -> None:
    """BadResult where the name of a file that a task wrote holds a secret: names are on record."""
    for path in paths:
        if secrecy.holds(path):
            raise BadResult(f"the name of its output {secrecy.hide(path)} holds a secret; name the file otherwise")
