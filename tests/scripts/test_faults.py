"""The fault suite: each family runs at a tiny size, and the judge notices what it is there to notice."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from faulting import __main__ as suite
from faulting import deaths, owners, tasks
from faulting.families import FAMILIES
from faulting.family import Broken, Family, Forbidden, Order, Report, Violation, lead_each
from faulting.looking import Look, Row, check_limit, check_lives, check_look, check_once, check_told

from flowd_process import alive

CATALOGUE = Path(suite.__file__).parent / "CATALOGUE.md"
ROOT = CATALOGUE.parent.parent.parent


def events(*told: dict[str, Any]) -> Look:
    """A look at a journal that holds these events."""
    return Look(tuple(json.dumps(event).encode() for event in told), {"state": "running", "tasks": {}})


def row(sign: str, task: str, attempt: int = 1, life: str = "p.1") -> Row:
    return Row(sign, life, task, attempt, "-")


def started(task: str, attempt: int) -> dict[str, Any]:
    return {"event": "task_started", "task": task, "attempt": attempt}


@pytest.mark.parametrize(
    ("family", "seed"),
    [
        ("kills", 2),
        ("processes", 1),
        ("processes", 119),
        ("owners", 8),
        ("deaths", 7),
        ("tasks", 5),
        ("inputs", 1),
    ],
)
def test_a_family_in_small(family: str, seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One trial of each family breaks no promise, says what it did, and leaves neither file nor process."""
    words = ["--family", family, "--size", "1", "--seed", str(seed), "--jobs", "1", "--dir", str(tmp_path)]
    code = suite.main(words)
    said = capsys.readouterr().out
    assert code == 0, said
    assert "found nothing" in said
    assert said.startswith(family)
    assert list(tmp_path.iterdir()) == []
    assert not alive(str(tmp_path))


def test_every_family_has_two_sizes_and_a_promise(capsys: pytest.CaptureFixture[str]) -> None:
    """`--list` names each with both sizes."""
    assert suite.main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert len(listed) == len(FAMILIES) == len({family.name for family in FAMILIES})
    for family, line in zip(FAMILIES, listed, strict=True):
        assert 0 < family.per_commit < family.per_release
        assert line.startswith(family.name)
        assert line.endswith(family.promise)


def test_the_catalogue_names_what_exists() -> None:
    """Every family, scene and test that the catalogue of faults names is there, and every row names one."""
    scenes = {*deaths.SCENES, *tasks.SCENES, *owners.CONTESTS}
    rows = [line.split("|")[1:3] for line in CATALOGUE.read_text("utf-8").splitlines() if line.startswith("| F")]
    assert len(rows) > 85
    for fault, shown in rows:
        named = re.findall(r"`(\w+)`", shown)
        tests = re.findall(r"(tests/\S+?\.py)::(\w+)", shown)
        assert named or tests, fault
        assert set(named) <= {family.name for family in FAMILIES}, fault
        for path, test in tests:
            assert f"def {test}(" in (ROOT / path).read_text("utf-8"), (fault, path, test)
        for family in ("deaths", "tasks", "owners"):
            for said in re.findall(rf"`{family}` ([^;]+?)(?:;|$)", shown.strip()):
                for scene in re.split(", | to ", said):
                    assert scene in scenes, (fault, scene)


