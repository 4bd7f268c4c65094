"""A YAML file as plain data that knows the line and column of every key and value.

House rules of this room. The text is weighed as nodes, and only then made into
plain data. Positions are looked up only when a problem needs them.
"""

from __future__ import annotations

import re
from typing import Any

from flowd.authoring.composing import Composer
from flowd.authoring.findings import Findings, KeyPath
from flowd.authoring.nodes import Broken, Listing, Mapping, Node, Scalar, at
from flowd.authoring.scalars import resolve

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")


class Document:
    """A file that was read: `value` is plain data; a `Source` of places for problems."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.root: Node | None = None
        self.value: dict[str, Any] = {}

    def file(self, path: KeyPath) -> str:  # noqa: ARG002  # the Protocol's
        """There is no other."""
        return self.name

    def place(self, path: KeyPath, *, key: bool) -> tuple[int, int] | None:
        """Line and column of a value or its key; of the nearest thing around it where it is absent."""
        node = self.root
        if node is None:
            return None
        spot: Node = node
        for number, part in enumerate(path):
            last = number == len(path) - 1
            if isinstance(node, Mapping) and isinstance(part, str):
                pair = node.find(part)
                if pair is None:
                    break
                node = pair[1]
                spot = pair[0] if not last or key or isinstance(node, Mapping) else node
            elif isinstance(node, Listing) and isinstance(part, int) and part < len(node.value):
                spot = node = node.value[part]
            else:
                break
        return spot.line, spot.column

    def written(self, path: KeyPath) -> str | None:
        """The text of a scalar as it stands in the file."""
        node = self.root
        for part in path:
            if isinstance(node, Mapping) and isinstance(part, str):
                pair = node.find(part)
                node = pair[1] if pair else None
            elif isinstance(node, Listing) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
            else:
                return None
        return node.value if isinstance(node, Scalar) else None


def parse(data: bytes, findings: Findings, document: Document) -> bool:
    """Fill `document` from a file's bytes; False where nothing more can be said of it than the findings do."""
    try:
        text = _decoded(data, findings)
        document.root = root = Composer(findings).read(text)
        document.value = _made(root)
    except Broken:
        return False
    return True


# --- the text ------------------------------------------------------------------------------------------


def _decoded(data: bytes, findings: Findings) -> str:
    hint = "save it as UTF-8 without a byte order mark"
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        findings.add("bad_encoding", (), "it begins with a byte order mark", hint)
        raise Broken
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        _put(
            findings,
            "bad_encoding",
            f"byte {data[error.start]:#04x} is not UTF-8",
            "save the file as UTF-8",
            before.decode(),
        )
        raise Broken from None
    if (found := _FORBIDDEN.search(text)) is not None:
        name = f"U+{ord(found[0]):04X}"
        _put(
            findings,
            "bad_character",
            f"the character {name} is not allowed in YAML",
            "remove it",
            text[: found.start()],
        )
        raise Broken
    return text


def _put(findings: Findings, code: str, message: str, hint: str, before: str) -> None:
    """Report at the end of `before`: the text up to the place."""
    line = before.count("\n")
    at(findings, code, message, hint, line, len(before) - (before.rfind("\n") + 1))


# --- nodes to plain data -----------------------------------------------------------------------------


def _made(node: Node) -> Any:
    """The plain data of a node; what several aliases stand for is made once."""
    if isinstance(node, Scalar):
        return resolve(node.value) if node.plain else node.value
    if node.made is None:
        if isinstance(node, Listing):
            node.made = [_made(item) for item in node.value]
        elif isinstance(node, Mapping):
            node.made = {}
            for other in reversed(node.merged):
                node.made.update(_made(other))
            for key, value in node.value:
                # Own keys keep their own place in the order.
                node.made.pop(key.value, None)
                node.made[key.value] = _made(value)
    return node.made
