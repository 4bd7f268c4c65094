"""What can be wrong between the parts of a pipeline, once each part has been read.

Needs that do not exist, cycles, files that two tasks write, expressions that refer to what is
not there, limits that are not declared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import pairwise
from typing import Any

from flowd.authoring import conditions, declarations, items, people
from flowd.authoring.binding import item_names
from flowd.authoring.build import Built, Draft
from flowd.authoring.final import check_section, ordinary
from flowd.authoring.findings import Findings, KeyPath, listed, quoted
from flowd.authoring.secrets import misuse
from flowd.core.commands import parse_command
from flowd.core.expressions import (
    Access,
    Expression,
    ExpressionError,
    check_references,
    compile_expression,
    parse_template,
    references_of,
    unknown,
)
from flowd.core.graph import (
    AmbiguousWriter,
    Upstream,
    cycle_text,
    escapes,
    find_cycles,
    normal_path,
    writer_problems,
)
from flowd.core.keyed import declared
from flowd.core.spec import Nested, PipelineSpec, Run, TaskSpec

_PATH_ROOTS = frozenset({"params", "run", "tasks"})
_TASK_ROOTS = frozenset({"params", "run", "tasks", "inputs", "outputs", "env"})
_LIST_ROOTS = frozenset({"params", "run", "tasks", "env"})
_GATE_ROOTS = _TASK_ROOTS | {"metrics", "result"}
_PIPELINE_ROOTS = frozenset({"params", "run", "env"})
_IN_LOG_FILE = frozenset({"task", "run.id"})
_ENOUGH = 200  # problems, after which expressions are not looked at any more


def check(built: Built, findings: Findings, folder: str) -> None:
    """Report everything that is wrong between the parts of a pipeline."""
    spec = built.spec
    _check_literal(built.top, (), findings)
    declarations.check(built, findings)
    _check_literal(built.defaults, ("defaults",), findings)
    for task in spec.tasks:
        draft = built.drafts[task.name]
        _check_needs(draft, built, findings)
        _check_paths(task, draft, findings, folder)
        _check_uses(task, draft, spec, findings)
        if task.matrix and task.outputs:
            items.check_cells(task, draft.path, findings, folder)
        if task.trigger_rule in {"any_succeeded", "any_failed"} and not task.needs:
            message = f"`trigger_rule: {task.trigger_rule}` has no meaning for a task that needs none"
            findings.add("unfit_key", (*draft.path, "trigger_rule"), message, "name its `needs`, or remove it")
    needs = {task.name: task.needs for task in spec.tasks}
    cyclic = _check_cycles(built, needs, findings)
    needs |= {task.name: (*task.needs, *ordinary(spec)) for task in spec.tasks if task.final}
    if not cyclic:
        _check_writers(built, needs, findings, folder)
    _Expressions(spec, findings, None if cyclic else Upstream(needs)).check(built)


def _check_needs(draft: Draft, built: Built, findings: Findings) -> None:
    for path, need in draft.needs:
        if need not in built.drafts:
            hint = findings.suggest(need, built.drafts, f"the tasks are {listed(built.drafts)}")
            findings.add("unknown_need", path, f"there is no task {quoted(need)}", hint)
        elif built.drafts[need].section != draft.section:
            check_section(draft.section, path, need, findings)


def _check_paths(task: TaskSpec, draft: Draft, findings: Findings, folder: str) -> None:
    seen: set[str] = set()
    for output in task.outputs:
        path = normal_path(output.path, folder)
        place = _item_path(draft, "outputs", path, folder)
        if escapes(output.path):
            hint = "write into the pipeline's folder, or give an absolute path"
            findings.add("outside_folder", place, f"{quoted(output.path)} lies outside the pipeline's folder", hint)
        elif path in {".", "/", folder.rstrip("/")}:
            what = "the whole file system" if path == "/" else "the pipeline's folder itself"
            findings.add("bad_path", place, f"this is {what}", "name a file in it")
        if path in seen:
            again = _item_path(draft, "outputs", path, folder, last=True)
            findings.add("duplicate_output", again, f"{quoted(output.path)} is given twice", "keep one")
        seen.add(path)
    _check_literal(draft.values, draft.path, findings)


def _item_path(draft: Draft, key: str, wanted: str, folder: str, *, last: bool = False) -> KeyPath:
    """Where a path stands, first or last, in a task's `inputs` or `outputs`."""
    written = draft.raw.get(key)
    numbered = list(enumerate(written if isinstance(written, list | tuple) else ()))
    for number, item in reversed(numbered) if last else numbered:
        path = item.get("path") if isinstance(item, Mapping) else item
        if isinstance(path, str) and normal_path(path, folder) == wanted:
            return (*draft.path, key, number)
    return (*draft.path, key) if key in draft.raw else draft.path


