"""`flowd resume` and `flowd retry`: going on with a run that exists; and how a person's answer reaches it."""

from __future__ import annotations

import getpass
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click
import msgspec

from flowd.adapters.inbox import ask, new_request_id
from flowd.cli.finding import Found, looked_up, place_of, unfinished
from flowd.cli.options import JSON, NO_INPUT, RUN, STATE_DIR
from flowd.cli.streams import say, say_document, tell
from flowd.core import states as s
from flowd.core.again import asked_for
from flowd.core.errors import BadRequest, FlowdError, StateLocked
from flowd.core.stimuli import RetryAsked
from flowd.core.views import worst_code
from flowd.ports.inbox import Answer, Request

if TYPE_CHECKING:
    from flowd.authoring.pipeline import Pipeline
    from flowd.cli.foreground import Begin

EVENTS = click.option("--events", is_flag=True, help="Print each event as a JSON line on stdout, once durable.")
ANEW = click.option(
    "--with-new-definition", "anew", is_flag=True, help="Go on with the pipeline file as it is now, not as it was."
)
NO_RUN = click.option("--no-run", is_flag=True, help="Record it, and do not go on with the run.")
LOG_FORMAT = click.option("--log-format", type=click.Choice(["console", "json"]), help="How log lines look.")


PATIENCE_S = 10.0
"""How long an owner that lets go of a run may take for it."""


@click.command()
@RUN
@click.option("--all", "everything", is_flag=True, help="Every run that is unfinished and that nobody owns.")
@ANEW
@STATE_DIR
@JSON
@EVENTS
@LOG_FORMAT
@NO_INPUT
def resume(run: str | None, state_dir: str | None, *, everything: bool, anew: bool, **wishes: Any) -> int:
    """Go on with a run after a crash, an interruption or a pause (RUN: the newest, where left out).

    The run keeps the definition that it began with, unless --with-new-definition: what had succeeded
    stays so, and the rest goes on as the pipeline file is now.
    """
    if not everything:
        return _resume(looked_up(state_dir, run), wishes, anew=anew)
    if run is not None:
        raise BadRequest("--all resumes every unfinished run; leave RUN out")
    left, wrong = unfinished(state_dir)
    codes = [error.exit_code for error in wrong]
    for found in left:
        try:
            codes.append(_resume(found, wishes, anew=anew))
        except FlowdError as error:  # one that cannot go on keeps no other from it
            tell(str(error))
            codes.append(error.exit_code)
    if wrong:
        from flowd.cli.state_dir import flags_of

        others = "" if left else "no other run is waiting to be resumed; "
        tell(f"{others}{len(wrong)} cannot be read: flowd doctor{flags_of(place_of(state_dir))}")
    elif not left:
        tell("no run is waiting to be resumed")
    return worst_code(codes)


def _resume(found: Found, wishes: dict[str, Any], *, anew: bool) -> int:
    if found.state.state == s.RUN_CANCELLED:
        raise BadRequest(f"run {found.id} was cancelled; to run what is left of it: flowd retry {found.id}")
    if found.owner is not None:
        if found.state.state == s.RUN_PAUSED and not anew:
            return _resume_there(found, wishes)
        raise StateLocked(f"run {found.id} is going on: it is held by {found.owner}")
    if anew and found.state.state == s.RUN_FAILED:
        raise BadRequest(
            f"run {found.id} has failed; to run what failed again as the file is now: "
            f"flowd retry {found.id} --with-new-definition"
        )
    given = _taken_up(found, anew=anew)
    if found.state.state not in s.RUN_ENDED and not anew:
        for line in changes(found, given):
            tell(line)
    return go_on(
        found, wishes, lambda engine: engine.resume(found.id, given, with_new_definition=anew), given if anew else None
    )


def _resume_there(found: Found, wishes: dict[str, Any]) -> int:
    """Let the owner of a paused run, whose last tasks still run, go on with it."""
    asked_of_owner(found, Request(id=new_request_id(), kind="resume", by=person()))
    if wishes["as_json"]:
        say_document(looked_up(str(found.place), found.id).document())
    else:
        say(f"run {found.id} goes on, held by {found.owner}")
    return 0


