"""From YAML's events to nodes: nothing is expanded before it is weighed.

An alias is a reference until the whole document has been counted, and what an alias stands for
counts each time it stands there. No tag ever makes an object.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from flowd.authoring.findings import Findings, quoted
from flowd.authoring.nodes import Broken, Listing, Mapping, Node, Scalar, at
from flowd.authoring.scalars import resolve

MOST_DEPTH = 64
_FREE_WEIGHT = 10_000
_WEIGHT_FACTOR = 10
_ENDLESS = 10**12
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CORE_TAG = "tag:yaml.org,2002:"
_MERGE = "<<"


class _Refused(Scalar):
    """Stands in for a key that is none, until its value has been read."""

    __slots__ = ()


class Composer:
    """Builds the nodes of one document from YAML's events."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._anchors: dict[str, Node] = {}
        self._own = 0
        self._documents = 0
        self._heaviest: tuple[int, Node] | None = None

    def read(self, text: str) -> Mapping:
        """The root of the one document in `text`; Broken where there is none to go on with."""
        lines = text.split("\n") if "\t" in text else []
        try:
            root = self._tree(yaml.parse(text, Loader=_LOADER))
        except yaml.MarkedYAMLError as error:
            self._syntax(error, lines)
            raise Broken from None
        except (yaml.YAMLError, RecursionError) as error:
            self._findings.add("bad_yaml", (), f"this is not YAML: {error}".split("\n", maxsplit=1)[0])
            raise Broken from None
        if root is None or (isinstance(root, Scalar) and root.plain and resolve(root.value) is None):
            self._refuse("empty_file", "the file is empty", "a pipeline has a `name` and `tasks`", root or Node(1, 1))
            raise Broken
        if not isinstance(root, Mapping):
            hint = "begin with `name: my_pipeline`"
            self._refuse("not_a_mapping", "the file is not a mapping of keys", hint, root)
            raise Broken
        if root.weight > self._own * _WEIGHT_FACTOR + _FREE_WEIGHT:
            node = self._heaviest[1] if self._heaviest else root
            self._refuse("too_heavy", "aliases (`*name`) make this file unfold to far more than is written", "", node)
            raise Broken
        return root

    def _tree(self, events: Iterator[Any]) -> Node | None:
        root: Node | None = None
        open_: list[Node] = []
        keys: list[Scalar | None] = []  # of each open mapping: the key that waits for its value
        for event in events:
            kind: Any = type(event)
            node: Node
            if kind is yaml.ScalarEvent:
                node = self._scalar(event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                node = self._opened(event, len(open_), is_mapping=kind is yaml.MappingStartEvent)
            elif kind is yaml.AliasEvent:
                node = self._alias(event)
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                node = open_.pop()
                keys.pop()
                self._close(node)
                if open_:
                    self._put_into(open_[-1], keys, node)
                else:
                    root = node
                continue
            else:
                if kind is yaml.DocumentStartEvent:
                    self._count(event)
                continue
            if isinstance(node, Listing | Mapping) and kind is not yaml.AliasEvent:
                open_.append(node)
                keys.append(None)
            elif open_:
                self._put_into(open_[-1], keys, node)
            else:
                root = node
        return root

    def _count(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            place = Node(event.start_mark.line + 1, event.start_mark.column + 1)
            self._refuse("many_documents", "a second document begins", "keep one pipeline in a file", place)
            raise Broken

    def _scalar(self, event: Any) -> Scalar:
        mark = event.start_mark
        node = Scalar(mark.line + 1, mark.column + 1, event.value)
        node.plain = event.implicit[0]
        if event.tag is not None and event.tag not in {"!", _CORE_TAG + "str"}:
            self._tag(event, node)
        node.weight = 1 + len(event.value) // 64
        node.done = True
        self._own += node.weight
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _opened(self, event: Any, depth: int, *, is_mapping: bool) -> Node:
        mark = event.start_mark
        node: Node = (Mapping if is_mapping else Listing)(mark.line + 1, mark.column + 1, [])
        if isinstance(node, Mapping):
            node.merged = []
            node.index = None
        if depth >= MOST_DEPTH:
            self._refuse("too_deep", f"this is nested more than {MOST_DEPTH} levels deep", "", node)
            raise Broken
        if event.tag is not None:
            self._tag(event, node)
        self._own += 1
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        mark = event.start_mark
        here = Node(mark.line + 1, mark.column + 1)
        known = self._anchors.get(event.anchor)
        if known is None:
            self._refuse("bad_alias", f"there is no anchor `&{event.anchor}` before this", "", here)
            raise Broken
        if not known.done:
            self._refuse("bad_alias", f"`*{event.anchor}` stands inside itself", "", here)
            raise Broken
        if self._heaviest is None or known.weight > self._heaviest[0]:
            self._heaviest = (known.weight, here)
        return known

    def _put_into(self, parent: Node, keys: list[Scalar | None], node: Node) -> None:
        parent.weight = min(parent.weight + node.weight, _ENDLESS)
        parent.depth = max(parent.depth, node.depth + 1)
        if isinstance(parent, Listing):
            parent.value.append(node)
        elif isinstance(parent, Mapping):
            key = keys[-1]
            if key is None:
                keys[-1] = self._key(node)
            else:
                parent.value.append((key, node))
                keys[-1] = None

    def _key(self, node: Node) -> Scalar:
        if isinstance(node, Scalar):
            return node
        self._refuse(
            "bad_key", "a key is a mapping or a list", "write a text; an expression `{{ }}` needs quotes", node
        )
        return _Refused(node.line, node.column)

    def _close(self, node: Node) -> None:
        node.done = True
        if node.depth > MOST_DEPTH:
            self._refuse("too_deep", f"with its aliases this is nested more than {MOST_DEPTH} levels deep", "", node)
            raise Broken
        if not isinstance(node, Mapping):
            return
        first: dict[str, Scalar] = {}
        kept: list[tuple[Scalar, Node]] = []
        for key, value in node.value:
            if isinstance(key, _Refused):
                continue
            known = first.setdefault(key.value, key)
            if known is not key:
                where = f"lines {known.line} and {key.line}" if known.line != key.line else f"line {key.line}"
                self._refuse(
                    "duplicate_key", f"{quoted(key.value)} is given twice, on {where}", "keep one of them", key
                )
            elif key.plain and key.value == _MERGE:
                self._merge(node, value)
            else:
                kept.append((key, value))
        node.value = kept

    def _merge(self, node: Mapping, value: Node) -> None:
        for one in value.value if isinstance(value, Listing) else [value]:
            if isinstance(one, Mapping):
                node.merged.append(one)
            else:
                self._refuse("wrong_type", "`<<` merges mappings, and this is none", "write `<<: *anchor`", value)

    def _tag(self, event: Any, node: Node) -> None:
        name = event.tag.replace(_CORE_TAG, "!!")
        self._refuse("custom_tag", f"the tag {quoted(name)} is not supported", "write plain values", node)

    def _refuse(self, code: str, message: str, hint: str, node: Node) -> None:
        at(self._findings, code, message, hint, node.line - 1, node.column - 1)

    def _syntax(self, error: yaml.MarkedYAMLError, lines: list[str]) -> None:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        problem = error.problem or "it cannot be read"
        here = lines[line] if line < len(lines) else ""
        indent = here[: len(here) - len(here.lstrip())]
        if "\t" in indent or "tab character" in problem:
            at(
                self._findings,
                "tab",
                "a tab stands where the line is indented",
                "indent with spaces",
                line,
                max(indent.find("\t"), 0),
            )
            return
        if "nesting depth" in problem:
            at(self._findings, "too_deep", "this is nested too deep", "", line, column)
            return
        context = f"{error.context}: " if error.context and error.context != problem else ""
        at(self._findings, "bad_yaml", f"this is not YAML: {context}{problem}", _advice(problem), line, column)


def _advice(problem: str) -> str:
    if "mapping values are not allowed" in problem:
        return "a value that holds `: ` needs quotes"
    if "cannot start any token" in problem:
        return "a value that begins with @, ` or % needs quotes"
    if "end of stream" in problem or "expected node content" in problem:
        return "a quote or bracket is not closed"
    if "did not find expected" in problem or "could not find expected" in problem:
        return "look at the indentation, and at the brackets and quotes before this place"
    return ""
