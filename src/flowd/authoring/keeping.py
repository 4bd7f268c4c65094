"""A file's specification once it was checked, kept so that an unchanged file is not parsed twice.

House rules of this room. Only what has no problem is kept. It stands for all that the check
looked at: the file's bytes and folder, flowd's own code, and what the functions that are called
take. Where any of that differs, or what is kept is damaged, the file is read and checked as if
nothing were kept: this room has no messages.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from flowd.authoring.binding import Checked, item_names, reconcile_key
from flowd.authoring.findings import Findings, KeyPath, NoText
from flowd.authoring.nodes import Broken
from flowd.authoring.pipeline import Pipeline
from flowd.authoring.source_file import read_bytes
from flowd.core.spec import Call, Nested, PipelineSpec

if TYPE_CHECKING:
    from flowd.ports.stores import Shelf

_HOME = Path(__file__).parents[1]
_ROOMS = ("authoring", "core")
"""Whose code decides what a file means."""
_PARSER = "yaml"


class _Kept(msgspec.Struct, frozen=True, array_like=True):
    """`seen` is a digest of what stands in the file and around it, `calls` of what is called by it.

    `included` are digests of the files that it includes, by the names that it gives them.
    """

    seen: str
    spec: PipelineSpec
    calls: dict[str, str]
    included: dict[str, str] = {}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Kept).decode


class Unread:
    """The places in a file that is not parsed before one is asked for; a `Source`."""

    def __init__(self, name: str, data: bytes, folder: Path) -> None:
        self.name = name
        self._data = data
        self._folder = folder

    def read(self) -> Any:
        """The file as a document."""
        from flowd.authoring.document import Document, parse
        from flowd.authoring.including import join

        document = Document(self.name)
        findings = Findings(document)
        parse(self._data, findings, document)
        return join(document, self._folder, findings)

    def value(self) -> dict[str, Any]:
        """What the file says, as plain data."""
        value: dict[str, Any] = self.read().value
        return value

    def file(self, path: KeyPath) -> str:
        """The file in which a value stands."""
        name: str = self.read().file(path)
        return name

    def place(self, path: KeyPath, *, key: bool) -> tuple[int, int] | None:
        """Line and column, from 1, of a value or of its key."""
        place: tuple[int, int] | None = self.read().place(path, key=key)
        return place

    def written(self, path: KeyPath) -> str | None:
        """A scalar as it is written."""
        text: str | None = self.read().written(path)
        return text


def taken(shelf: Shelf, path: Path, named: str, data: bytes) -> Pipeline | None:
    """The pipeline of a file with these bytes, if it is kept as it would be read."""
    kept = _opened(shelf.get(_name(path)))
    if kept is None or kept.seen != _seen(path, data) or kept.included != _included(path.parent, kept.included):
        return None
    source = Unread(named, data, path.parent)
    pipeline = Pipeline.of_document({"name": kept.spec.name, "tasks": {}}, source, path.parent, str(path))
    if _calls(pipeline, kept.spec) != kept.calls:
        return None
    pipeline.settle(_bound(pipeline, kept.spec) if kept.calls else Checked(kept.spec, {}, {}), source.value)
    return pipeline


def keep(shelf: Shelf, path: Path, data: bytes, pipeline: Pipeline) -> None:
    """Keep what was read from a file with these bytes, and has no problem."""
    calls = _calls(pipeline, pipeline.spec)
    if calls is None:
        return
    included = _included(path.parent, pipeline.includes)
    body = _encode(_Kept(_seen(path, data), pipeline.spec, calls, included))
    if _decode(body).spec == pipeline.spec:
        shelf.put(_name(path), body)


def _opened(data: bytes | None) -> _Kept | None:
    try:
        return None if data is None else _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # another flowd's
        return None


def _name(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:32]


def _seen(path: Path, data: bytes) -> str:
    """A digest of all that a file's meaning depends on, but for the functions that it names."""
    known = hashlib.sha256(data)
    known.update(repr((str(path), sys.version, msgspec.__version__, _code())).encode())
    return known.hexdigest()


def _included(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """A digest of each included file; of one that is not there, of nothing."""
    found = {}
    for name in names:
        try:
            found[name] = hashlib.sha256(read_bytes(folder / name, Findings(NoText(name)))).hexdigest()
        except Broken:
            found[name] = ""
    return found


def _code() -> str:
    """A digest of the code that reads and checks: another flowd checks anew.

    Of its text, since images that are built reproducibly give all files one time; half a millisecond more than times.
    """
    parser = find_spec(_PARSER)
    folders = [str(_HOME / room) for room in _ROOMS]
    if parser is not None and parser.origin is not None:
        folders.append(os.path.dirname(parser.origin))
    known = hashlib.sha256()
    for folder in folders:
        for name in sorted(os.listdir(folder)):
            if name.endswith(".py"):
                with open(os.path.join(folder, name), "rb", buffering=0) as file:
                    text = file.read()
                known.update(b"%b %d\0" % (os.fsencode(name), len(text)))
                known.update(text)
    return known.hexdigest()


def _calls(pipeline: Pipeline, spec: PipelineSpec) -> dict[str, str] | None:
    """What each function that is called takes, as the check looks at it; None where one cannot be found."""
    found: dict[str, str] = {}
    if any(isinstance(task.action, Nested) for task in spec.tasks):
        return None  # other files may have changed
    for call in _called(spec):
        name = f"{call.module}:{call.function}"
        if name not in found:
            from flowd.authoring.resolve import CallError, outline

            try:
                found[name] = outline(pipeline.resolve(call))
            except CallError:
                return None
    return found


def _bound(pipeline: Pipeline, spec: PipelineSpec) -> Checked:
    """The specification with its functions, which are known to fit."""
    from flowd.authoring.resolve import bind_reconcile, binding_of, parameters_of

    functions, bindings = {}, {}
    takes: dict[Call, list[str]] = {}
    for task in spec.tasks:
        if isinstance(task.action, Call):
            function = functions[task.name] = pipeline.resolve(task.action)
            names = takes.get(task.action)
            if names is None:
                names = takes[task.action] = parameters_of(function)
            bindings[task.name] = binding_of(names, task.needs, task.with_, item_names(task))
        if task.reconcile is not None:
            key = reconcile_key(task.name)
            functions[key] = pipeline.resolve(task.reconcile)
            bindings[key] = bind_reconcile(functions[key], task.needs, task.with_, item_names(task))
    return Checked(spec, functions, bindings)


def _called(spec: PipelineSpec) -> Iterator[Call]:
    for task in spec.tasks:
        if isinstance(task.action, Call):
            yield task.action
        if task.reconcile is not None:
            yield task.reconcile


__all__ = ["Unread", "keep", "taken"]
