"""What secrets look like in texts, in every form that they are printed in, and texts without them.

House rules of this room. It is told values and never asks where they come from. Rather too much
is hidden than too little: a form that is found anywhere is replaced, whatever it stood for there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from flowd.guardian.redaction import Finder

HIDDEN: Final = "***"
SHORTEST: Final = 4
"""A value of fewer characters cannot be told from ordinary text; such a secret is refused."""

_ALIGNMENTS: Final = ((0, 0), (1, 2), (2, 3))
_PLAIN: Final = frozenset({bool, type(None)})


def forms_of(value: str) -> frozenset[str]:
    """Every text that shows `value`: itself and its lines, quoted, escaped and encoded as programs do."""
    whole = value.strip("\r\n")
    found = {form for text in (value, whole) for form in _encoded(text.encode())}.union(_texts(whole))
    for line in whole.splitlines():
        if any(letter.isalnum() for letter in line):
            found.update(_texts(line), _texts(line.strip()))
    return frozenset(form for form in found if len(form) >= SHORTEST)


def _texts(text: str) -> Iterator[str]:
    """As it is, and as JSON, Python, a URL, a shell and HTML write it."""
    import html
    from urllib.parse import quote, quote_plus

    yield text
    for one in _escaped(text):
        yield one
        yield one.replace("/", "\\/")
        yield from _escaped(one)  # JSON in JSON, or what is logged of it
    for one in (quote(text, safe=""), quote(text), quote_plus(text)):
        yield one
        yield re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), one)
    yield text.replace("'", "'\"'\"'")
    yield text.replace("'", "'\\''")
    yield re.sub(r"([^\w@%+=:,./\n-])", r"\\\1", text)
    yield re.sub(r'(["\\$`!])', r"\\\1", text)
    yield re.sub(r'(["\\$`])', r"\\\1", text)
    yield from (html.escape(text), html.escape(text, quote=False))


def _escaped(text: str) -> set[str]:
    """As JSON and Python write it, whichever quotes they choose."""
    from json import dumps

    return {
        dumps(text)[1:-1],
        dumps(text, ensure_ascii=False)[1:-1],
        repr(text)[1:-1],
        ascii(text)[1:-1],
        repr(text.encode())[2:-1],
        text.replace("\\", "\\\\").replace("'", "\\'"),
    }


def _encoded(data: bytes) -> Iterator[str]:
    """In hex, and in base64 wherever in a text the value begins."""
    from base64 import b64encode

    yield data.hex()
    yield data.hex().upper()
    for before, shared in _ALIGNMENTS:
        code = b64encode(bytes(before) + data).decode()
        end = len(code.rstrip("=")) - (1 if code.endswith("=") else 0)  # the last letter holds bits of what follows
        yield from (code[shared:end], code[shared:end].translate(str.maketrans("+/", "-_")))


class Secrecy:
    """The secrets that are known by now, and everything that is said without them.

    It is asked by every thread that speaks; what is learned counts from then on.
    """

    def __init__(self) -> None:
        self._values: set[str] = set()
        self._finder: Finder | None = None
        self.forms: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self._finder is not None

    def learn(self, value: str) -> None:
        """Let `value` be hidden from now on."""
        if value in self._values or len(value) < SHORTEST:
            return
        self._values.add(value)
        forms = forms_of(value).union(self.forms)
        self.forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))
        self._finder = Finder(form.encode() for form in self.forms)

    def hide(self, text: str) -> str:
        """`text` with `***` for every secret in it."""
        if self._finder is None:
            return text
        data = text.encode("utf-8", "surrogatepass")
        shown = self._finder.hide(data)
        return text if shown is data else shown.decode("utf-8", "surrogatepass")

    def holds(self, text: str) -> bool:
        """Whether a secret stands in `text`."""
        return self.holds_bytes(text.encode("utf-8", "surrogatepass"))

    def holds_bytes(self, data: bytes) -> bool:
        """Whether a secret stands in `data`, as UTF-8."""
        return self._finder is not None and self._finder.find(data, 0, last=True) is not None

    def hide_in(self, value: Any) -> Any:
        """JSON-like data without secrets: in texts, numbers and keys, however deep."""
        if self._finder is None or type(value) in _PLAIN:
            return value
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, int | float):
            return HIDDEN if self.holds(repr(value)) else value
        if isinstance(value, Mapping):
            return {self.hide_in(key): self.hide_in(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide_in(item) for item in value]
        return value

    def hide_said(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a task says for people, of any type, as plain data without secrets."""
        if self._finder is None:
            return fields
        plain: Mapping[str, Any] = self.hide_in({self.hide(str(name)): self._plain(fields[name]) for name in fields})
        return plain

    def _plain(self, value: Any) -> Any:
        if isinstance(value, bytes | bytearray | memoryview):  # they would be shown in base64
            return self.hide(bytes(value).decode("utf-8", "backslashreplace"))
        try:
            return msgspec.to_builtins(value, enc_hook=str, str_keys=True)
        except Exception as error:  # noqa: BLE001  # a log line must not fail the task that logs
            return f"(its text could not be made: {type(error).__name__})"
