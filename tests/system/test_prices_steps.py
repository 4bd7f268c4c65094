"""The steps of `prices` run alone, as a person would run them: without flowd, by their command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import examples
from examples import CONFIGS

PRICES = CONFIGS / "prices"
STEPS = ("ingest", "clean", "train_or_score", "report")
step = partial(examples.step, "prices")


def written(folder: Path, lines: Sequence[str]) -> Path:
    """A CSV of these lines."""
    path = folder / "raw.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def chain(folder: Path, source: Path, count: int) -> list[Path]:
    """Run the first `count` steps one after the other; their outputs."""
    outputs = []
    for name in STEPS[:count]:
        target = folder / f"{name}.out"
        done = step(name, source, target)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count("\n") == 1
        outputs.append(source := target)
    return outputs


def cleaned(folder: Path, lines: Sequence[str]) -> dict[str, Any]:
    """What `clean` makes of a CSV."""
    *_, clean = chain(folder, written(folder, lines), 2)
    found: dict[str, Any] = json.loads(clean.read_text(encoding="utf-8"))
    return found


def test_the_whole_series_becomes_a_report(tmp_path: Path) -> None:
    """The shipped series goes through all four steps and ends as a text with figures and a forecast."""
    raw, clean, model, report = (
        path.read_text(encoding="utf-8") for path in chain(tmp_path, PRICES / "data" / "raw.csv", 4)
    )
    assert len(json.loads(raw)["rows"]) == 203
    rows = json.loads(clean)["rows"]
    assert rows[0] == {"quarter": "1959Q1", "date": "1959-03-31", "price": 28.98, "inflation": None}
    assert rows[-1] == {"quarter": "2009Q3", "date": "2009-09-30", "price": 216.385, "inflation": 3.5576}
    assert json.loads(model)["trained_on"]["quarters"] + json.loads(model)["scored_on"]["quarters"] == 201
    assert "2009Q4" in report
    assert "161 quarters, 1959Q3 to 1999Q3" in report


def test_the_same_input_gives_the_same_files(tmp_path: Path) -> None:
    """Every step is idempotent to the byte."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        chain(folder, PRICES / "data" / "raw.csv", 4)
    assert [path.read_bytes() for path in sorted(first.iterdir())] == [
        path.read_bytes() for path in sorted(second.iterdir())
    ]


def test_a_step_leaves_nothing_but_its_output(tmp_path: Path) -> None:
    """Files are written in one move: no partial file stays behind."""
    chain(tmp_path, PRICES / "data" / "raw.csv", 4)
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.out" for name in STEPS}


@pytest.mark.parametrize("name", STEPS)
def test_a_missing_input_is_one_clear_line(name: str, tmp_path: Path) -> None:
    """A missing input is exit code 2 and one line that names the file; no output appears."""
    done = step(name, tmp_path / "nowhere.json", tmp_path / "out")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"{name}.py: there is no file {tmp_path / 'nowhere.json'}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[]", b'{"rows": 1}', b"{"], ids=repr)
