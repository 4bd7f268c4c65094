"""The parts of a task's fingerprint, gathered from the world; `core.freshness` judges them.

Expressions are resolved against paths as they are written, so that a project that is moved
stays fresh. Code is digested after parsing, without docstrings, comments and layout.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from flowd.core import syntax
from flowd.core.commands import words_of
from flowd.core.patterns import named as named_by
from flowd.core.spec import Call, Run, TaskSpec
from flowd.engine.files import ABSENT, Declared, Files

_encoder = msgspec.json.Encoder(order="sorted")
_SHORT = 32


def digest_of(value: Any) -> str:
    """A digest of plain data, or of how it is written where it is not plain."""
    try:
        data = _encoder.encode(value)
    except (TypeError, ValueError, UnicodeEncodeError):
        data = repr(value).encode("utf-8", "backslashreplace")
    return hashlib.sha256(data).hexdigest()[:_SHORT]


Named = dict[tuple[str, str], str | None]
"""The file in the pipeline's folder that a word of a command names, seen from where it runs."""


class Codes:
    """Digests of code, each file looked at once for all tasks of a run."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._modules: dict[str, str] = {}
        self._home = f"{str(files.folder).rstrip('/')}/"

    def parts(self, task: TaskSpec, function_file: Path | None, named: Named | None = None) -> dict[str, str]:
        """The `code:` parts: the function's module, scripts that the command names, `code` globs.

        `named` remembers what words name, for as long as nothing runs.
        """
        paths = self._paths(task, function_file, {} if named is None else named)
        return {f"code:{path.removeprefix(self._home)}": self._module(path) for path in paths}

    def _paths(self, task: TaskSpec, function_file: Path | None, named: Named) -> Iterable[str]:
        if isinstance(task.action, Call):
            if function_file is not None:
                yield str(function_file)
        elif isinstance(task.action, Run):
            words = words_of(task.action.text) if task.action.text is not None else task.action.argv or ()
            cwd = task.cwd if task.cwd and "{{" not in task.cwd else ""
            declared: Declared | None = None
            for word in words:
                if "{{" in word or "\0" in word or len(word) > 1000:
                    continue
                if declared is None:
                    declared = _declared(task, self._files)
                if self._files.place(os.path.join(cwd, word)) not in declared:
                    path = self._file_named(cwd, word, named)
                    if path is not None:
                        yield path
        for pattern in task.code:
            for written in self._files.matches(named_by(pattern)):
                yield self._files.place(written)

    def _file_named(self, cwd: str, word: str, named: Named) -> str | None:
        key = (cwd, word)
        if key not in named:
            folder = self._files.folder
            path = Path(folder, cwd, word)
            named[key] = str(path) if path.is_relative_to(folder) and path.is_file() else None
        return named[key]

    def _module(self, path: str) -> str:
        known = self._modules.get(path)
        if known is None:
            known = self._modules[path] = _code_digest(path, self._files)
        return known


def _declared(task: TaskSpec, files: Files) -> Declared:
    """What a task declares as its inputs and outputs, as far as it is written out."""
    written = [*(ref.path for ref in task.inputs), *(ref.path for ref in task.outputs)]
    return Declared(files, [named_by(path) for path in written if "{{" not in path])


def _code_digest(path: str, files: Files) -> str:
    look = files.look(path)
    if look is None or not path.endswith(".py"):
        return (ABSENT if look is None else look.digest)[:_SHORT]
    if look.code:
        return look.code
    try:
        data = Path(path).read_bytes()
        code = _meaning(data)
    except (OSError, SyntaxError, ValueError, RecursionError):
        return look.digest[:_SHORT]
    if hashlib.sha256(data).hexdigest() == look.digest:
        files.note_code(path, look, code)
    return code


def _meaning(source: bytes) -> str:
    """A digest of Python code without docstrings, comments and layout."""
    import ast

    tree = syntax.module(source)
    for branch in ast.walk(tree):
        if isinstance(branch, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = branch.body[0] if branch.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                branch.body[0] = ast.Pass()
    return hashlib.sha256(ast.unparse(tree).encode("utf-8", "surrogatepass")).hexdigest()[:_SHORT]


def plain_parts(
    task: TaskSpec,
    *,
    action: Any,
    with_: Mapping[str, Any],
    env: Mapping[str, str],
    params: Mapping[str, Any],
    read_params: Iterable[str],
    products: Mapping[str, str],
) -> dict[str, str]:
    """All parts that need no file: the resolved action, `with`, `env`, params read, needs' products.

    `products` are those of the direct needs; an empty one only orders and does not count.
    """
    until = None if task.repeat is None else {"until": task.repeat.until}
    where = [part for part in (task.cwd, task.shell if task.shell != "sh" else None, until) if part is not None]
    parts = {"action": digest_of([task.executor, action, *where])}
    if with_:
        parts["with"] = digest_of(with_)
    if env:
        parts["env"] = digest_of(env)
    for name in read_params:
        parts[f"param:{name}"] = digest_of(params.get(name))
    for need, given in products.items():
        if given:
            parts[f"need:{need}"] = digest_of(given)
    return parts


def input_part(digest: str) -> str:
    """A file's digest as a fingerprint part."""
    return digest if digest == ABSENT else digest[:_SHORT]