@click.command()
@RUN
@click.argument("tasks", nargs=-1)
@click.option("--downstream", is_flag=True, help="Run what depends on them again, too.")
@click.option("--failed-items", is_flag=True, help="Of tasks with items only those that did not end well.")
@ANEW
@NO_RUN
@STATE_DIR
@JSON
@EVENTS
@LOG_FORMAT
@NO_INPUT
def retry(
    run: str | None,
    tasks: tuple[str, ...],
    state_dir: str | None,
    *,
    downstream: bool,
    failed_items: bool,
    anew: bool,
    no_run: bool,
    **wishes: Any,
) -> int:
    """Run tasks of a run again: all that did not end well, or those named (RUN: the newest, where left out).

    The run keeps the definition that it began with, unless --with-new-definition.
    """
    from flowd.cli.check import refuse_unknown

    found = looked_up(state_dir, run)
    if anew and found.owner is not None:
        raise StateLocked(f"run {found.id} is going on: it is held by {found.owner}; cancel it, or wait for its end")
    given = _taken_up(found, anew=anew)
    if not anew:
        refuse_unknown(tasks, found.state.shape.index, f"run {found.id}")
        for line in changes(found, given):
            tell(line)
    request = Request(
        id=new_request_id(),
        kind="retry",
        by=person(),
        tasks=tasks,
        downstream=downstream,
        failed_items=failed_items,
    )

    def begin(engine: Any) -> Any:
        more = {"by": request.by, "pipeline": given, "go_on": not no_run, "with_new_definition": anew}
        return engine.retry(found.id, *tasks, downstream=downstream, failed_items=failed_items, **more)

    left = {} if anew else _not_ended(found, request, no_run=no_run)
    what = f"{', '.join(name for name in tasks if name not in left) or 'what failed'} to run again"
    if not tasks and not asked_for(found.state, RetryAsked()):
        what = "nothing has failed, so there is nothing to run again"
        tell(f"run {found.id}: {what}; name a task to run it in any case")
    return answered(found, wishes, request, begin, what, no_run=no_run, given=given if anew else None)


def _not_ended(found: Found, request: Request, *, no_run: bool) -> dict[str, str]:
    """Say which of the tasks have not ended. BadRequest where nothing would come of it.

    A run that stands still goes on, and such tasks with it, unless `no_run`.
    """
    from flowd.core.again import not_ended, refusal
    from flowd.core.stimuli import RetryAsked

    asked = RetryAsked(tasks=request.tasks, downstream=request.downstream, failed_items=request.failed_items)
    if request.failed_items and (refused := refusal(found.state, asked)):
        raise BadRequest(f"run {found.id}: {refused}")
    cut_off = found.owner is None and any(found.state.task(name).state == s.RUNNING for name in request.tasks)
    if cut_off or (found.owner is None and not no_run):
        return {}
    if refused := refusal(found.state, asked):
        raise BadRequest(f"run {found.id}: {refused}")
    left = not_ended(found.state, asked)
    for sentence in left.values():
        tell(f"run {found.id}: {sentence}: there is nothing to run again of it")
    return left


def _taken_up(found: Found, *, anew: bool) -> Any:
    """The pipeline to go on with: the script's own, else the file as it is now if `anew`; None: as it is recorded."""
    given = given_pipeline()
    if given is not None or not anew:
        return given
    from flowd.authoring.pipeline import Pipeline

    if found.definition.source is None:
        raise BadRequest(
            f"run {found.id} was started by a program, from no file; go on there with "
            f"engine.resume({found.id!r}, pipeline, with_new_definition=True)"
        )
    return Pipeline.load(found.definition.source)


def answered(
    found: Found,
    wishes: dict[str, Any],
    request: Request,
    begin: Begin,
    what: str,
    *,
    no_run: bool,
    given: Pipeline | None = None,
) -> int:
    """Give a person's answer: to the run's living owner, or by going on with the run here (unless `no_run`).

    `given` is the definition that it goes on with, where that is not its own. Where nobody owns it and there is
    a daemon, that goes on with it.
    """
    if (
        found.owner is None
        and given is None
        and not no_run
        and given_pipeline() is None
        and asked_of_daemon(found, request)
    ):
        return _said(found, wishes, f"{what}; the daemon goes on with it")
    if found.owner is None and not no_run:
        return go_on(found, wishes, begin, given)
    if found.owner is not None and not asked_of_owner(found, request):
        again = let_go(found)
        return answered(again, wishes, request, begin, what, no_run=no_run, given=given)
    if found.owner is None:
        anyio.run(_recorded, found, begin)
        what = f"{what}; flowd resume {found.id} goes on"
    return _said(found, wishes, what)


def _said(found: Found, wishes: dict[str, Any], what: str) -> int:
    if wishes["as_json"]:
        say_document(looked_up(str(found.place), found.id).document())
    else:
        say(f"run {found.id}: {what}")
    return 0


async def _recorded(found: Found, begin: Begin) -> None:
    from flowd.wiring.build import Engine

    async with Engine(found.place, on_exit="detach") as engine:
        await (await begin(engine)).wait()


