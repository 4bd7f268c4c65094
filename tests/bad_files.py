"""Mistaken pipeline files as data: the text with `‹` where each problem stands, and what is said of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flowd import BadPipeline, Pipeline, Problem
from flowd.__main__ import main

MARK = "‹"


@dataclass(frozen=True)
class Bad:
    """A file that is refused: each of `said` is (code, key, part of the message, part of the hint)."""

    id: str
    text: str
    said: tuple[tuple[str, str, str, str], ...]
    modules: dict[str, str] = field(default_factory=dict)

    def places(self) -> list[tuple[int, int]]:
        """Line and column of each mark, as if no mark were there."""
        found = []
        for number, line in enumerate(self.text.split("\n"), start=1):
            parts = line.split(MARK)
            found += [(number, len("".join(parts[: at + 1])) + 1) for at in range(len(parts) - 1)]
        return found

    def write(self, folder: Path) -> Path:
        """The file and its modules in `folder`."""
        for name, source in self.modules.items():
            (folder / f"{name}.py").write_text(source)
        file = folder / "pipeline.yaml"
        file.write_text(self.text.replace(MARK, ""), encoding="utf-8")
        return file


def bad(id: str, text: str, *said: tuple[str, str, str, str], **modules: str) -> object:
    """A row of a table of mistaken files."""
    return pytest.param(Bad(id, text, said, modules), id=id)


def task(inner: str, before: str = "") -> str:
    """A file with one task `a` whose flow mapping is `inner`, on line 2 from column 13."""
    return f"name: p\n{before}tasks: {{a: {{{inner}}}}}\n"


def problems_of(file: Path | str) -> tuple[Problem, ...]:
    """What is wrong with a file."""
    with pytest.raises(BadPipeline) as refused:
        Pipeline.load(file)
    assert refused.value.problems
    return refused.value.problems


LINE = re.compile(r"(?P<file>.+?):(?P<line>\d+):(?P<column>\d+)  (?:(?P<key>\S+)  )?(?P<text>\S.*)")


def check_refused(case: Bad, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything the format promises of a refusal: each problem's facts, and the command's answer."""
    file = case.write(folder)
    monkeypatch.chdir(folder)
    problems = problems_of("pipeline.yaml")
    found = [(problem.code, problem.key) for problem in problems]
    assert found == [(code, key) for code, key, _, _ in case.said], [str(problem) for problem in problems]
    assert [(problem.line, problem.column) for problem in problems] == case.places(), [str(one) for one in problems]
    for problem, (_, _, message, hint) in zip(problems, case.said, strict=True):
        assert problem.file == "pipeline.yaml"
        assert message in problem.message
        assert hint in problem.hint
    before = sorted(path.name for path in folder.iterdir() if path.name != "__pycache__")
    capsys.readouterr()
    assert main(["validate", file.name]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    lines = said.err.removesuffix("\n").split("\n")
    assert lines == [str(problem) for problem in problems]
    for line, problem in zip(lines, problems, strict=True):
        parts = LINE.fullmatch(line)
        assert parts is not None, line
        assert (parts["file"], int(parts["line"]), int(parts["column"])) == ("pipeline.yaml", *_place(problem))
        assert len(line) < 1_500
        assert line.isprintable()
    assert sorted(path.name for path in folder.iterdir() if path.name != "__pycache__") == before  # no state directory


def _place(problem: Problem) -> tuple[int | None, int | None]:
    return problem.line, problem.column
