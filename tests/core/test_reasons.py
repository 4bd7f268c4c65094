"""The table of reasons: used whole, and nothing beside it; and the page that lists it with the events."""

from __future__ import annotations

import ast
import re
import string
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from flowd.core import events as e
from flowd.core.reasons import REASONS, because

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "flowd"
MODULES = [path for path in sorted(SOURCE.rglob("*.py")) if "testing" not in path.relative_to(SOURCE).parts]
GIVERS = {"because", "_stale"}


def calls() -> Iterator[tuple[Path, ast.Call, str]]:
    """Every call in flowd, with the last name of what is called."""
    for module in MODULES:
        for branch in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(branch, ast.Call):
                yield module, branch, ast.unparse(branch.func).split(".")[-1]


def keys(call: ast.Call) -> set[str]:
    """The keys that a call of `because` may give, as far as they are written there."""
    return {branch.value for branch in ast.walk(call.args[0]) if isinstance(branch, ast.Constant)} & REASONS.keys()


def test_reasons_are_made_in_one_place() -> None:
    """Nothing but `because` makes a Reason: what is not in the table cannot be said."""
    made = [str(module.relative_to(SOURCE)) for module, _, name in calls() if name == "Reason"]
    assert made == ["core/reasons.py"]


def test_every_reason_is_given_with_its_facts() -> None:
    """Each key of the table stands in some module, and each call names the facts of its sentence."""
    written = {
        branch.value
        for module in MODULES
        if module.name != "reasons.py"
        for branch in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(branch, ast.Constant)
    }
    assert not REASONS.keys() - written
    for module, call, name in calls():
        if name in GIVERS and module.name != "reasons.py":
            given = {keyword.arg for keyword in call.keywords}
            for key in keys(call):
                facts = {field for _, field, _, _ in string.Formatter().parse(REASONS[key].sentence) if field}
                assert facts <= given or None in given, f"{module.name}:{call.lineno} {key} wants {facts}"


def test_a_fact_may_hold_braces() -> None:
    """What a person or a program says is put in as it is."""
    assert because("cancelled.said", said="{x} }{").sentence == "{x} }{"
    with pytest.raises(KeyError):
        because("nonsense")


def test_the_page_is_current() -> None:
    """EVENTS.md is what the tables say now, with every event, field and code; else run scripts/events --write."""
    shown = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "events")], capture_output=True, check=True, text=True
    )
    page = (SOURCE / "core" / "EVENTS.md").read_text(encoding="utf-8")
    assert shown.stdout == page
    for kind in get_args(e.AnyEvent):
        _, _, rest = page.partition(f"\n### {kind.__struct_config__.tag}\n")
        own = rest.split("\n### ")[0]
        fields = set(re.findall(r"^\| `(\w+)`", own, re.MULTILINE))
        assert fields == set(kind.__struct_fields__) - {"task", "attempt"}
    assert {key.partition(".")[0] for key in REASONS} <= set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))
    assert "factory" not in page