def go_on(found: Found, wishes: dict[str, Any], begin: Begin, given: Pipeline | None = None) -> int:
    """Go on with a run in the foreground, with its own definition or the one that is `given`; its exit code."""
    from flowd.cli.foreground import Foreground
    from flowd.cli.outlets import Wishes
    from flowd.cli.state_dir import flags_of

    foreground = Foreground(
        found.definition.spec if given is None else given.spec,
        Path(found.definition.folder),
        found.place,
        Wishes(**wishes),
        flags=flags_of(found.place),
        began=found.began,
    )
    return foreground.carry_out(begin)


def given_pipeline() -> Any:
    """The pipeline of the script that runs its own commands, if it is one."""
    return click.get_current_context().find_root().obj


def let_go(found: Found) -> Found:
    """The run once its owner, which is about to, has let go of it; StateLocked where it does not."""
    end = time.monotonic() + PATIENCE_S
    while (now := looked_up(str(found.place), found.id)).owner == found.owner:
        if time.monotonic() > end:
            raise StateLocked(f"run {found.id} is held by {found.owner}, which does nothing more with it")
        time.sleep(0.05)
    return now


def asked_of_owner(found: Found, request: Request) -> bool:
    """Ask the run's living owner and return once it is done and durable; False where it lets go of the run.

    StateLocked where it does not answer, BadRequest where it refuses.
    """
    answer = anyio.run(_ask, found, request)
    if answer is None:
        raise StateLocked(
            f"run {found.id} is held by {found.owner}, which did not answer in 10s; the request was withdrawn"
        )
    if answer.error and not answer.again:
        raise BadRequest(f"run {found.id}: {answer.error}")
    return not answer.again


def asked_of_daemon(found: Found, request: Request) -> bool:
    """Have the state directory's daemon do it; False where there is none. BadRequest where it refuses."""
    from flowd.adapters.daemon_folder import FOLDER, living

    daemon = living(found.place)
    if daemon is None:
        return False
    answer = anyio.run(_ask, found, msgspec.structs.replace(request, run=found.id), found.place / FOLDER)
    if answer is None:
        raise StateLocked(f"the daemon (pid {daemon.pid}) did not answer in 10s; the request was withdrawn")
    if answer.error:
        raise BadRequest(f"run {found.id}: {answer.error}")
    return True


async def _ask(found: Found, request: Request, folder: Path | None = None) -> Answer | None:
    """Ask the run's owner, or whoever has `folder`, without secrets: for a moment the request is a file."""
    if found.definition.spec.secrets:
        from flowd.adapters.secrets import SecretReader
        from flowd.core.secrecy import Secrecy
        from flowd.engine.secrecy import typed

        said = {name: getattr(request, name) for name in ("reason", "comment", "values", "result")}
        request = msgspec.structs.replace(request, **await typed(SecretReader(), Secrecy(), found.definition, **said))
    return await ask(folder or found.folder, request)


def person() -> str:
    """Who asks, as the system knows them."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def changes(found: Found, given: Pipeline | None) -> list[str]:
    """What was edited after the run began: its pipeline, and the code of tasks still to run; best effort."""
    return [*_changed_definition(found, given), *_changed_code(found, given)]


def _changed_definition(found: Found, given: Pipeline | None) -> list[str]:
    from flowd.authoring.pipeline import Pipeline

    source = found.definition.source
    if given is None and source is None:
        return []  # nothing to compare with
    name = Path((source or found.definition.spec.name).partition(":")[0]).name
    try:
        now = (given or Pipeline.load(str(source))).spec
    except FlowdError:
        return [f"{name} was changed after the run began, and is refused as it is now; the run keeps its definition"]
    if now == found.definition.spec:
        return []
    return [f"{name} was changed after the run began; the run keeps its definition (not so: --with-new-definition)"]


def _changed_code(found: Found, given: Pipeline | None) -> list[str]:
    """One line for each task still to run whose code was edited after the run began; best effort."""
    from flowd.engine.files import Files
    from flowd.engine.fingerprint import Codes
    from flowd.engine.program import from_definition, from_pipeline

    began = found.state.started_at
    try:
        program = from_definition(found.definition) if given is None else from_pipeline(given)
    except FlowdError:
        return []  # going on will say it, with its exit code
    files = Files(program.folder)
    codes = Codes(files)
    lines = []
    for spec, task in found.state.own():
        if task.state in s.OK or began is None:
            continue
        for name in codes.parts(spec, program.function_file(spec.name)):
            path = files.path(name.removeprefix("code:"))
            if _edited_after(path, began):
                lines.append(f"{spec.name}: {path.name} was changed after the run began; it goes on with the new code")
    return lines


def _edited_after(path: Path, moment: datetime) -> bool:
    try:
        return path.stat().st_mtime > moment.timestamp()
    except OSError:
        return False