def _check_literal(values: Mapping[str, Any], base: KeyPath, findings: Findings) -> None:
    """Report `{{ }}` where it would be taken as it stands."""
    for key in ("workdir", "cwd", "code"):
        if "{{" in str(values.get(key, "")):
            message = f"`{{{{ }}}}` cannot stand in `{key}`"
            findings.add("bad_placement", (*base, key), message, "write the path itself")


def _check_uses(task: TaskSpec, draft: Draft, spec: PipelineSpec, findings: Findings) -> None:
    for limit, amount in task.uses.items():
        path: KeyPath = (*draft.path, "uses", limit) if "uses" in draft.raw else ("defaults", "uses", limit)
        capacity = declared(spec.limits, limit)
        if capacity is None and declared(spec.rates, limit) is None:
            known = [*spec.limits, *spec.rates]
            hint = findings.suggest(limit, known, f"declare it: `limits: {{{limit}: {max(amount, 1):g}}}`")
            findings.add("unknown_limit", path, f"there is no limit {quoted(limit)}", hint, at_key=True)
        elif capacity is not None and amount > capacity:
            message = f"it uses {amount:g} of {quoted(limit)}, which has {capacity:g}: it could never start"
            findings.add("over_limit", path, message, "use less, or raise the limit")


def _check_cycles(built: Built, needs: dict[str, tuple[str, ...]], findings: Findings) -> bool:
    cycles = find_cycles(needs)
    for cycle in cycles:
        hint = "remove one of these needs"
        for before, after in pairwise(cycle):
            written = {need for _, need in built.drafts[after].needs}
            file = dict(built.implied.get(after, ())).get(before)
            if before not in written and file is not None:
                hint = f"{after} reads {quoted(file)}, which {before} writes, and so needs it"
                break
        draft = built.drafts[cycle[0]]
        path = (*draft.path, "needs") if "needs" in draft.raw else draft.path
        findings.add("cycle", path, f"a cycle: {cycle_text(cycle)}", hint, at_key="needs" not in draft.raw)
    return bool(cycles)


def _check_writers(built: Built, needs: dict[str, tuple[str, ...]], findings: Findings, folder: str) -> None:
    for problem in writer_problems(built.spec.tasks, needs, folder):
        if isinstance(problem, AmbiguousWriter):
            draft = built.drafts[problem.reader]
            message = f"{listed(problem.writers)} all write {quoted(problem.path)}, and it is not said which is read"
            path = _item_path(draft, "inputs", problem.path, folder)
            findings.add(
                "ambiguous_writer", path, message, f"add the one that is meant to the needs of {problem.reader}"
            )
        else:
            draft = built.drafts[problem.second]
            first, second = quoted(problem.first), quoted(problem.second)
            message = f"{first} and {second} both write {quoted(problem.path)}, and nothing orders them"
            path = _item_path(draft, "outputs", problem.path, folder)
            findings.add("unordered_writers", path, message, f"add {problem.first} to the needs of {problem.second}")


