"""Secrets as they are declared, and the places where an expression may name one.

House rules of this room: those of `kinds`. No value is ever looked at here.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from flowd.authoring import format as table
from flowd.authoring.findings import Findings, KeyPath, listed, quoted
from flowd.authoring.format import Key
from flowd.authoring.kinds import WRONG, check_name, pairs, text, wrong
from flowd.authoring.records import record
from flowd.core.expressions import Expression, ExpressionError, unknown
from flowd.core.graph import case_clashes
from flowd.core.spec import Secret

_EXAMPLE = "{TOKEN: {env: MY_TOKEN}}"
_ALONE = re.compile(r"""secrets(?:\.[A-Za-z_]\w*|\[(?:"[^"\\]*"|'[^'\\]*')\])""")


def secrets(findings: Findings, path: KeyPath, value: Any, _key: Key) -> Any:
    """Where each secret comes from."""
    found = {}
    written = pairs(findings, path, value, _EXAMPLE)
    for place, name, item in written:
        if not check_name(findings, place, name, at_key=True):
            continue
        if not isinstance(item, Mapping):
            hint = "write {env: VARIABLE}, {file: PATH}, {command: [program, argument]} or {keyring: SERVICE}"
            wrong(findings, place, "where the secret comes from", item if isinstance(item, list) else None, hint)
            continue
        before = len(findings.problems)
        read = record(findings, place, item, table.SECRET, f"secret {quoted(name)}")
        if len(findings.problems) == before and _is_one(findings, place, item):
            found[name] = Secret(**read)
    for first, second in case_clashes(name for _, name, _ in written):
        message = f"{quoted(second)} and {quoted(first)} differ only in case"
        findings.add("name_case", (*path, second), message, "rename one of them", at_key=True)
    return found


def _is_one(findings: Findings, path: KeyPath, item: Mapping[str, Any]) -> bool:
    sources = [name for name in item if name in table.SECRET and name != "user"]
    if len(sources) != 1:
        what = f"it has {listed(sources)}" if sources else "it comes from nowhere"
        hint = f"write one of {listed(name for name in table.SECRET if name != 'user')}"
        findings.add("bad_secret", path, f"a secret has one source, and {what}", hint, at_key=True)
    elif "user" in item and sources != ["keyring"]:
        findings.add(
            "unfit_key", (*path, "user"), "`user` has no meaning but beside `keyring`", "remove it", at_key=True
        )
    return len(sources) == 1


def argv(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A program and its arguments, without a shell and without expressions."""
    if not isinstance(value, list | tuple) or not value:
        hint = f'write ["sh", "-c", "{value}"]' if isinstance(value, str) and value else "write [program, argument, …]"
        return wrong(findings, path, "[program, argument, …]", value, hint)
    words = [text(findings, (*path, number), item, key) for number, item in enumerate(value)]
    if any(word is WRONG for word in words):
        return WRONG
    for number, word in enumerate(words):
        if "{{" in word:
            message = "`{{ }}` cannot stand in the command of a secret"
            findings.add("bad_placement", (*path, number), message, "write the argument itself")
            return WRONG
    return tuple(words)


def literal(findings: Findings, path: KeyPath, value: Any, key: Key) -> Any:
    """A text that is no template, such as the name of a variable."""
    found = text(findings, path, value, key)
    if found is WRONG:
        return WRONG
    if "{{" in found:
        findings.add("bad_placement", path, f"`{{{{ }}}}` cannot stand in `{key.name}`", "write it out")
        return WRONG
    if not found.strip() or "\n" in found or (key.name == "env" and "=" in found):
        findings.add(
            "bad_value", path, f"{quoted(found)} is no {_WHAT.get(key.name, 'name')}", f"write {_SUCH[key.name]}"
        )
        return WRONG
    return found


_WHAT = {"env": "name of an environment variable", "file": "path of a file", "keyring": "name of a service"}
_SUCH = {"env": "MY_TOKEN", "file": "/run/secrets/token", "keyring": "my-service", "user": "my-name"}


def misuse(expression: Expression, declared: Collection[str], place: str) -> Iterator[ExpressionError]:
    """What is wrong with an expression that names a secret, at a place that is `env`, `with`, a `run`, or another."""
    names = [access[1:] for access in expression.references if access[0] == "secrets"]
    if not names:
        return
    if place == "run":
        yield ExpressionError(
            "secret_in_run", f"a secret in a command line can be read by others: `{expression.text}`", "pass it by env"
        )
    elif place not in {"env", "with", "notify"}:
        message = f"a secret cannot stand in {place}, which is no secret: `{expression.text}`"
        yield ExpressionError("secret_misplaced", message, "use it in `env` or `with`")
    elif not _ALONE.fullmatch(expression.text.strip()):
        message = f"`{expression.text}` computes with a secret, and what comes of it could not be kept out of the logs"
        yield ExpressionError("secret_computed", message, "write `{{ secrets.NAME }}` alone, with text around it")
    for name in sorted({rest[0] for rest in names if rest}):
        if name not in declared:
            error = unknown(name, declared, "`secrets`: ")
            yield ExpressionError(
                error.code, error.message, error.hint or f"declare it: `secrets: {{{name}: {{env: {name}}}}}`"
            )


__all__ = ["argv", "literal", "misuse", "secrets"]