def test_a_wrong_input_is_one_clear_line(name: str, content: bytes, tmp_path: Path) -> None:
    """A file of another kind is exit code 2 and one line, never a traceback."""
    source = tmp_path / "input"
    source.write_bytes(content)
    done = step(name, source, tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert str(source) in done.stderr


def test_a_step_says_what_it_needs() -> None:
    """Without --input and --output a step shows its command line and exits with 2."""
    command = [sys.executable, str(PRICES / "steps" / "clean.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "--input" in done.stderr
    assert "--output" in done.stderr


def test_defects_are_dropped_and_counted(tmp_path: Path) -> None:
    """Missing, impossible, repeated and undated prices are dropped, each counted by its reason."""
    found = cleaned(
        tmp_path,
        [
            "# a comment",
            "date,cpi",
            *("2001Q1,100", "2001Q2,", "2001Q3,nan", "2001Q4,102", "2001Q4,999", "soon,1", "2002Q1,-3", "2002Q2,0"),
            *("2002Q3", '2002Q4,"1,040.5"', "2003Q5,1", ""),
        ],
    )
    assert found["dropped"] == {
        "duplicate date": 1,
        "missing price": 3,
        "price not above zero": 2,
        "unreadable date": 2,
    }
    assert [(row["quarter"], row["price"]) for row in found["rows"]] == [
        ("2001Q1", 100),
        ("2001Q4", 102),
        ("2002Q4", 1040.5),
    ]


def test_inflation_stops_at_a_gap(tmp_path: Path) -> None:
    """Inflation is of neighbouring quarters only, in percent a year; rows may come in any order."""
    found = cleaned(tmp_path, ["date,cpi", "2001Q4,110", "2001Q1,100", "2001Q2,101"])
    assert [row["inflation"] for row in found["rows"]] == [None, 3.9801, None]


@pytest.mark.parametrize(
    "lines",
    [
        ["Date,Close", "2001-02-28,90", "2001-03-31,100", "2001-06-29,101"],
        ["date,price,volume", "2001-01,90,1", "2001-03,100,2", "2001-06,101,3"],
        ["month,anything", "2001-03,100", "2001-06,101"],
        ["year,quarter,cpi", "2001,1,100", "2001.0,2.0,101"],
        ["value,observation_date", "100,2001/03/31", "101,2001/06/30"],
    ],
    ids=["days", "months", "only other column", "year and quarter", "reversed"],
)
def test_usual_layouts_are_read(lines: list[str], tmp_path: Path) -> None:
    """Dates may be days, months or quarters; a quarter has the last price in it."""
    found = cleaned(tmp_path, lines)
    assert [(row["quarter"], row["price"]) for row in found["rows"]] == [("2001Q1", 100), ("2001Q2", 101)]


def test_too_short_a_series_is_refused(tmp_path: Path) -> None:
    """A series that cannot be split into learning and scoring is a clear line and exit code 2."""
    *_, clean = chain(tmp_path, written(tmp_path, ["date,cpi", "2001Q1,1", "2001Q2,2", "2001Q3,3"]), 2)
    done = step("train_or_score", clean, tmp_path / "model.json")
    assert done.returncode == 2
    assert "1 pairs" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_series_that_never_moves_can_be_modelled(tmp_path: Path) -> None:
    """A constant price gives slope 0 and no error, and a report all the same."""
    quarters = [f"{2001 + number // 4}Q{number % 4 + 1},100" for number in range(20)]
    *_, model, report = chain(tmp_path, written(tmp_path, ["date,cpi", *quarters]), 4)
    assert json.loads(model.read_text())["params"] == {"train_share": 0.8, "intercept": 0.0, "slope": 0.0}
    assert "does no better" in report.read_text()


def test_the_model_finds_what_was_planted(tmp_path: Path) -> None:
    """From a series that follows the model exactly, its intercept and slope come back."""
    prices, inflation = [100.0], 12.0
    for _ in range(30):
        prices.append(prices[-1] * 2.718281828459045 ** (inflation / 400))
        inflation = 1.5 + 0.5 * inflation
    lines = [f"{2001 + number // 4}Q{number % 4 + 1},{price!r}" for number, price in enumerate(prices)]
    *_, model = chain(tmp_path, written(tmp_path, ["date,cpi", *lines]), 3)
    params = json.loads(model.read_text())["params"]
    assert params["intercept"] == pytest.approx(1.5, abs=0.01)
    assert params["slope"] == pytest.approx(0.5, abs=0.01)


def test_the_share_to_learn_from_is_bounded(tmp_path: Path) -> None:
    """A share outside 0.5 to 0.95 is refused by the command line."""
    _, clean = chain(tmp_path, PRICES / "data" / "raw.csv", 2)
    done = step("train_or_score", clean, tmp_path / "model.json", "--train-share", "0.99")
    assert done.returncode == 2
    assert "between 0.5 and 0.95" in done.stderr


def test_a_step_tells_flowd_its_metrics_and_result(tmp_path: Path) -> None:
    """Under flowd a step appends name=value lines and a JSON result to the files it is given."""
    metrics, result = tmp_path / "metrics", tmp_path / "result"
    metrics.touch()
    result.touch()
    raw, clean, model = tmp_path / "raw", tmp_path / "clean", tmp_path / "model"
    step("ingest", PRICES / "data" / "raw.csv", raw, FLOWD_METRICS=str(metrics), FLOWD_RESULT=str(result))
    assert metrics.read_text() == "rows=203\n"
    assert json.loads(result.read_text()) == {"source_uri": (PRICES / "data" / "raw.csv").as_uri()}
    step("clean", raw, clean, FLOWD_METRICS=str(metrics))
    result.write_text("")
    step("train_or_score", clean, model, FLOWD_METRICS=str(metrics), FLOWD_RESULT=str(result))
    names = [line.partition("=")[0] for line in metrics.read_text().splitlines()]
    assert names == ["rows", "rows_in", "rows_out", "dropped", "mae", "mae_naive", "r2"]
    assert all(float(line.partition("=")[2]) < 1000 for line in metrics.read_text().splitlines())
    assert json.loads(result.read_text())["params"]["train_share"] == 0.8