class _Expressions:
    """Checks every `{{ }}` of a pipeline."""

    def __init__(self, spec: PipelineSpec, findings: Findings, upstream: Upstream | None) -> None:
        self._spec = spec
        self._findings = findings
        self._upstream = upstream
        self._tasks = {task.name for task in spec.tasks}

    def check(self, built: Built) -> None:
        """Look at the pipeline's own texts, then at each task's."""
        for path, text in _texts(("env",), self._spec.env):
            self._template(None, path, text, _PIPELINE_ROOTS, "env")
        if self._spec.log.file is not None:
            self._log_file(self._spec.log.file)
        for path, text, roots, place in declarations.templates(built):
            self._template(None, path, text, roots, place)
        for task in self._spec.tasks:
            if len(self._findings.problems) > _ENOUGH:
                return
            self._task(task, built.drafts[task.name])

    def _list(self, task: TaskSpec, base: KeyPath) -> None:
        """What the task is carried out for."""
        foreach = task.foreach
        if foreach is None:
            return
        path = (*base, "foreach")
        if isinstance(foreach.over, str):
            self._references(task, path, compile_expression(foreach.over).references, _LIST_ROOTS, own=False)
        else:
            for place, text in _texts(path, foreach.over):
                self._template(task, place, text, _LIST_ROOTS, "foreach", own=False)
        if foreach.key:
            self._references(task, (*path, "key"), compile_expression(foreach.key).references, _LIST_ROOTS)

    def _log_file(self, text: str) -> None:
        """Lines go there before much else is known of a run."""
        try:
            expressions = parse_template(text).expressions
        except ExpressionError as error:
            self._report(("log", "file"), error)
            return
        for expression in expressions:
            if expression.text not in _IN_LOG_FILE:
                message = f"`{{{{ {expression.text} }}}}` cannot stand in `log.file`"
                self._findings.add("bad_placement", ("log", "file"), message, "write `{{ task }}` or `{{ run.id }}`")

    def _task(self, task: TaskSpec, draft: Draft) -> None:
        base = draft.path
        self._list(task, base)
        self._approve(task, base)
        own = _TASK_ROOTS | {"rejection"} | ({"approval"} if people.may_read_answer(task) else set())
        if task.service is not None:
            own |= {"port"} if task.service.port is not None else set()
            self._template(task, (*base, "lifetime"), task.service.lifetime_of or "", _PIPELINE_ROOTS, "a lifetime")
        given = "what a pipeline is given" if isinstance(task.action, Nested) else "with"
        for path, text in _texts((*base, "with"), task.with_):
            self._template(task, path, text, own, given)
        for keys, text, roots in conditions.of_task(task):
            path = (*base, *keys) if keys[0] in draft.values else ("defaults", *keys)
            self._expression(task, path, compile_expression(text), roots, f"`{keys[-1]}`")
        own_env = draft.values.get("env", {})
        for name, text in task.env.items():
            place: KeyPath = (*base, "env", name) if name in own_env else ("defaults", "env", name)
            self._template(task, place, text, own, "env")
        paths = {"inputs": [ref.path for ref in task.inputs], "outputs": [ref.path for ref in task.outputs]}
        for place, text in _texts(base, paths):
            self._template(task, place, text, _PATH_ROOTS, "a path")
        for number, gate in enumerate(task.gate):
            written = draft.raw["gate"][number]
            place = (*base, "gate", number, "check") if isinstance(written, Mapping) else (*base, "gate", number)
            self._bare(task, place, gate.check, _GATE_ROOTS, "a gate")
        action = task.action
        if not isinstance(action, Run):
            return
        at = (*base, "run" if task.service is None else "service")
        if action.text is not None and "{{" in action.text:
            try:
                self._references(task, at, parse_command(action.text).references, own)
            except ExpressionError as error:
                self._report(at, error)
        for number, word in enumerate(action.argv or ()):
            self._template(task, (*at, number), word, own, "run")

    def _approve(self, task: TaskSpec, base: KeyPath) -> None:
        asked = task.approve
        if asked is None:
            return
        self._asked_once(task, (*base, "approve", "message"), asked.message, _TASK_ROOTS, "a message")
        for place, text in _texts((*base, "approve"), {"show": list(asked.show)}):
            self._asked_once(task, place, text, _PATH_ROOTS, "a path")
        people.check(task, asked, self._spec, self._findings)

    def _asked_once(self, task: TaskSpec, path: KeyPath, text: str, roots: frozenset[str], place: str) -> None:
        """A part of a question, which is no item's: the whole task asks, before its items begin."""
        try:
            named = {access[0] for access in references_of(text)} & {*item_names(task)}
        except ExpressionError:
            named = set()  # reported where the text is checked
        for name in sorted(named):
            message = f"`{name}` means nothing here: the whole task asks once, before its items begin"
            self._findings.add("unknown_name", path, message, "leave it out, or ask in a task of its own")
        if not named:
            self._template(task, path, text, roots, place)

    def _bare(self, task: TaskSpec, path: KeyPath, text: str, roots: frozenset[str], place: str) -> None:
        """An expression that stands by itself."""
        if "{{" in text:
            message = "an expression stands here by itself, without `{{ }}`"
            self._findings.add("bad_expression", path, message, "write it bare, such as `metrics.r2 >= params.min_r2`")
            return
        try:
            expression = compile_expression(text)
        except ExpressionError as error:
            self._report(path, error)
            return
        self._expression(task, path, expression, roots, place)

    def _expression(
        self, task: TaskSpec, path: KeyPath, expression: Expression, roots: frozenset[str], place: str
    ) -> None:
        self._secrets(path, [expression], place)
        self._references(task, path, {access for access in expression.references if access[0] != "secrets"}, roots)

    def _template(
        self,
        task: TaskSpec | None,
        path: KeyPath,
        text: str,
        roots: frozenset[str],
        place: str = "a text",
        *,
        own: bool = True,
    ) -> None:
        """Check a text with `{{ }}`; `place` is what it belongs to, as far as secrets are concerned."""
        if "{{" not in text:
            return
        try:
            template = parse_template(text)
        except ExpressionError as error:
            self._report(path, error)
            return
        self._secrets(path, template.expressions, place)
        found = {access for access in template.references if access[0] != "secrets"}
        self._references(task, path, found, roots, own=own)

    def _secrets(self, path: KeyPath, expressions: Sequence[Expression], place: str) -> None:
        for expression in expressions:
            for error in misuse(expression, self._spec.secrets, place):
                self._report(path, error)

    def _references(
        self,
        task: TaskSpec | None,
        path: KeyPath,
        references: Set[Access],
        roots: frozenset[str],
        *,
        own: bool = True,
    ) -> None:
        if task is not None and own:
            roots |= {*item_names(task)}
            if task.matrix:
                self._axes(task, path, references)
        for error in people.misnamed(task, references):
            self._report(path, error)
        errors = check_references(
            references,
            roots=roots,
            params=self._spec.params,
            upstream=self._above(task, references),
            tasks=self._tasks,
        )
        for error in errors:
            self._report(path, error)

    def _axes(self, task: TaskSpec, path: KeyPath, references: Set[Access]) -> None:
        known = {name for cell in task.matrix for name in cell}
        for access in sorted(references):
            if access[0] == "matrix" and len(access) > 1 and access[1] not in known:
                self._report(path, unknown(access[1], known, "`matrix`: "))

    def _above(self, task: TaskSpec | None, references: Set[Access]) -> Sequence[str]:
        named = {access[1] for access in references if access[0] == "tasks" and len(access) > 1}
        if task is None or self._upstream is None:
            return list(named)
        return [name for name in named if self._upstream(name, task.name)]

    def _report(self, path: KeyPath, error: ExpressionError) -> None:
        self._findings.add(error.code, path, error.message, error.hint)


def _texts(path: KeyPath, value: Any) -> Iterator[tuple[KeyPath, str]]:
    """Every text in plain data, with where it stands."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts((*path, key), item)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _texts((*path, number), item)
