"""What a pipeline's file shares with others: the keys of the files that it includes, under its own.

What stands in the file itself wins, then what is included last. Mappings, such as `params` or
`env`, are joined name by name; any other value is one whole. Paths are relative to the folder of
the file that includes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from flowd.authoring.document import Document, parse
from flowd.authoring.findings import Findings, KeyPath, listed, plain, quoted
from flowd.authoring.format import PIPELINE
from flowd.authoring.nodes import Broken
from flowd.authoring.source_file import read_bytes

KEY: Final = "include"
_OWN: Final = frozenset(
    {"name", "description", "tasks", "finally", "targets", "schedule", "trigger", "result", KEY}
)  # what makes a pipeline this one


class Joined(Document):
    """A file with what it includes: knows which of them each value stands in."""

    def __init__(self, own: Document) -> None:
        super().__init__(own.name)
        self.root, self.value = own.root, dict(own.value)
        self._from: dict[KeyPath, Document] = {}

    def take(self, shared: Document) -> None:
        """Add what `shared` says and this one does not."""
        for key, value in shared.value.items():
            mine = self.value.get(key)
            if key not in self.value:
                self.value[key] = value
                self._from[key,] = shared
            elif isinstance(mine, dict) and isinstance(value, dict):
                more = {name: item for name, item in value.items() if name not in mine}
                self.value[key] = {**mine, **more}
                self._from |= {(key, name): shared for name in more}

    def home(self, path: KeyPath) -> Document | None:
        """The included file in which a value stands; None where it is this one's own."""
        return self._from.get(path[:2]) or self._from.get(path[:1])

    def file(self, path: KeyPath) -> str:
        """The file in which a value stands."""
        return (self.home(path) or self).name

    def place(self, path: KeyPath, *, key: bool) -> tuple[int, int] | None:
        """Line and column in that file."""
        home = self.home(path)
        return super().place(path, key=key) if home is None else home.place(path, key=key)

    def written(self, path: KeyPath) -> str | None:
        """The text of a scalar as it stands in that file."""
        home = self.home(path)
        return super().written(path) if home is None else home.written(path)


def included(value: Any) -> list[str]:
    """The files that the key `include` names, as far as it is sound."""
    return [name for name in value if isinstance(name, str)] if isinstance(value, list) else []


def join(document: Document, folder: Path, findings: Findings) -> Document:
    """The document with what it includes; `findings` get what is wrong with the included files."""
    names = included(document.value.get(KEY))
    if not names:
        return document
    joined = Joined(document)
    # beside the pipeline's own name, so that whoever reads a problem finds the file from where they stand
    beside = Path(document.name).parent
    for number, name in reversed(list(enumerate(names))):
        shared = _read(name, Document(str(beside / name)), folder / name, (KEY, number), findings)
        if shared is not None:
            joined.take(shared)
    return joined


def _read(written: str, shared: Document, path: Path, place: KeyPath, findings: Findings) -> Document | None:
    """An included file, if it can be read and holds nothing but what can be shared."""
    own = Findings(shared)
    try:
        data = read_bytes(path, own)
    except Broken:
        problem = own.problems[0]
        hint = problem.hint or "name a file beside this one"
        findings.add("bad_include", place, f"{plain(written)}: {problem.message}", hint)
        return None
    if parse(data, own, shared):
        for key in shared.value:
            if key in _OWN:
                hint = f"write it in the file that includes; shared are {listed(_shared(), 30)}"
                own.add("unfit_key", (key,), f"{quoted(key)} cannot be shared", hint, at_key=True)
    findings.problems += own.problems
    return None if own.problems else shared


def _shared() -> Sequence[str]:
    return [name for name, key in PIPELINE.items() if name not in _OWN and not key.later]
