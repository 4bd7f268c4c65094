"""The parts of a task's fingerprint, gathered from the world; `core.freshness` judges them.

Expressions are resolved against paths as they are written, so that a project that is moved
stays fresh. Code is digested after parsing, without docstrings, comments and layout.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from flowd.core.commands import words_of
from flowd.core.graph import finds, is_pattern
from flowd.core.spec import Call, TaskSpec
from flowd.engine.files import ABSENT, Files

_encoder = msgspec.json.Encoder(order="sorted")
_SHORT = 32


def digest_of(value: Any) -> str:
    """A digest of plain data, or of how it is written where it is not plain."""
    try:
        data = _encoder.encode(value)
    except (TypeError, ValueError, UnicodeEncodeError):
        data = repr(value).encode("utf-8", "backslashreplace")
    return hashlib.sha256(data).hexdigest()[:_SHORT]


class Codes:
    """Digests of code, each file read once for all tasks of a run."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._modules: dict[Path, str] = {}

    def parts(self, task: TaskSpec, function_file: Path | None) -> dict[str, str]:
        """The `code:` parts: the function's module, scripts that the command names, `code` globs."""
        found: dict[str, str] = {}
        for path in self._paths(task, function_file):
            found[f"code:{self._written(path)}"] = self._module(path)
        return found

    def _paths(self, task: TaskSpec, function_file: Path | None) -> Iterable[Path]:
        if isinstance(task.action, Call):
            if function_file is not None:
                yield function_file
        else:
            folder = self._files.folder
            words = words_of(task.action.text) if task.action.text is not None else task.action.argv or ()
            cwd = folder / task.cwd if task.cwd and "{{" not in task.cwd else folder
            for word in words:
                if "{{" in word or "\0" in word or len(word) > 1000:
                    continue
                path = Path(cwd, word)
                if path.is_relative_to(folder) and path.is_file() and not _declared(task, path, self._files):
                    yield path
        for pattern in task.code:
            for written in self._files.matches(pattern):
                yield self._files.path(written)

    def _written(self, path: Path) -> str:
        folder = self._files.folder
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()

    def _module(self, path: Path) -> str:
        known = self._modules.get(path)
        if known is None:
            known = self._modules[path] = _code_digest(path, self._files)
        return known


def _declared(task: TaskSpec, path: Path, files: Files) -> bool:
    named = [*(ref.path for ref in task.inputs), *(ref.path for ref in task.outputs)]
    own = [str(files.path(written)) for written in named if "{{" not in written]
    return any(one == str(path) or (is_pattern(one) and finds(one, str(path))) for one in own)


def _code_digest(path: Path, files: Files) -> str:
    if path.suffix != ".py":
        return files.digest(path)[:_SHORT]
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return files.digest(path)[:_SHORT]
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
    where = [part for part in (task.cwd, task.shell if task.shell != "sh" else None) if part is not None]
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
