"""Gates, and what a person is asked: read, and checked against the rest of the pipeline.

House rules of this room: those of `kinds`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from flowd.authoring import format as table
from flowd.authoring.findings import Findings, KeyPath, listed, plain, quoted
from flowd.authoring.format import Key
from flowd.authoring.kinds import NONE, WRONG, check_name, items, name, pairs, surprises, text, wrong
from flowd.authoring.params import check_param
from flowd.authoring.records import record
from flowd.core.expressions import Access, ExpressionError, references_of, required_by, unknown
from flowd.core.spec import Approve, Gate, PipelineSpec, Run, TaskSpec, section_of

_ANSWERED: Final = ("comment", "by", "at")
"""What every answer has besides the fields of its form."""
_REJECTION: Final = ("comment", "by", "at", "task")


def gates(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """Conditions: bare expressions, or mappings that hold one."""
    found = []
    for place, item in items(findings, path, value, '["metrics.r2 >= params.min_r2"]'):
        if isinstance(item, Mapping):
            read = record(findings, place, item, table.GATE, "a gate")
        else:
            written = text(findings, place, item, key)
            read = {} if written is WRONG else {"check": written}
        if "check" in read:
            found.append(Gate(**read))
    return tuple(found)


def approve(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """What a person is asked."""
    hint = f'write {{message: "{plain(value)}"}}' if isinstance(value, str) else ""
    if not isinstance(value, Mapping):
        return wrong(findings, path, "a mapping", value, hint or '{message: "…?"} says what is asked')
    read = record(findings, path, value, table.APPROVE, "`approve`")
    return Approve(**{name: item for name, item in read.items() if item is not NONE})


def form(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """The fields of a form, declared as parameters are."""
    found = {}
    for place, given, item in pairs(findings, path, value, "{threshold: {type: float, default: 0.2}}"):
        if not check_name(findings, place, given, at_key=True) or surprises(findings, place, item):
            continue
        if given in _ANSWERED:
            message = f"{quoted(given)} is there in every answer ({listed(_ANSWERED)})"
            findings.add("bad_name", place, message, "give the field another name", at_key=True)
            continue
        param = check_param(given, item, findings, place)
        if param is not None:
            found[given] = param
    return found


def askers(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """Names of people or groups."""
    read = [name(findings, place, item, key) for place, item in items(findings, path, value, "[data_science]")]
    return tuple(item for item in read if item is not WRONG)


# --- what is wrong between it and the rest ----------------------------------------------------------


def check(task: TaskSpec, asked: Approve, spec: PipelineSpec, findings: Findings) -> None:
    """Report what a person could not be asked, and where silence could not be the answer that it is to be."""
    base: KeyPath = (section_of(task), task.name, "approve")
    empty = [field for field, param in asked.form.items() if param.required]
    if asked.then == "approve" and empty:
        hint = "give it a default, or write `then: fail`"
        findings.add("bad_value", (*base, "then"), f"nobody would fill in {listed(empty)}", hint)
    if asked.then != "fail" and asked.timeout is None:
        message = f"`then: {asked.then}` has no meaning without a `timeout`"
        findings.add("unfit_key", (*base, "then"), message, "give one, such as `timeout: 7d`")
    if task.cache and _reads_answer(task):
        message = "what it is given depends on a person's answer, so it is never fresh"
        findings.add("unfit_key", (section_of(task), task.name, "cache"), message, "remove it")
    for number, owner in enumerate(asked.by):
        if spec.owners and owner not in spec.owners:
            hint = findings.suggest(owner, spec.owners, f"the owners are {listed(spec.owners)}")
            findings.add("unknown_owner", (*base, "by", number), f"there is no owner {quoted(owner)}", hint)


def misnamed(task: TaskSpec | None, references: Iterable[Access]) -> Iterator[ExpressionError]:
    """References to what no answer has."""
    known = {*_ANSWERED, *(task.approve.form if task is not None and task.approve is not None else ())}
    for root, *rest in sorted(references):
        if root == "rejection" and rest and rest[0] not in _REJECTION:
            yield unknown(rest[0], _REJECTION, "`rejection`: ")
        elif root == "approval" and rest and task is not None and task.approve is not None and rest[0] not in known:
            yield unknown(rest[0], known, "`approval`: ")


def may_read_answer(task: TaskSpec) -> bool:
    """Whether `approval` may be named: the start waits for one, or `default` stands in wherever it is named.

    So a task whose `approve` is removed goes on by itself.
    """
    try:
        return task.approve is not None or all(access[0] != "approval" for access in required_by(_given(task)))
    except ExpressionError:
        return False  # reported where it stands


def _reads_answer(task: TaskSpec) -> bool:
    return any(access[0] == "approval" for access in references_of(_given(task)))


def _given(task: TaskSpec) -> list[Any]:
    action, written = task.action, list[Any]([task.with_, task.env])
    if isinstance(action, Run):
        written += [action.text or "", list(action.argv or ())]
    return written
