"""The steps of `scoring` and `retrain` run alone, as a person would run them: without flowd, by their command line."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

import examples
from examples import CONFIGS

scoring, retrain = partial(examples.step, "scoring"), partial(examples.step, "retrain")
SOURCE = CONFIGS / "retrain/data/source.csv"
STEPS = {
    "scoring": {"ingest": "", "clean": "", "train_or_score": "", "report": "--model"},
    "retrain": {
        **dict.fromkeys(("ingest", "validate", "clean", "features", "train", "report"), ""),
        "evaluate": "--model",
        "deploy": "--report",
    },
}
"""Each step, and what else it must be given that has to be there."""


def outcome(done: Any) -> tuple[int, str]:
    """The exit code and what was said on stderr."""
    return done.returncode, done.stderr


def written(path: Path, lines: Sequence[str]) -> Path:
    """A file of these lines."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("example", STEPS)
def test_the_steps_share_one_file(example: str) -> None:
    """Each example can be copied alone: what all steps do the same way is the same file in all of them."""
    shared = (CONFIGS / "prices/steps/step.py").read_bytes()
    assert (CONFIGS / example / "steps/step.py").read_bytes() == shared


@pytest.mark.parametrize(("example", "name"), [(example, name) for example in STEPS for name in STEPS[example]])
def test_a_missing_input_is_one_clear_line(example: str, name: str, tmp_path: Path) -> None:
    """A missing input is exit code 2 and one line that names the file; no output appears."""
    nowhere = tmp_path / "nowhere"
    more = {"train_or_score": ["--model", str(nowhere)]}.get(name, [])  # may be missing: the first run makes it
    more += [option, str(nowhere)] if (option := STEPS[example][name]) else []
    done = examples.step(example, name, nowhere, tmp_path / "out", *more)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"{name}.py: there is no file {nowhere}")
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert not list(tmp_path.iterdir())


# --- scoring -----------------------------------------------------------------------------------------------


def scored(folder: Path, lines: Sequence[str]) -> dict[str, Any]:
    """What scoring's steps make of a CSV, the model being carried on in the folder."""
    raw, clean, scores = written(folder / "raw.csv", lines), folder / "clean.json", folder / "scores.json"
    assert outcome(scoring("clean", raw, clean)) == (0, "")
    assert outcome(scoring("train_or_score", clean, scores, "--model", str(folder / "model.pkl"))) == (0, "")
    found: dict[str, Any] = json.loads(scores.read_text())
    return found


def test_day_by_day_is_as_good_as_at_once(tmp_path: Path) -> None:
    """A model that learned in three parts has given the scores of one that learned in one go."""
    lines = (CONFIGS / "scoring/data/raw.csv").read_text().splitlines()
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    parts.mkdir()
    whole.mkdir()
    for end in (80, 150):
        scored(parts, lines[:end])
    assert scored(parts, lines) == scored(whole, lines)


def test_a_quarter_that_is_not_usable_leaves_a_gap(tmp_path: Path) -> None:
    """Neither growth nor an outcome is made over a gap; every cell that holds no number counts."""
    quarters = [(year, quarter) for year in (2000, 2001) for quarter in (1, 2, 3, 4)]
    rows = [f"{year}Q{quarter},{100 + 4 * (year - 2000) + quarter},50,20,5.{quarter},3,2" for year, quarter in quarters]
    rows[3] = "2000Q4,,50,twenty,5.4,3,2"
    raw = written(tmp_path / "raw.csv", ["date,realgdp,realcons,realinv,unemp,tbilrate,infl", *rows, rows[-1]])
    assert outcome(scoring("clean", raw, tmp_path / "clean.json")) == (0, "")
    found = json.loads((tmp_path / "clean.json").read_text())
    assert [(row["quarter"], row["rose"]) for row in found["rows"]] == [
        ("2000Q2", True),
        ("2000Q3", None),
        ("2001Q2", True),
        ("2001Q3", True),
        ("2001Q4", None),
    ]
    assert found["rows"][0]["seen"] == [3.9409, 0, 0, 0.1, 0, 2]
    assert found["null_pct"] == round(100 * 2 / 54, 2)


def test_a_file_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    """A model of another kind is one clear line, and stays as it is."""
    model = written(tmp_path / "model.pkl", ["no model"])
    lines = (CONFIGS / "scoring/data/raw.csv").read_text().splitlines()
    scoring("clean", written(tmp_path / "raw.csv", lines), tmp_path / "clean.json")
    for name in ("train_or_score", "report"):
        code, said = outcome(scoring(name, tmp_path / "clean.json", tmp_path / "out", "--model", str(model)))
        assert code == 2
        assert re.fullmatch(rf"{name}.py: {re.escape(str(model))} holds no model.*; remove it to begin anew\n", said)
    assert model.read_text() == "no model\n"


# --- retrain -----------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a server that has the file table.csv and no other."""
    folder = tmp_path / "served"
    folder.mkdir()
    written(folder / "table.csv", ["a,b", "1,2", "3,4"])
    with HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Quiet(SimpleHTTPRequestHandler):
    """A server that logs nothing."""

    def log_message(self, *_: Any) -> None: ...


