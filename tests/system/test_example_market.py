"""`market`: a model is trained, reported on and served, by a real API and a real dashboard that really answer."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import examples
from examples import CONFIGS, copied
from flowd_process import Place, states, until

FRESH = {"ingest_data", "clean_data", "train_model", "save_model", "generate_report"}
SERVICES = {"run_flask_api", "run_streamlit_dashboard"}
ASKED = {"volatility": 20, "volatility_change": 2, "return_1": 0, "return_5": 0, "spread_20": 1}
ASKED |= {"tbilrate": 2, "infl": 2}
DATA = CONFIGS / "market" / "data"


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Place]:
    """The market pipeline, never run."""
    with copied("market", tmp_path) as opened:
        yield opened


def document(place: Place) -> dict[str, Any]:
    """The newest run."""
    return place.json("show")


def stand(place: Place) -> dict[str, str]:
    """How the tasks of the newest run stand; none where there is no run yet."""
    return states(document(place)) if list(place.state.glob("runs/*/mark")) else {}


def serve(place: Place) -> bool:
    """Whether both services serve, and the report is written."""
    found = stand(place)
    return {found.get(name) for name in SERVICES} == {"serving"} and found["generate_report"] in {"succeeded", "fresh"}


def got(url: str, body: object = None) -> tuple[int, str]:
    """The status and the text of an answer."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_it_is_trained_reported_on_and_served(market: Place) -> None:
    """The API foresees, the dashboard answers, a killed API comes back; Ctrl-C ends the run well."""
    process = market.begin("run")
    until(lambda: serve(market), 90)
    tasks = document(market)["tasks"]
    api, dashboard = (tasks[name]["url"] for name in ("run_flask_api", "run_streamlit_dashboard"))
    status, text = got(f"{api}/predict", ASKED)
    assert status == 200
    assert -5 < json.loads(text)["prediction"] < 0  # as volatility rises, prices fall
    assert got(f"{api}/predict", {"volatility": "high"})[0] == 400
    assert json.loads(got(f"{api}/model")[1])["metrics"]["test_r2"] > 0.4
    assert "<title>Streamlit</title>" in got(dashboard)[1]
    marker = json.loads((market.folder / "flask_api_running.txt").read_text())
    assert marker["url"] == api
    os.kill(marker["pid"], signal.SIGKILL)
    until(lambda: serve(market) and document(market)["tasks"]["run_flask_api"]["service"]["restarts"] == 1, 30)
    assert got(f"{api}/predict", ASKED)[0] == 200
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    ended = document(market)
    assert states(ended) == dict.fromkeys(FRESH | SERVICES, "succeeded")
    assert ended["warnings"] == []
    assert ended["tasks"]["run_flask_api"]["metrics"]["requests"] == 1  # of the one that came back
    assert ended["tasks"]["train_model"]["metrics"]["test_rmse"] < 1
    assert (market.folder / "analysis_report.pdf").read_bytes().count(b"/Type /Page ") == 4
    assert not list(market.folder.glob("*_running.txt"))


def test_the_second_time_only_the_services_run_and_their_life_ends(market: Place) -> None:
    """Two tasks write the model's file, and both are fresh."""
    assert market.run("run", "pipeline.yaml", "generate_report").code == 0
    market.ok("run", "pipeline.yaml", "-p", "lifetime=1s")
    assert states(document(market)) == {**dict.fromkeys(FRESH, "fresh"), **dict.fromkeys(SERVICES, "succeeded")}


def test_without_an_order_two_writers_of_one_file_are_refused(market: Place) -> None:
    """Allowed is it only since one comes before the other."""
    text = (market.folder / "pipeline.yaml").read_text()
    market.write("pipeline.yaml", text.replace("    needs: [train_model]\n", "").replace(
        "    inputs: [trained_model.pkl]\n    outputs: [trained_model.pkl]\n", "    outputs: [trained_model.pkl]\n"
    ))  # fmt: skip
    ended = market.run("validate", "pipeline.yaml")
    assert ended.code == 2
    assert "trained_model.pkl" in ended.err + ended.out


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium here")
def test_the_dashboard_is_a_page(market: Place, tmp_path: Path) -> None:
    """As a browser shows it."""
    process = market.begin("run", "pipeline.yaml", "run_streamlit_dashboard")
    until(lambda: stand(market).get("run_streamlit_dashboard") == "serving", 90)
    url = document(market)["tasks"]["run_streamlit_dashboard"]["url"]
    browser = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/browser"]
    command = [*browser, "--virtual-time-budget=100000000", "--dump-dom", url]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False).stdout
    assert "What moves the index" in shown
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0


# --- the steps alone ---------------------------------------------------------------------------------------


def fetched(folder: Path, index: Path) -> subprocess.CompletedProcess[str]:
    """What ingest makes of an index."""
    more = ["--volatility", str(DATA / "volatility.csv"), "--macro", str(DATA / "macro.csv")]
    return examples.step("market", "ingest", index, folder / "raw.csv", *more)


def test_the_steps_share_one_file() -> None:
    """As in all examples."""
    shared = (CONFIGS / "prices/steps/step.py").read_bytes()
    assert (CONFIGS / "market/steps/step.py").read_bytes() == shared


@pytest.mark.parametrize("name", ["clean", "train", "save", "report"])
def test_a_missing_input_is_one_clear_line(name: str, tmp_path: Path) -> None:
    """Exit code 2 and one line that names the file."""
    nowhere = tmp_path / "nowhere"
    more = ["--model", str(nowhere)] if name == "report" else []
    done = examples.step("market", name, nowhere, tmp_path / "out", *more)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(f"{name}.py: there is no file {nowhere}")


def test_another_index_drops_in(tmp_path: Path) -> None:
    """Any file of date and close, whatever its columns are called besides; what is no price is dropped."""
    rows = [line for line in (DATA / "index.csv").read_text().splitlines() if not line.startswith(("#", "date"))]
    lines = ["Date,Open,Close", *(row.replace(",", ",1,") for row in rows[:400])]
    own = tmp_path / "sp500.csv"
    own.write_text("\n".join(lines) + "\n")
    done = fetched(tmp_path, own)
    assert done.returncode == 0, done.stderr
    done = examples.step("market", "clean", tmp_path / "raw.csv", tmp_path / "clean.csv")
    assert done.returncode == 0, done.stderr
    assert "nulls" in done.stdout
    own.write_text("when,what\n1,2\n")
    done = fetched(tmp_path, own)
    assert (done.returncode, done.stderr) == (
        2,
        f"ingest.py: {own} has no column date, close; a line of column names is expected\n",
    )


def test_the_defects_of_the_data_are_found(tmp_path: Path) -> None:
    """Days that are there twice, a negative price and cells that are no number do not reach the model."""
    assert fetched(tmp_path, DATA / "index.csv").returncode == 0
    assert examples.step("market", "clean", tmp_path / "raw.csv", tmp_path / "clean.csv").returncode == 0
    rows = [line.split(",") for line in (tmp_path / "clean.csv").read_text().splitlines()[1:]]
    assert len({row[0] for row in rows}) == len(rows)
    assert max(abs(float(row[1])) for row in rows) < 15
