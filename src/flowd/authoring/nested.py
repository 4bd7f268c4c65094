"""Pipelines that are tasks of others: read and checked with them, their files and parameters seen from outside.

House rules of this room: those of `kinds`. What is wrong with a pipeline is told at its own places, in
its own file; only what is wrong between the two stands where it is named.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from flowd.authoring.findings import Findings, KeyPath, NoText, listed, quoted
from flowd.authoring.format import NAME, Key
from flowd.authoring.importing import CallError
from flowd.authoring.kinds import WRONG, text, wrong
from flowd.authoring.params import resolve_params
from flowd.core.errors import BadParameters, BadPipeline
from flowd.core.expressions import references_of
from flowd.core.fanout import is_fanned
from flowd.core.graph import cycle_text, normal_path
from flowd.core.patterns import finds, is_pattern
from flowd.core.spec import Definition, Input, Nested, PipelineSpec, TaskSpec

if TYPE_CHECKING:
    from flowd.authoring.build import Draft
    from flowd.authoring.pipeline import Pipeline

MOST_DEEP: Final = 8
"""So many pipelines may be in each other, the outermost included."""

UNFIT: Final = frozenset(
    {"inputs", "outputs", "idempotent", "fresh_for", "code", "uses", "executor", "env", "logs", "reconcile"}
)
"""Keys that have no meaning for a task that is a pipeline: its own tasks have them."""

Load = Callable[[str, Any], "Pipeline"]
"""The pipeline that a task names; raises BadPipeline with its problems, CallError where there is none."""

_FILES: Final = (".yaml", ".yml", ".py")
_NOTHING: Final = Definition(spec=PipelineSpec(name="", tasks=()), folder="")
_reading: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("flowd_reading", default=())


def pipeline(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """What names a pipeline: a file, a name, or the pipeline itself; it is read later."""
    from flowd.authoring.pipeline import Pipeline

    if isinstance(value, Pipeline):
        return Nested(source=value.name, definition=_NOTHING)
    if not isinstance(value, str | os.PathLike):
        return wrong(findings, path, "a file, or the name of a pipeline", value, "write FILE.yaml, or NAME")
    found = text(findings, path, os.fspath(value), key)
    if found is not WRONG and "{{" in found:
        message = "`{{ }}` cannot stand in `pipeline`: it is read before anything runs"
        findings.add("bad_placement", path, message, "write the file, and pass what differs by `with`")
        return WRONG
    return found if found is WRONG else Nested(source=found.strip(), definition=_NOTHING)


@contextmanager
def reading(pipeline: Pipeline, named: str | None) -> Iterator[None]:
    """Hold a pipeline as one that is being read; BadPipeline where it is already, or lies too deep in others."""
    own = (os.path.realpath(named) if named else f"{id(pipeline)}", os.path.basename(named) if named else pipeline.name)
    chain = _reading.get()
    if own in chain:
        labels = [label for _, label in chain[chain.index(own) :]]
        _refuse(pipeline, "cycle", f"a cycle of pipelines: {cycle_text([*labels, own[1]])}", "remove one of them")
    if len(chain) >= MOST_DEEP:
        path = " → ".join(label for _, label in (*chain, own))
        _refuse(pipeline, "too_deep", f"pipelines are {len(chain) + 1} deep: {path}", f"at most {MOST_DEEP} fit")
    token = _reading.set((*chain, own))
    try:
        yield
    finally:
        _reading.reset(token)


def _refuse(pipeline: Pipeline, code: str, message: str, hint: str) -> None:
    findings = Findings(NoText(pipeline.file))
    findings.add(code, (), message, hint)
    raise BadPipeline(findings.problems)


def found(folder: Path, written: str) -> Pipeline:
    """The pipeline that is named so in a file of `folder`. BadPipeline, CallError."""
    from flowd.authoring.loading import load

    path, _, name = written.partition(":")
    if path.endswith(_FILES):
        if not (folder / path).is_file():
            raise CallError("no_file", f"there is no file {quoted(path)}", f"looked for at {folder / path}")
        return load(os.path.normpath(folder / path) + (f":{name}" if name else ""))
    if NAME.fullmatch(written):
        return load(str(_called(folder, written)))
    raise CallError("bad_value", f"{quoted(written)} names no pipeline", "write FILE.yaml, FILE.py:NAME, or a name")


def _called(folder: Path, name: str) -> str:
    """The one file near `folder` whose pipeline has this name. CallError where it is not one."""
    from flowd.authoring.loading import discover
    from flowd.authoring.naming import named_in

    known: dict[str, str] = {}
    for home in (folder, folder.parent):
        for one in discover(home):
            with suppress(BadPipeline):  # it is not what is asked for, as far as can be told
                for named in named_in(home / one):
                    if named.name is not None:
                        place = f"{home / one}:{named.variable}" if named.variable else str(home / one)
                        known.setdefault(place, named.name)
        places = [place for place, called in known.items() if called == name]
        if len(places) == 1:
            return places[0]
        if places:
            hint = "name the file instead"
            raise CallError("many_pipelines", f"{listed(places)} all have a pipeline {quoted(name)}", hint)
    hint = f"there is {listed(sorted(set(known.values())))}" if known else "name its file"
    raise CallError("no_pipeline", f"there is no pipeline {quoted(name)} in or beside this folder", hint)


def read(drafts: Iterable[Draft], findings: Findings, load: Load | None) -> None:
    """Read the pipelines that tasks are, and judge what they are given. Without `load` none is read."""
    for draft in drafts:
        if draft.kind != "pipeline" or load is None:
            continue
        path: KeyPath = (*draft.path, "pipeline")
        try:
            inner = load(draft.name, draft.raw["pipeline"])
            definition = inner.definition()
        except BadPipeline as bad:
            findings.problems += [problem for problem in bad.problems if problem not in findings.problems]
        except CallError as error:
            findings.add(error.code, path, error.message, error.hint)
        else:
            draft.values["pipeline"] = Nested(source=draft.values["pipeline"].source, definition=definition)
            _check_given(draft, definition.spec, path, findings)


def _check_given(draft: Draft, spec: PipelineSpec, path: KeyPath, findings: Findings) -> None:
    given = draft.raw.get("with", {})
    if not isinstance(given, Mapping):
        return  # reported where it stands
    for name, value in given.items():
        place: KeyPath = (*draft.path, "with", str(name))
        if name not in spec.params:
            known = f"it has {listed(spec.params)}" if spec.params else "it has none"
            hint = findings.suggest(str(name), spec.params, known)
            message = f"the pipeline {quoted(spec.name)} has no parameter {quoted(name)}"
            findings.add("unknown_param", place, message, hint, at_key=True)
        elif name in draft.values.get("with", {}) and not references_of(value):
            try:
                resolve_params({name: msgspec.structs.replace(spec.params[name])}, {name: value}, text=False)
            except BadParameters as error:
                findings.add("bad_param", place, str(error))
    for name, param in spec.params.items():
        if param.required and name not in given:
            message = f"the pipeline {quoted(spec.name)} needs the parameter {quoted(name)}"
            findings.add("missing_param", path, message, f"give it: `with: {{{name}: …}}`")


def with_files(task: TaskSpec, folder: str) -> TaskSpec:
    """A task that is a pipeline with the files that its tasks read from outside, and those that they write."""
    action = task.action
    if not isinstance(action, Nested) or is_fanned(task):
        return task
    home = action.definition.folder

    def seen(path: str) -> str:
        return normal_path(os.path.normpath(os.path.join(home, path)), folder)

    tasks = action.definition.spec.tasks
    written = {seen(ref.path): ref for one in tasks for ref in one.outputs if "{{" not in ref.path}
    inputs = dict.fromkeys(seen(ref.path) for one in tasks for ref in one.inputs if "{{" not in ref.path)
    open_ = any("{{" in ref.path for one in tasks for ref in one.outputs)  # it may write what is read
    outside = [path for path in inputs if path not in written and not open_ and not _is_written(path, written)]
    outputs = [msgspec.structs.replace(ref, path=path, optional=True) for path, ref in written.items()]
    return msgspec.structs.replace(task, inputs=tuple(Input(path=path) for path in outside), outputs=tuple(outputs))


def _is_written(path: str, written: Iterable[str]) -> bool:
    """Whether a path lies in what is written, or a pattern of either finds the other."""
    for one in written:
        if path.startswith(f"{one}/") or one.startswith(f"{path}/"):
            return True
        if (is_pattern(one) and finds(one, path)) or (is_pattern(path) and finds(path, one)):
            return True
    return False


__all__ = ["UNFIT", "Load", "found", "pipeline", "read", "reading", "with_files"]
