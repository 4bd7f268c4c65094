"""A new run's service takes the place of that of an older run, with clients that ask all the while."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flowd_process import Place, until
from web_server import SERVER


class Client:
    """Asks the service that the marker names, again and again; counts what failed, and who answered."""

    def __init__(self, place: Place) -> None:
        self.failed = 0
        self.answered: list[str] = []
        self._marker = place.folder / "up.json"
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        while not self._done.wait(0.01):
            try:
                url = json.loads(self._marker.read_text())["url"]
                with urllib.request.urlopen(url, timeout=5) as answer:
                    self.answered.append(answer.read().decode())
            except (OSError, ValueError):
                self.failed += 1

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask within the block."""
        self._thread.start()
        try:
            yield
        finally:
            self._done.set()
            self._thread.join()


def free_port() -> int:
    """One that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def place(here: Place) -> Place:
    """A folder with the server."""
    here.write("server.py", SERVER)
    return here


def pipeline(place: Place, port: Any) -> None:
    """A service whose program is a parameter: a new run may begin another."""
    ready = {"http": "/", "every": "50ms", "timeout": "5s", "marker": "up.json"}
    api = {"service": ["python", "{{ params.program }}", "{{ port }}"], "port": port, "ready": ready, "keep": "run"}
    place.pipeline({"api": api}, params={"program": "server.py"})


def api(place: Place, run: str) -> dict[str, Any]:
    """How the service of a run stands."""
    if not (place.state / "runs" / run / "mark").exists():
        return {}
    found: dict[str, Any] = place.json("show", run)["tasks"].get("api", {})
    return found


def begun(place: Place, run: str, *words: str) -> Any:
    """A run in a process of its own."""
    return place.begin("run", "--run-id", run, *words)


def serves(place: Place, run: str) -> bool:
    """Whether it serves in this run."""
    return api(place, run).get("state") == "serving"


def test_with_any_port_the_new_one_is_ready_before_the_old_one_stops(place: Place) -> None:
    """No request fails; the older run has succeeded."""
    pipeline(place, "auto")
    old, client = begun(place, "old"), Client(place)
    until(lambda: serves(place, "old"))
    with client.asking():
        until(lambda: client.answered)
        new = begun(place, "new")
        until(lambda: serves(place, "new"))
        assert old.wait(20) == 0
        time.sleep(0.2)
    assert client.failed == 0
    assert list(dict.fromkeys(client.answered)) == [str(api(place, run)["service"]["pid"]) for run in ("old", "new")]
    assert api(place, "old")["state"] == "succeeded"
    assert json.loads((place.folder / "up.json").read_text())["pid"] == api(place, "new")["service"]["pid"]
    new.send_signal(signal.SIGINT)
    assert new.wait(20) == 0
    assert not (place.folder / "up.json").exists()


def test_a_new_one_that_is_not_ready_leaves_the_old_one_alone(place: Place) -> None:
    """The new run fails, and no request does."""
    pipeline(place, "auto")
    place.write("broken.py", "import sys; sys.exit('broken')")
    old, client = begun(place, "old"), Client(place)
    until(lambda: serves(place, "old"))
    with client.asking():
        assert begun(place, "new", "-p", "program=broken.py").wait(30) == 1
        until(lambda: client.answered)
    assert client.failed == 0
    assert (api(place, "old")["state"], api(place, "old")["attempts"]) == ("serving", 1)
    place.ok("stop", "old", "api")
    assert old.wait(20) == 0


def test_on_a_port_of_its_own_the_old_one_stands_back_for_the_new_one(place: Place) -> None:
    """Its run has succeeded once the new one serves."""
    pipeline(place, free_port())
    old, client = begun(place, "old"), Client(place)
    until(lambda: serves(place, "old"))
    with client.asking():
        until(lambda: client.answered)
        new = begun(place, "new")
        until(lambda: serves(place, "new"))
        assert old.wait(20) == 0
        failed, answered = client.failed, len(client.answered)
        until(lambda: len(client.answered) > answered)
    assert client.failed == failed  # while nobody had the port, and never again
    assert list(dict.fromkeys(client.answered)) == [str(api(place, run)["service"]["pid"]) for run in ("old", "new")]
    assert api(place, "old")["state"] == "succeeded"
    place.ok("stop", "new", "api")
    assert new.wait(20) == 0


def test_on_a_port_of_its_own_the_old_one_comes_back_where_the_new_one_does_not_get_ready(place: Place) -> None:
    """From the command that its run began with."""
    pipeline(place, free_port())
    place.write("broken.py", "import sys; sys.exit('broken')")
    old = begun(place, "old")
    until(lambda: serves(place, "old"))
    first = api(place, "old")["service"]
    assert begun(place, "new", "-p", "program=broken.py").wait(30) == 1
    until(lambda: serves(place, "old"))
    second = api(place, "old")["service"]
    assert second["url"] == first["url"]
    assert second["pid"] != first["pid"]
    assert (second["restarts"], api(place, "old")["attempts"]) == (0, 2)
    place.ok("stop", "old", "api")
    assert old.wait(20) == 0


def test_one_whose_successor_died_comes_back(place: Place) -> None:
    """After a while without a word of the newer run."""
    pipeline(place, free_port())
    text = (place.folder / "pipeline.yaml").read_text()
    place.write("pipeline.yaml", text.replace('"timeout": "5s"', '"timeout": "300ms"'))
    place.write("slow.py", "import time; time.sleep(60)")
    old = begun(place, "old")
    until(lambda: serves(place, "old"))
    new = begun(place, "new", "-p", "program=slow.py")
    until(lambda: api(place, "old").get("state") == "pending")
    assert place.json("why", "old", "api")["code"] in {"stood_back", "workers_busy"}
    new.kill()
    until(lambda: serves(place, "old"), 50)
    place.ok("stop", "old", "api")
    assert old.wait(20) == 0


def test_one_that_its_own_run_needs_is_left_to_it(place: Place) -> None:
    """Two runs at once, each with a service of its own for as long as it needs it."""
    ready = {"http": "/", "every": "50ms"}
    place.pipeline(
        {
            "api": {"service": ["python", "server.py", "{{ port }}"], "port": "auto", "ready": ready},
            "slow": {"needs": "api", "run": "touch begun.$FLOWD_RUN_ID; while ! test -e go; do sleep 0.05; done"},
        }
    )
    both = [begun(place, run) for run in ("old", "new")]
    until(lambda: all((place.folder / f"begun.{run}").exists() for run in ("old", "new")))
    time.sleep(0.6)  # as long as a request to the older run would take, twice
    assert [serves(place, run) for run in ("old", "new")] == [True, True]
    place.write("go", "")
    assert [process.wait(20) for process in both] == [0, 0]


def test_an_older_run_that_is_resumed_takes_over_from_nobody(place: Place) -> None:
    """The newer run has the newer model."""
    pipeline(place, "auto")
    old = begun(place, "old")
    until(lambda: serves(place, "old"))
    old.kill()
    old.wait()
    new = begun(place, "new")
    until(lambda: serves(place, "new"))
    again = place.begin("resume", "old")
    until(lambda: serves(place, "old"))
    time.sleep(0.6)  # as long as a request to the newer run would take, twice
    assert serves(place, "new")
    for run, process in (("new", new), ("old", again)):
        place.ok("stop", run, "api")
        assert process.wait(20) == 0