def test_the_table_comes_from_a_path_or_an_address(served: str, tmp_path: Path) -> None:
    """Byte for byte; what an address does not have is exit code 2, a server that is not there 1: it may come back."""
    target = tmp_path / "raw.csv"
    for source in (f"{served}/table.csv", (tmp_path / "served/table.csv").as_uri()):
        done = retrain("ingest", source, target)
        assert (done.returncode, done.stdout) == (0, f"2 records from {source}\n")
        assert target.read_text() == "a,b\n1,2\n3,4\n"
        target.unlink()
    assert outcome(retrain("ingest", f"{served}/other.csv", target))[0] == 2
    assert outcome(retrain("ingest", "ftp://host/table.csv", target))[0] == 2
    code, said = outcome(retrain("ingest", "http://127.0.0.1:1/table.csv", target))
    assert (code, said.count("\n")) == (1, 1)
    assert "Connection refused" in said
    assert not target.exists()


def test_validation_lists_every_error(tmp_path: Path) -> None:
    """The report is there although the step fails: each error by its column, with a value."""
    lines = SOURCE.read_text().splitlines()
    lines[0] = lines[0].replace("s6", "glucose")
    lines[1] = lines[1].replace("59,", "590,", 1)
    lines[2] = lines[2].replace("48,", "old,", 1)
    lines[3] += ",1"
    lines[4:34] = [re.sub(r"^(\d+,\d),[^,]*", r"\1,", line) for line in lines[4:34]]
    report = tmp_path / "report.json"
    code, said = outcome(retrain("validate", written(tmp_path / "raw.csv", lines), report))
    document = json.loads(report.read_text())
    assert (code, document["status"], document["rows"]) == (1, "failed", 442)
    assert document["errors"] == [
        "there is no column s6",
        "1 rows do not have 11 cells, such as row 3",
        "age: 1 cells are no numbers, such as 'old'",
        "age: 1 values are not between 0 and 120, such as 590",
        "bmi: 30 of 442 cells are empty, more than 5%",
    ]
    assert all(error in said for error in document["errors"])
    assert outcome(retrain("validate", SOURCE, report)) == (0, "")
    assert json.loads(report.read_text()) == {"status": "passed", "rows": 442, "errors": []}


def test_gaps_are_filled_and_repeated_rows_dropped(tmp_path: Path) -> None:
    """A gap gets the median of its column; a row without target teaches nothing."""
    names = SOURCE.read_text().splitlines()[0]
    rest = ",1,20,80,1,1,1,1,1,1"
    rows = [f"{age}{rest},{target}" for age, target in (("10", "5"), ("", "6"), ("30", "7"), ("30", "7"), ("90", ""))]
    raw, clean = written(tmp_path / "raw.csv", [names, *rows]), tmp_path / "clean.csv"
    done = retrain("clean", raw, clean)
    assert (done.returncode, done.stdout) == (0, "5 rows in, 3 out, 1 nulls filled\n")
    assert [line.partition(",")[0] for line in clean.read_text().splitlines()] == ["age", "10", "20", "30"]


def test_the_model_never_sees_what_it_is_measured_on(tmp_path: Path) -> None:
    """With other outcomes for the held-out rows the model is the same and its figures are not; each training counts."""
    clean, features = tmp_path / "clean.csv", tmp_path / "features.csv"
    assert outcome(retrain("clean", SOURCE, clean)) == (0, "")
    assert outcome(retrain("features", clean, features)) == (0, "")
    models, figures = [], []
    for name in ("first", "second"):
        model, metrics = tmp_path / name / "model.pkl", tmp_path / name / "metrics.json"
        assert outcome(retrain("train", features, model)) == (0, "")
        assert outcome(retrain("evaluate", features, metrics, "--model", str(model))) == (0, "")
        models.append(model.read_bytes())
        figures.append(json.loads(metrics.read_text()))
        head, *rows = features.read_text().splitlines()
        written(features, [head, *(re.sub(r",1,\d+$", ",1,25", row) for row in rows)])
    assert models[0] == models[1]
    assert figures[0]["thresholds"] == {"r2 >= 0.2": True, "mae <= 60": True}
    assert figures[0]["metrics"]["r2"] > 0.5
    assert figures[1]["metrics"]["mae"] > 60
    assert figures[1]["thresholds"] == {"r2 >= 0.2": False, "mae <= 60": False}
    assert retrain("train", features, tmp_path / "first/model.pkl").returncode == 0
    history = (tmp_path / "first/history.jsonl").read_text().splitlines()
    assert len(history) == 2


def test_nothing_is_deployed_without_its_report(tmp_path: Path) -> None:
    """The model alone stays where it is; with the report it is copied, and each deployment is entered."""
    model, report = written(tmp_path / "model.pkl", ["a model"]), tmp_path / "report.md"
    target = tmp_path / "deployed/model.pkl"
    code, said = outcome(retrain("deploy", model, target, "--report", str(report)))
    assert (code, str(report) in said, target.parent.exists()) == (2, True, False)
    written(report, ["a report"])
    for count in (1, 2):
        assert outcome(retrain("deploy", model, target, "--report", str(report))) == (0, "")
        assert target.read_bytes() == model.read_bytes()
        assert len((target.parent / "history.jsonl").read_text().splitlines()) == count
