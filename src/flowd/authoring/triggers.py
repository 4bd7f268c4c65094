"""What starts runs, groups them and keeps them, as it is declared.

House rules of this room: those of `kinds`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from flowd.authoring import format as table
from flowd.authoring.findings import Findings, KeyPath, listed, quoted
from flowd.authoring.format import Key
from flowd.authoring.kinds import WRONG, amount, items, path_text, text, wrong
from flowd.authoring.records import record
from flowd.core.declared import Group, Retention, Trigger

_KINDS: Final = {"file": ("settle",), "webhook": ("secret",), "after": ("on",)}
_EXAMPLE: Final = '[{file: "inbox/*.csv"}], [{webhook: deploy}] or [{after: ingest}]'
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kKMGT]?)(i?)B")
_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def trigger(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """A list of what starts a run."""
    found = []
    hooks: set[str] = set()
    for place, item in items(findings, path, value, _EXAMPLE):
        before = len(findings.problems)
        read = record(findings, place, item, table.TRIGGER, "a trigger")
        if isinstance(item, Mapping):
            _check_kind(findings, place, item)
        if len(findings.problems) > before:
            continue
        if "webhook" in read:
            if read["webhook"] in hooks:
                message = f"there are two webhooks {quoted(read['webhook'])}"
                findings.add("duplicate_name", (*place, "webhook"), message, "give each a name of its own")
            hooks.add(read["webhook"])
        if "after" in read:
            read.setdefault("on", ("succeeded",))
        found.append(Trigger(**read))
    return tuple(found)


def _check_kind(findings: Findings, path: KeyPath, item: Mapping[str, Any]) -> None:
    kinds = [name for name in _KINDS if name in item]
    if len(kinds) != 1:
        what = f"it has {listed(kinds)}" if kinds else "it waits for nothing"
        findings.add("bad_trigger", path, f"a trigger is one of {listed(_KINDS)}, and {what}", f"write {_EXAMPLE}")
        return
    for kind, more in _KINDS.items():
        for name in more:
            if kind != kinds[0] and name in item:
                message = f"{quoted(name)} has no meaning beside {quoted(kinds[0])}"
                findings.add("unfit_key", (*path, name), message, "remove it", at_key=True)


def untemplated(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A path or glob that is known before there is a run."""
    found = path_text(findings, path, value, key)
    if found is not WRONG and "{{" in found:
        message = f"`{{{{ }}}}` cannot stand in `{key.name}`, since there is no run yet"
        findings.add("bad_placement", path, message, "write the path itself")
        return WRONG
    return found


def secret(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A template of a secret; the secret itself is refused, and not repeated."""
    found = text(findings, path, value, key)
    if found is not WRONG and "{{" not in found:
        message = "a secret does not stand in a file"
        findings.add("secret_in_file", path, message, "declare it under `secrets`, and write `{{ secrets.NAME }}`")
        return WRONG
    return found


def group(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """Which runs never overlap."""
    before = len(findings.problems)
    read = record(findings, path, value, table.GROUP, "`group`")
    return Group(**read) if len(findings.problems) == before else WRONG


def template(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A text that may hold expressions."""
    found = text(findings, path, value, key)
    if found is not WRONG and not found.strip():
        findings.add("bad_value", path, "this is empty", "write `{{ }}` with an expression")
        return WRONG
    return found


def retention(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """What is kept of runs."""
    before = len(findings.problems)
    read = record(findings, path, value, table.RETENTION, "`retention`")
    if len(findings.problems) > before:
        return WRONG
    if not read:
        findings.add(
            "bad_value", path, "it bounds nothing", "write {runs: 50}, {age: 90d} or {size: 10GB}", at_key=True
        )
        return WRONG
    return Retention(**read)


def size(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """Bytes: a number of them, or with a unit (kB, MB, GB, TB of a thousand; KiB, MiB … of 1024)."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        found = amount(findings, path, value, key)
        return found if found is WRONG else max(int(found), 1)
    if not isinstance(value, str):
        return wrong(findings, path, "a size", value, "write a number and a unit: 500MB, 10GB")
    parts = _SIZE.fullmatch(value.strip())
    number = 0.0 if parts is None else float(parts[1]) * (1024 if parts[3] else 1000) ** _POWERS[parts[2].upper()]
    if not 1 <= number < 2**63:
        findings.add("bad_size", path, f"{quoted(value)} is no size", "write a number and a unit: 500MB, 10GB, 2GiB")
        return WRONG
    return int(number)


__all__ = ["group", "retention", "secret", "size", "template", "trigger", "untemplated"]
