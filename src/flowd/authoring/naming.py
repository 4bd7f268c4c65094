"""What the pipelines in a file are called, found without importing or running anything."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from flowd.authoring.build import build
from flowd.authoring.checks import check
from flowd.authoring.document import Document, parse
from flowd.authoring.findings import Findings
from flowd.authoring.importing import CallError
from flowd.authoring.nodes import Broken
from flowd.authoring.source_file import read_bytes
from flowd.core.errors import BadPipeline
from flowd.core.spec import Call

_YAML = frozenset({".yaml", ".yml"})
_OPEN = "not_imported"
"""The code of a problem that is none: whether a function is there was not looked at."""


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline as far as its file tells it.

    `variable` is the name it has in a Python file. None: `name` is computed, `tasks` are counted
    when it is imported, `folder` is where its file is.
    """

    name: str | None
    variable: str | None = None
    tasks: int | None = None
    folder: str | None = None


def named_in(path: Path) -> list[Named]:
    """The pipelines in a YAML or Python file. BadPipeline with what is wrong with it, but for its functions."""
    if path.suffix not in _YAML:
        return list(_assigned(path))
    document = Document(str(path))
    findings = Findings(document)
    with suppress(Broken):  # the findings say why there is nothing to read
        parse(read_bytes(path, findings), findings, document)
    folder = str(path.absolute().parent)
    built = build(document.value, findings, folder=folder, resolve=_unresolved)
    check(built, findings, folder)
    problems = [problem for problem in findings.sorted() if problem.code != _OPEN]
    if problems:
        raise BadPipeline(problems)
    return [Named(name=built.spec.name, tasks=len(built.spec.tasks))]


def _unresolved(_name: str, _call: Call) -> Callable[..., Any]:
    raise CallError(_OPEN, "it is not imported")


def _assigned(path: Path) -> Iterator[Named]:
    """Each `variable = Pipeline("name", …)` that stands at the left margin."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of the user's own code: not asked for here
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        document = Findings(Document(str(path)))
        document.add("bad_python", (), f"this cannot be read as Python: {error}")
        raise BadPipeline(document.problems) from error
    for branch in tree.body:
        value = branch.value if isinstance(branch, ast.Assign | ast.AnnAssign) else None
        if not isinstance(value, ast.Call) or ast.unparse(value.func) not in {"Pipeline", "flowd.Pipeline"}:
            continue
        targets = branch.targets if isinstance(branch, ast.Assign) else [branch.target]  # type: ignore[attr-defined]
        given = {keyword.arg: keyword.value for keyword in value.keywords}
        name = _text(value.args[0] if value.args else given.get("name"))
        for target in targets:
            if isinstance(target, ast.Name):
                yield Named(name=name, variable=target.id, folder=_text(given.get("folder")))


def _text(branch: ast.expr | None) -> str | None:
    return branch.value if isinstance(branch, ast.Constant) and isinstance(branch.value, str) else None
