"""Readers of services: what is begun, its port, its probe, and how it goes on and ends; and what is wrong with them.

House rules of this room: those of `kinds`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import structs

from flowd.authoring import format as table
from flowd.authoring import kinds
from flowd.authoring.findings import Findings, KeyPath, listed, quoted
from flowd.authoring.format import Key
from flowd.authoring.kinds import NONE, WRONG, text, wrong
from flowd.authoring.records import record
from flowd.core.spec import Probe, Retry, Service, Stop, TaskSpec

if TYPE_CHECKING:
    from flowd.authoring.build import Draft

_PROBES = ("http", "tcp", "file", "log", "command")
_MOST_PORT = 65535
_LITERAL = {
    "http": "write a path on the service's own port: /health",
    "command": "the command finds the port in $FLOWD_PORT",
}
KEYS = frozenset({"port", "ready", "restart", "keep", "lifetime", "stop"})


def service(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A command, or a function in a mapping."""
    if not isinstance(value, Mapping):
        return kinds.command(findings, path, value, key)
    if set(value) != {"call"}:
        return wrong(findings, path, "a command, or {call: module:function}", value)
    return kinds.call(findings, (*path, "call"), value["call"], key)


def port(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """A number, or `auto`, which is 0."""
    if value == "auto":
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        return wrong(findings, path, "a port", value, "write a number up to 65535, or `auto` for any free one")
    if 1 <= value <= _MOST_PORT:
        return value
    findings.add("bad_value", path, f"{quoted(value)} is no port", "write 1 to 65535, or `auto` for any free one")
    return WRONG


def tcp(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A port to connect to; true, its own, is 0."""
    if value is True:
        return 0
    found = port(findings, path, value, key)
    if found == 0:
        findings.add("bad_value", path, "`auto` is no port to connect to", "write `true` for the service's own port")
        return WRONG
    return found


def pattern(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A regular expression."""
    found = text(findings, path, value, key)
    if found is WRONG:
        return WRONG
    try:
        re.compile(found)
    except re.error as error:
        findings.add("bad_value", path, f"{quoted(found)} is no regular expression: {error}", "put \\ before . ( [ + *")
        return WRONG
    return found


def natural(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A whole number from 0."""
    return 0 if value == 0 and not isinstance(value, bool) else kinds.count(findings, path, value, key)


def ready(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """A probe: one question at most."""
    read = record(findings, path, value, table.READY, "`ready`")
    asked = [name for name in _PROBES if isinstance(value, Mapping) and name in value]
    if len(asked) > 1:
        message = f"a service is asked one thing, and this says {listed(asked)}"
        findings.add("bad_value", (*path, asked[1]), message, "keep one of them", at_key=True)
        return WRONG
    return Probe(**read)


def restart(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """How often it is begun again, as a policy that counts the first start, too."""
    if value == "none" or (value is None and findings.source.written(path) != ""):
        return NONE
    if isinstance(value, int) and not isinstance(value, bool):
        return wrong(findings, path, "a mapping", value, f"write {{attempts: {value}}}")
    before = len(findings.problems)
    read = record(findings, path, value, table.RESTART, "`restart`")
    if len(findings.problems) > before:
        return WRONG
    return Retry(**{**read, "attempts": read.get("attempts", 0) + 1})


def lifetime(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A duration over zero, a text that gives one, or `none`."""
    if isinstance(value, str) and "{{" in value:
        return text(findings, path, value, key)
    return kinds.span(findings, path, value, key)


def stop(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """How it is asked to end."""
    return Stop(**record(findings, path, value, table.STOP, "`stop`"))


def made(values: Mapping[str, Any]) -> Service:
    """What a task's keys say of its service."""
    given = {name: values[name] for name in KEYS if name in values}
    if isinstance(given.get("lifetime"), str):
        given["lifetime_of"] = given.pop("lifetime")
    return Service(**given)


def kept(tasks: list[TaskSpec]) -> list[TaskSpec]:
    """The tasks, the services among them kept as long as is said, or else as others need them, or with the run."""
    if all(task.service is None for task in tasks):
        return tasks
    needed = {need for task in tasks for need in task.needs}
    return [
        structs.replace(task, service=structs.replace(task.service, keep="needed" if task.name in needed else "run"))
        if task.service is not None and not task.service.keep
        else task
        for task in tasks
    ]


def check(draft: Draft, findings: Findings) -> None:
    """What is missing between the keys of a service."""
    probe = draft.values.get("ready")
    if not isinstance(probe, Probe):
        return
    for name in ("http", "file", "log", "command", "marker"):
        if "{{" in str(draft.raw["ready"].get(name, "")):
            message, hint = f"`{{{{ }}}}` cannot stand in `{name}`", _LITERAL.get(name, "write the text itself")
            findings.add("bad_placement", (*draft.path, "ready", name), message, hint)
    if draft.values.get("port") is not None:
        return
    if (probe.http is not None and "://" not in probe.http) or probe.tcp == 0:
        name = "http" if probe.http is not None else "tcp"
        message = f"`{name}` asks the service's own port, and it has none"
        findings.add(
            "missing_key", (*draft.path, "ready", name), message, "write `port: auto`, or a number", at_key=True
        )
