"""What a pipeline declares for others than its runs: owners, notices, schedules, triggers, groups, retention.

It is read and checked whole, so that a mistake is found when it is written; what `format` calls
inactive is acted on by nothing yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from flowd.authoring.findings import Findings, KeyPath, listed, quoted
from flowd.authoring.format import OUTPUT, PIPELINE, TASK
from flowd.authoring.notices import OWN
from flowd.core.errors import BadParameters
from flowd.core.spec import PipelineSpec

if TYPE_CHECKING:
    from flowd.authoring.build import Built

Template = tuple[KeyPath, str, frozenset[str], str]
"""Where a text stands, the text, what it may refer to, and what it belongs to."""

_DECLARED: Final = ("owners", "notify", "schedule", "trigger", "group", "expect", "retention")
_BEFORE_A_RUN: Final = frozenset({"params", "secrets"})
_OF_A_RUN: Final = frozenset({"params", "run"})


def fields(top: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The fields of a specification of all that was read."""
    found = {key: top[key] for key in _DECLARED if key in top}
    if "schedule" in found:
        from flowd.authoring.schedules import made

        found["schedule"] = tuple(made(read, name) for read in found["schedule"] if read is not None)
    return found


def inactive(spec: PipelineSpec) -> list[str]:
    """The keys that a pipeline has and nothing acts on yet, as they are called."""
    found = [key for key, row in PIPELINE.items() if row.inactive and getattr(spec, key)]
    found += [
        f"{key} of tasks" for key, row in TASK.items() if row.inactive and any(getattr(t, key) for t in spec.tasks)
    ]
    outputs = [output for task in spec.tasks for output in task.outputs]
    found += [
        f"{key} of outputs" for key, row in OUTPUT.items() if row.inactive and any(getattr(o, key) for o in outputs)
    ]
    return found


def templates(built: Built) -> Iterator[Template]:
    """Every text with `{{ }}` among them."""
    spec, top = built.spec, built.top
    for name, owner in spec.owners.items():
        for number, url in enumerate(owner.notify):
            yield ("owners", name, "notify", number), url, _BEFORE_A_RUN, "notify"
    for place, to in _addressees(top, built.raw):
        yield place, to, _BEFORE_A_RUN, "notify"
    for number, trigger in enumerate(spec.trigger):
        if trigger.secret is not None:
            yield ("trigger", number, "secret"), trigger.secret, frozenset({"secrets"}), "notify"
    if spec.group is not None:
        yield ("group", "key"), spec.group.key, _OF_A_RUN, "the key of a group"
    if spec.result is not None:
        yield ("result",), spec.result, _OF_A_RUN | {"tasks"}, "a result"


def check(built: Built, findings: Findings) -> None:
    """Report what is wrong between what is declared here and the rest of the pipeline."""
    spec = built.spec
    for place, to in _addressees(built.top, built.raw):
        if "{{" not in to and ":" not in to:
            _check_addressee(to, place, spec, findings)
    for task in spec.tasks:
        draft = built.drafts[task.name]
        if task.owner is not None and task.owner not in spec.owners:
            written = "owner" in draft.values
            _unknown_owner(task.owner, (*draft.path, "owner") if written else ("defaults", "owner"), spec, findings)
        for number, output in enumerate(task.outputs):
            if output.delete and output.retention is None:
                message = "`delete` says what goes with the kept copies, and `retention` does not say when they go"
                place = (*draft.path, "outputs", number, "delete")
                findings.add("unfit_key", place, message, "write `retention: 30d` beside it", at_key=True)
    for number, trigger in enumerate(spec.trigger):
        if trigger.after is not None and trigger.after == spec.name:
            message = "it would start itself again and again"
            findings.add("bad_trigger", ("trigger", number, "after"), message, "name another pipeline")
    for group in built.top.get("targets", {}).values():
        _check_tasks(group, list(built.drafts), findings)
    for number, read in enumerate(built.top.get("schedule", ())):
        if read is not None:
            several = isinstance(built.raw.get("schedule"), list | tuple)
            _check_schedule(read, ("schedule", number) if several else ("schedule",), built, findings)


def _check_tasks(group: Iterable[tuple[KeyPath, str]], known: Sequence[str], findings: Findings) -> None:
    for place, name in group:
        if name not in known:
            hint = findings.suggest(name, known, f"the tasks are {listed(known)}")
            findings.add("unknown_task", place, f"there is no task {quoted(name)}", hint)


def _addressees(top: Mapping[str, Any], raw: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    """Who is told, as it is written, with its place."""
    written = raw.get("notify")
    for number, notice in enumerate(written if "notify" in top and isinstance(written, list | tuple) else ()):
        to = notice.get("to") if isinstance(notice, Mapping) else None
        if isinstance(to, str):
            yield ("notify", number, "to"), to
        elif isinstance(to, list | tuple):
            yield from ((("notify", number, "to", at), one) for at, one in enumerate(to) if isinstance(one, str))


def _check_addressee(to: str, path: KeyPath, spec: PipelineSpec, findings: Findings) -> None:
    if to == OWN:
        if not spec.owners:
            hint = f"declare one: `owners: {{data_team: {{notify: [URL]}}}}`, and `{OWN}: data_team` on its tasks"
            findings.add("unknown_owner", path, "there are no owners", hint)
    elif to not in spec.owners:
        _unknown_owner(to, path, spec, findings)


def _unknown_owner(name: str, path: KeyPath, spec: PipelineSpec, findings: Findings) -> None:
    otherwise = (
        f"the owners are {listed(spec.owners)}"
        if spec.owners
        else f"declare it: `owners: {{{name}: {{notify: [URL]}}}}`"
    )
    findings.add(
        "unknown_owner", path, f"there is no owner {quoted(name)}", findings.suggest(name, spec.owners, otherwise)
    )


def _check_schedule(read: Mapping[str, Any], path: KeyPath, built: Built, findings: Findings) -> None:
    _check_tasks(read.get("tasks", ()), [*built.drafts, *built.spec.targets], findings)
    given = read.get("params", {})
    for name, value in given.items():
        if "{{" in str(value):
            message = "`{{ }}` cannot stand in a schedule's parameters"
            findings.add("bad_placement", (*path, "params", name), message, "write the value itself")
            return
    from flowd.authoring.params import resolve_params

    try:
        resolve_params(built.spec.params, given, text=False)
    except BadParameters as refused:
        for problem in refused.problems:
            name = problem.key.removeprefix("params.")
            if problem.code == "missing_param":
                message = f"the parameter {quoted(name)} is required, and these runs would be refused without it"
                findings.add("missing_param", path, message, f"write `params: {{{name}: …}}`", at_key=True)
            else:
                place = (*path, "params", name)
                findings.add(problem.code, place, problem.message, problem.hint, at_key=problem.code == "unknown_param")


__all__ = ["check", "fields", "inactive", "templates"]
