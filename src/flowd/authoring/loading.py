"""From what names a pipeline (a YAML file, `file.py[:name]`, `module:name`) to the pipeline; and finding them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from flowd.authoring.findings import Findings, NoText, did_you_mean, listed
from flowd.authoring.importing import CallError, import_beside
from flowd.authoring.nodes import Broken
from flowd.authoring.pipeline import Pipeline
from flowd.authoring.source_file import read_bytes
from flowd.core.errors import BadPipeline

if TYPE_CHECKING:
    from flowd.ports.stores import Shelf

_YAML = frozenset({".yaml", ".yml"})
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_MOST_FOUND = 1_000
_MOST_LOOKED_AT = 20_000
_LOOKED_INTO = 64 * 1024
_PASSED_OVER = frozenset({"node_modules", "__pycache__", "site-packages", "venv", "env", "build", "dist"})
# in YAML's block style, or written as JSON
_IS_YAML = tuple(re.compile(rb'(?:^|[{,]\s*)"?%b"?\s*:' % key, re.MULTILINE) for key in (b"name", b"tasks"))
_IS_PYTHON = (
    re.compile(rb"^\w+[ \t]*(?::[^=\n]*)?=\s*(?:flowd\.)?Pipeline\(", re.MULTILINE),  # in linear time
    re.compile(rb"\bflowd\b"),
)


ShelfOf = Callable[[Path], "Shelf"]
"""Where what is found in a folder's files is kept."""


def load(named: str, shelf_of: ShelfOf | None = None) -> Pipeline:
    """The pipeline that `named` names. Raises BadPipeline with every problem."""
    path, _, name = named.partition(":")
    if path.endswith(".py"):
        return _from_python(Path(path), name)
    if name and _DOTTED.fullmatch(path) and Path(path).suffix not in _YAML and not os.path.exists(named):
        return _from_module(path, name, named)
    return _from_file(Path(named).absolute(), named, shelf_of)


def _from_file(path: Path, named: str, shelf_of: ShelfOf | None) -> Pipeline:
    findings = Findings(NoText(named))
    try:
        data = read_bytes(Path(named), findings)
    except Broken:
        raise BadPipeline(findings.problems) from None
    shelf = shelf_of(path.parent) if shelf_of is not None else None
    if shelf is None:
        return _from_yaml(path, named, data)
    from flowd.authoring.keeping import keep, taken

    pipeline = taken(shelf, path, named, data)
    if pipeline is None:
        pipeline = _from_yaml(path, named, data)
        keep(shelf, path, data, pipeline)
    return pipeline


def _from_yaml(path: Path, named: str, data: bytes) -> Pipeline:
    from flowd.authoring.document import Document, parse
    from flowd.authoring.including import join

    document = Document(named)
    findings = Findings(document)
    readable = parse(data, findings, document)
    document = join(document, path.parent, findings)
    pipeline = Pipeline.of_document(document.value, document, path.parent, str(path))
    problems = findings.sorted()
    if readable:  # what is wrong with the text does not hide what is wrong with what it says
        try:
            pipeline.definition()
        except BadPipeline as bad:
            problems += [problem for problem in bad.problems if problem not in problems]
    if problems:
        raise BadPipeline(sorted(problems, key=lambda problem: (problem.line or 0, problem.column or 0)))
    return pipeline


def _from_python(path: Path, name: str) -> Pipeline:
    if not os.path.isfile(path):  # which, unlike a Path's, says so of a name that is too long
        raise _refused(str(path), "no_file", "this is not a file" if os.path.exists(path) else "there is no such file")
    if not path.stem.isidentifier():
        hint = "rename it: letters, digits and `_`, not beginning with a digit"
        raise _refused(str(path), "bad_module_name", f"`{path.stem}` is no name of a module", hint)
    module = _imported(path.absolute().parent, path.stem, str(path))
    if not _is_from(module, path):
        hint = "rename it: another module has this name"
        raise _refused(str(path), "bad_module_name", f"`{path.stem}` is a module of Python's or of flowd's", hint)
    return _chosen(module, name, str(path)).loaded_as(f"{path.absolute()}:{name}" if name else str(path.absolute()))


def _is_from(module: ModuleType, path: Path) -> bool:
    try:
        return os.path.samefile(module.__file__ or "", path)
    except (AttributeError, OSError):
        return False


def _from_module(module: str, name: str, named: str) -> Pipeline:
    return _chosen(_imported(Path.cwd(), module, named), name, named).loaded_as(named)


def _imported(folder: Path, module: str, named: str) -> ModuleType:
    try:
        return import_beside(folder, module)
    except BadPipeline:
        raise
    except CallError as error:
        if isinstance(error.__cause__, BadPipeline):  # a decorator in the module has refused its function
            raise error.__cause__ from error
        raise _refused(named, error.code, error.message, error.hint) from error


def _chosen(module: ModuleType, name: str, named: str) -> Pipeline:
    found = {key: value for key, value in vars(module).items() if isinstance(value, Pipeline)}
    if name:
        if name not in found:
            hint = did_you_mean(name, found, f"it has {listed(found)}" if found else "write `name = Pipeline(…)` in it")
            raise _refused(named, "no_pipeline", f"there is no pipeline `{name}` in it", hint)
        return found[name]
    distinct = {id(value): key for key, value in found.items()}
    if len(distinct) == 1:
        return next(iter(found.values()))
    if "pipeline" in found:
        return found["pipeline"]
    if not found:
        raise _refused(named, "no_pipeline", "there is no pipeline in it", "write `name = Pipeline(…)` in it")
    raise _refused(named, "many_pipelines", f"it has {listed(found)}", f"name one: {named}:{next(iter(found))}")


def _refused(file: str, code: str, message: str, hint: str = "") -> BadPipeline:
    findings = Findings(NoText(file))
    findings.add(code, (), message, hint)
    return BadPipeline(findings.problems)


# --- finding -----------------------------------------------------------------------------------------


def discover(folder: Path) -> list[Path]:
    """The files in `folder` and below that look like pipelines, relative to it, sorted; none is loaded."""
    found: list[Path] = []
    for path in candidates(folder):
        if len(found) == _MOST_FOUND:
            break
        if looks_like_one(path):
            found.append(path.relative_to(folder))
    return sorted(found)


def looks_like_one(path: Path) -> bool:
    """Whether a pipeline seems to be written in a file, of which a piece is read."""
    marks = _IS_YAML if path.suffix in _YAML else _IS_PYTHON
    try:
        with path.open("rb") as file:
            text = file.read(_LOOKED_INTO)
    except OSError:
        return False  # what cannot be read is nothing to offer
    return all(mark.search(text) for mark in marks)


def candidates(folder: Path) -> Iterator[Path]:
    """The files in `folder` and below in which pipelines may be, by their names."""
    looked_at = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _PASSED_OVER)
        for name in sorted(names):
            looked_at += 1
            if looked_at > _MOST_LOOKED_AT:
                return
            path = Path(parent, name)
            if not name.startswith(".") and path.suffix in {*_YAML, ".py"} and path.is_file():
                yield path