def test_a_family_that_fails_keeps_none_of_the_others_from_running(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of a check itself is exit 1, and the next family is led."""

    def broken(_order: Order, _report: Report) -> None:
        raise RuntimeError("the check is wrong")

    def sound(_order: Order, report: Report) -> None:
        report.did("trials", 2)

    runs = {"first": broken, "second": sound}
    families = tuple(
        Family(name=name, promise="p", counted="trials", per_commit=2, per_release=3, run=run)
        for name, run in runs.items()
    )
    monkeypatch.setattr(suite, "FAMILIES", families)
    assert suite.main(["--per-commit", "--dir", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "FAILED: RuntimeError: the check is wrong" in said
    assert "2 trials; found nothing" in said


def in_the_suite(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> int:
    """The exit code of the suite where its one family is `run`."""
    family = Family(name="f", promise="p", counted="trials", per_commit=2, per_release=3, run=run)
    monkeypatch.setattr(suite, "FAMILIES", (family,))
    return suite.main(["--per-commit", "--seed", "7", "--jobs", "1", "--dir", str(tmp_path)])


def test_a_broken_promise_is_told_with_how_to_see_it_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1; its seed as a command, and its folder, are kept; the other trials go on."""

    def run(order: Order, report: Report) -> None:
        def trial(seed: int) -> None:
            with report.trial(order, seed) as folder:
                (folder / "evidence").write_text("seen")
                report.did("trials")
                if seed == 8:
                    raise Broken("it was not kept")

        lead_each(order, report, trial)

    assert in_the_suite(run, monkeypatch, tmp_path) == 1
    said = capsys.readouterr().out
    assert "2 trials; found 1 promises broken" in said
    assert "it was not kept" in said
    assert "scripts/faults --family f --size 1 --seed 8" in said
    assert (tmp_path / suite.KEPT / "f" / "8" / "evidence").read_text() == "seen"


def test_what_the_machine_forbids_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A skipped family, and a skipped part of one, are no failure, and their reasons stand in the report."""

    def part(_order: Order, report: Report) -> None:
        report.skip("a part", "no such call here")

    def whole(_order: Order, _report: Report) -> None:
        raise Forbidden("needs root")

    assert in_the_suite(part, monkeypatch, tmp_path) == 0
    assert "a part: no such call here" in capsys.readouterr().out
    assert in_the_suite(whole, monkeypatch, tmp_path) == 0
    assert "skipped: needs root" in capsys.readouterr().out


def test_many_broken_promises_end_a_family(tmp_path: Path) -> None:
    """One cause breaks many: after a few, no more trials are led."""
    report = Report()
    led: list[int] = []

    def trial(seed: int) -> None:
        led.append(seed)
        report.broke(Violation(seed, "broken", None))

    lead_each(Order(size=100, seed=1, folder=tmp_path, kept=tmp_path, jobs=1), report, trial)
    assert len(led) == Report.MOST


ONE = events(started("t", 1))
DONE = Look(ONE.lines, {"state": "running", "tasks": {"t": {"state": "succeeded"}}})


@pytest.mark.parametrize(
    ("before", "now", "rows_before", "rows", "said"),
    [
        (ONE, events(), [], [], "has lost or changed"),
        (ONE, events(started("t", 2)), [], [], "has lost or changed"),
        (DONE, DONE, [row("B", "t")], [row("B", "t"), row("B", "t", 2)], "had durably succeeded and began again"),
        (ONE, ONE, [], [row("B", "t", 2)], "whose start is not durable"),
    ],
)
def test_the_judge_notices_what_was_lost_or_began_again(
    before: Look, now: Look, rows_before: list[Row], rows: list[Row], said: str
) -> None:
    """From one look to the next records only grow, and bodies begin as recorded."""
    with pytest.raises(Broken, match=said):
        check_look(before, now, rows_before, rows, ["t"])


def test_the_judge_notices_a_second_beginning() -> None:
    """A guarded task begins again after an answer or a recorded retry alone."""
    rerun = {"event": "task_resolved", "task": "t", "verdict": "rerun"}
    check_once(events(started("t", 1), rerun, started("t", 2)), [row("B", "t"), row("B", "t", 2)], ["t"])
    with pytest.raises(Broken, match="started attempt 2 unasked"):
        check_once(events(started("t", 1), started("t", 2)), [], ["t"])
    with pytest.raises(Broken, match="began attempt 1 twice"):
        check_once(events(started("t", 1)), [row("B", "t"), row("B", "t")], ["t"])


def test_the_judge_notices_who_acts_when() -> None:
    """Nobody acts after the next owner has begun; a limit of one is held by one."""
    check_lives([row("B", "a"), row("B", "a", 2, "p.2")])
    with pytest.raises(Broken, match="of a dead owner"):
        check_lives([row("B", "a"), row("B", "a", 2, "p.2"), row("E", "a")])
    with pytest.raises(Broken, match="held their limit"):
        check_limit([row("B", "limited_a"), row("B", "limited_b")], "limited")


def test_the_judge_notices_what_was_told_and_is_not_so(tmp_path: Path) -> None:
    """A printed event or success that the journal lacks is found; a line cut off by a death is none."""
    told = tmp_path / "out"
    told.write_bytes(ONE.lines[0] + b'\n{"event": "cut o')
    check_told(told, ONE)
    told.write_bytes(b'{"event": "task_succeeded", "task": "t"}\n')
    with pytest.raises(Broken, match="not on record"):
        check_told(told, ONE)
    told.write_text("  ✓ t   0.1s\n", encoding="utf-8")
    with pytest.raises(Broken, match="not on record as such: t"):
        check_told(told, ONE)
