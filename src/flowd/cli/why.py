"""`flowd why`: why a task of a run ended as it did, or waits; or why a run of a file would run it."""

from __future__ import annotations

from shlex import quote
from typing import Any

import anyio
import click

from flowd.adapters.inbox import ask, new_request_id
from flowd.cli.finding import Found, found_run, look, place_of
from flowd.cli.options import JSON, STATE_DIR
from flowd.cli.streams import say, say_document, style_of
from flowd.core import states as s
from flowd.core.answers import approval_command
from flowd.core.errors import BadRequest
from flowd.core.reasons import REASONS, because
from flowd.core.task_state import TaskState
from flowd.core.views import approval_document, cut_off, moment, shown_state
from flowd.ports.inbox import Request
from flowd.wiring.reading import reading


@click.command()
@click.argument("run", metavar="RUN|FILE")
@click.argument("task")
@STATE_DIR
@JSON
def why(run: str, task: str, state_dir: str | None, *, as_json: bool) -> int:
    """Say why a task ended as it did, or what it waits for and who has that; of a FILE, why it would run or not."""
    if run.endswith((".yaml", ".yml", ".py")) or ":" in run:
        answer = _of_file(run, task, state_dir)
        head = f"{task} of {run}: {answer.pop('state')}"
    else:
        with reading(place_of(state_dir)) as journal:
            found = anyio.run(look, journal, found_run(journal, run))
        answer = _of_run(found, task)
        head = f"{task} of {found.id}: {answer['details']['state'].replace('_', ' ')}"
    if as_json:
        say_document(answer)
        return 0
    style = style_of("stdout")
    say(style.text(f"{head}   [{answer['code']}]"))
    say(style.text(f"  {answer['sentence']}"))
    since = answer["details"].get("since")
    if since is not None:
        say(style.text(f"  since {since}"))
    if answer["next"]:
        say(style.text(f"next: {answer['next']}"))
    return 0


def _of_file(file: str, task: str, state_dir: str | None) -> dict[str, Any]:
    from flowd.cli.check import standings_of

    _, _, standings = standings_of(file, (task,), state_dir)
    standing = standings[task]
    reason = standing.reason
    answer = _answer(reason.code, reason.sentence, {"action": standing.action}, {"FILE": file, "TASK": task})
    return {**answer, "state": standing.action.replace("_", " ")}


def _of_run(found: Found, name: str) -> dict[str, Any]:
    from flowd.cli.check import refuse_unknown

    refuse_unknown((name,), found.state.shape.index, f"run {found.id}")
    task = found.state.task(name)
    details: dict[str, Any] = {"run": found.id, "task": name, "state": shown_state(task)}
    words = {"RUN": found.id, "TASK": quote(name)}
    if task.state in s.STARTABLE:
        return _waiting(found, name, task, details, words)
    if task.child is not None:
        details["child"] = task.child.run
    if task.state == s.WAITING and task.child is not None and task.child.commands and task.reason is not None:
        answer = _answer(task.reason.code, task.reason.sentence, details, words)
        return {**answer, "next": task.child.commands[0]}
    asks = found.state.shape.specs[found.state.shape.index[name]].approve
    if task.state == s.WAITING and task.approval is not None and task.reason is not None:
        details |= {"since": moment(task.approval.requested_at), "approval": approval_document(asks, task.approval)}
        answer = _answer(task.reason.code, task.reason.sentence, details, words)
        return {**answer, "next": approval_command(found.state, name)}
    if task.state in s.LIVE and found.owner is None:
        reason = cut_off(found.state.shape.specs[found.state.shape.index[name]])
        return {**_answer(reason.code, reason.sentence, details, words), "next": f"flowd resume {found.id}"}
    if task.state == s.SERVING and task.service is not None:
        details |= {"url": task.service.url or None, "restarts": task.service.restarts}
        keep = found.state.shape.specs[found.state.shape.index[name]].service
        reason = because("serving.needed" if keep is not None and keep.keep == "needed" else "serving.run")
        return _answer(reason.code, reason.sentence, details, words)
    if task.error is not None:
        details["error"] = {"type": task.error.type, "message": task.error.message, "where": task.error.where}
    if task.reason is not None:
        return _answer(task.reason.code, task.reason.sentence, details, words)
    reason = because("running" if shown_state(task) == s.RUNNING else "done")
    return _answer(reason.code, reason.sentence, details, words)


def _waiting(
    found: Found, name: str, task: TaskState, details: dict[str, Any], words: dict[str, str]
) -> dict[str, Any]:
    """Of a task that has not begun: its needs, its next try, its run, and else what its living engine says."""
    run = found.state
    number = run.shape.index[name]
    if run.reason is not None and run.state == s.RUN_PAUSED:
        return _answer(run.reason.code, run.reason.sentence, details, words)
    open_needs = [run.shape.specs[need].name for need in run.shape.needs[number] if not run.tasks[need].ok]
    if open_needs:
        reason = because("needs", needs=", ".join(open_needs))
        return _answer(reason.code, reason.sentence, {**details, "needs": open_needs}, words)
    if found.owner is None:
        reason = because("owner_died")
        return _answer(reason.code, reason.sentence, details, words)
    answer = anyio.run(ask, found.folder, Request(id=new_request_id(), kind="limits"))
    if answer is None:
        raise BadRequest(f"run {found.id} is held by {found.owner}, which did not answer in 10s")
    for wait in [] if answer.error else answer.data["waiting"]:
        if (wait["run"], wait["task"]) == (found.id, name):
            more = {"since": wait["since"], "what": wait["what"], "by": wait["by"]}
            return _answer(wait["code"], wait["sentence"], {**details, **more}, words)
    if task.between_rounds and task.reason is not None:
        return _answer(task.reason.code, task.reason.sentence, details, words)
    if task.state == s.RETRYING and task.retry_at is not None:
        reason = because("retrying", at=f"{task.retry_at:%Y-%m-%dT%H:%M:%SZ}", tries=task.tries)
        return _answer(reason.code, reason.sentence, details, words)
    reason = because("workers_busy")
    return _answer(reason.code, reason.sentence, details, words)


def _answer(code: str, sentence: str, details: dict[str, Any], words: dict[str, str]) -> dict[str, Any]:
    command = REASONS[code].next if code in REASONS else ""
    for word, value in words.items():
        command = command.replace(word, value)
    return {"code": code, "sentence": sentence, "details": details, "next": command}
