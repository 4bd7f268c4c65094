"""Gates: what holds, and how it is said in words what does not."""

from __future__ import annotations

import pytest

from flowd.core.gates import failed, reads_result, references
from flowd.core.spec import Gate

SCOPE = {
    "metrics": {"r2": 0.12, "mae": 72.0, "rows": 10.0},
    "params": {"min_r2": 0.2, "kind": "small"},
    "result": {"ok": True, "names": ["a", "b"], "kind": "large"},
}


def said(check: str, **more: str) -> str:
    """What is said of one gate; empty where it holds."""
    return "; ".join(failed([Gate(check=check, **more)], more.get("severity", "error"), SCOPE))


@pytest.mark.parametrize(
    "check",
    [
        "metrics.r2 < params.min_r2",
        "0 < metrics.r2 < 1",
        "result.ok",
        "metrics.rows",  # a number, as Python judges it
        "metrics.r2 > 1 or result.ok",
        "len(result.names) == 2 and 'a' in result.names",
        "default(metrics.f1, 1) >= 0.5",
        "not defined(metrics.f1)",
    ],
)
def test_a_gate_that_holds_says_nothing(check):
    """A number or a boolean is judged as Python would."""
    assert said(check) == ""


@pytest.mark.parametrize(
    ("check", "why"),
    [
        ("metrics.r2 >= params.min_r2", "0.12 is under 0.2, by 0.08"),
        ("metrics.r2 > 0.12", "0.12 is not over 0.12"),
        ("metrics.mae < 60", "72 is not under 60, by 12"),
        ("metrics.mae <= 60", "72 is over 60, by 12"),
        ("0.5 < metrics.r2 < 1", "0.5 is not under 0.12, by 0.38"),
        ("0 < metrics.mae < 60", "72 is not under 60, by 12"),
        ("metrics.rows == 11", "10 is not 11"),
        ("result.kind != 'large'", "'large' is exactly 'large'"),
        ("'c' in result.names", "'c' is not in ['a', 'b']"),
        ("result.ok and metrics.mae < 60", "72 is not under 60, by 12"),
        ("metrics.mae < 60 or metrics.rows > 11", "72 is not under 60, by 12 and 10 is not over 11, by 1"),
        ("not result.ok", "result.ok is True"),
        ("metrics.rows - 10", "metrics.rows is 10"),
        ("any([])", "it is false"),
        ("metrics.f1 > 0.5", "there is no metric f1; there are: mae, r2, rows"),
        ("metrics.rows > 11 and metrics.f1 > 0", "10 is not over 11, by 1"),
        ("result.kind", "it gives 'large', neither true nor false; compare it with something"),
        ("metrics.r2 >= params.kind", "`metrics.r2 >= params.kind` cannot be computed"),
    ],
)
def test_what_does_not_hold_is_explained(check, why):
    """The expression, the values, the bound, and by how much it is missed."""
    assert said(check).startswith(f"gate {check}: {why}")


def test_a_task_without_metrics():
    """There is nothing to list."""
    assert "the task gave none" in failed([Gate(check="metrics.r2 > 0")], "error", {"metrics": {}})[0]


def test_severity_and_name():
    """Each severity is asked for by itself; a name stands in front."""
    both = [Gate(check="metrics.mae < 60", severity="warn", name="small error"), Gate(check="metrics.r2 > 0.5")]
    assert failed(both, "warn", SCOPE) == ["gate small error: metrics.mae < 60: 72 is not under 60, by 12"]
    assert failed(both, "error", SCOPE) == ["gate metrics.r2 > 0.5: 0.12 is not over 0.5, by 0.38"]


def test_what_gates_refer_to():
    """The result of the task itself has to be loaded only where a gate reads it."""
    assert reads_result([Gate(check="len(result.names) > 0")])
    assert not reads_result([Gate(check="tasks.a.result > metrics.r2")])
    assert ("tasks", "a", "result") in references([Gate(check="tasks.a.result > metrics.r2")])
