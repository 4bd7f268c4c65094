"""`flowd serve` as a process: its life, its signals, its clock, and the commands that speak with it."""

import signal
import socket
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

from daemon_process import facts, said, serve, stop
from flowd_process import Place, end_of, until

CLOCK = """
import sys
from datetime import timedelta
if any(word.endswith("serve") for word in sys.orig_argv):
    from flowd.adapters import clock
    real = clock.SystemClock.now
    def now(self):
        try:
            seconds = float(open("offset").read())
        except (OSError, ValueError):
            seconds = 0.0
        return real(self) + timedelta(seconds=seconds)
    clock.SystemClock.now = now
"""
"""A clock that is set by a file: what a step of the machine's own clock looks like to flowd."""


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_daemon_from_its_start_to_its_end(here: Place) -> None:
    """It says where it is, with a link and no token; there is one of a state directory; SIGTERM ends it with 0."""
    here.pipeline({"a": {"run": "true"}})
    process = serve(here)
    assert said(here).count("/?token=") == 1
    token = (here.state / "token").read_text().strip()
    assert token not in said(here)
    status = here.json("daemon", "status")
    assert (status["running"], status["pid"]) == (True, process.pid)
    second = here.run("serve")
    assert second.code == 6, second.said
    assert f"has a daemon already: pid {process.pid} on " in second.err
    assert "Traceback" not in second.err
    assert stop(process).code == 0
    assert here.json("daemon", "status")["running"] is False
    again = serve(here)
    assert said(here).count("/?token=") == 2
    assert (here.state / "token").read_text().strip() == token
    ended = here.ok("daemon", "stop")
    assert f"pid {again.pid} has ended" in ended.out
    assert end_of(again).code == 0


def test_a_mistaken_configuration_is_refused_whole(here: Place) -> None:
    """Exit 2, every problem with its place, nothing begun; `validate --config` says the same."""
    here.write("flowd.yaml", "listen: 0.0.0.0\nlimit: {cpu: 2}\n")
    for words in (("serve",), ("validate", "--config", "flowd.yaml")):
        ended = here.run(*words)
        assert ended.code == 2, ended.said
        assert "flowd.yaml:1:9  listen" in ended.err
        assert "flowd.yaml:2:1  limit" in ended.err
        assert "Traceback" not in ended.err
    assert not here.state.exists()
    here.write("flowd.yaml", "# nothing\n")
    assert "flowd.yaml: ok" in here.ok("validate", "--config", "flowd.yaml").out


def test_a_busy_port_is_said(here: Place) -> None:
    """Which one, and what to do; exit 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        here.write("flowd.yaml", f'listen: "127.0.0.1:{taken.getsockname()[1]}"\n')
        ended = here.run("serve")
    assert ended.code == 2, ended.said
    assert "another program listens there: give another `listen`" in ended.err
    assert "Traceback" not in ended.err


def test_an_edit_is_taken_up_and_a_bad_one_keeps_the_last_good_version(here: Place) -> None:
    """The pipeline's own file and the module of its functions, at the next look or at SIGHUP."""
    here.write("work.py", "def act():\n    open('did', 'a').write('one\\n')\n")
    here.pipeline({"a": {"call": "work:act"}})
    process = serve(here)
    here.write("work.py", "def act():\n    open('did', 'a').write('second\\n')\n")
    process.send_signal(signal.SIGHUP)
    until(lambda: "pipeline_changed pipeline=p" in said(here))
    here.write("work.py", "def act(:\n")
    process.send_signal(signal.SIGHUP)
    until(lambda: "pipeline_refused" in said(here))
    assert "the last good version of p stays" in said(here)
    assert here.json("schedule", "list")["schedules"] == []
    here.pipeline({"a": {"call": "work:act"}}, schedule={"every": "1s"})  # still refused: the module is broken
    here.write("work.py", "def act():\n    open('did', 'a').write('third\\n')\n")
    process.send_signal(signal.SIGHUP)
    until(here.has("did"))
    assert set(here.lines("did")) == {"third"}
    assert stop(process).code == 0


def test_what_runs_at_the_end_is_gone_on_with_by_the_next_daemon(here: Place) -> None:
    """SIGTERM interrupts it, which costs no attempt; nothing is left running."""
    here.pipeline({"a": {"run": "echo begun >> did; while [ ! -e go ]; do sleep 0.05; done"}}, schedule={"every": "1s"})
    process = serve(here)
    until(here.has("did"))
    assert stop(process).code == 0
    here.write("go", "x")
    process = serve(here)
    until(lambda: any(row["state"] == "succeeded" for row in here.json("runs")["runs"]))
    assert "run_recovered" in said(here)
    assert stop(process).code == 0


def test_a_retry_is_gone_on_with_by_the_daemon(here: Place) -> None:
    """Where nobody owns the run: the command returns at once."""
    here.pipeline({"a": {"run": "test -e good"}})
    assert here.run("run", "--run-id", "r").code == 1
    process = serve(here)
    here.write("good", "x")
    ended = here.ok("retry", "r")
    assert "the daemon goes on with it" in ended.out
    until(lambda: here.json("show", "r")["state"] == "succeeded")
    wrong = here.run("approve", "r", "a")
    assert wrong.code == 2, wrong.said
    assert stop(process).code == 0


def test_a_schedule_is_paused_while_the_daemon_runs(here: Place) -> None:
    """At once, and for the next daemon too."""
    here.pipeline({"a": {"run": "echo x >> did"}}, schedule={"every": "1s"})
    process = serve(here)
    until(here.has("did"))
    here.ok("schedule", "pause", "p")
    counted = len(facts(here, "fired"))
    time.sleep(2.2)
    assert len(facts(here, "fired")) == counted
    assert here.json("schedule", "list")["schedules"][0]["paused"]
    assert stop(process).code == 0
    assert "fires again" in here.ok("schedule", "resume", "p").out


def test_standing_still_is_decided_about_once(here: Place) -> None:
    """SIGSTOP for some seconds: the times in it are missed by the rule, each on record, and none fires twice."""
    here.pipeline({"a": {"run": "true"}}, schedule={"every": "1s", "misfire": "skip", "overlap": "allow"})
    process = serve(here, config="misfire_grace: 1s\n")
    until(lambda: facts(here, "fired"))
    process.send_signal(signal.SIGSTOP)
    time.sleep(4.3)
    process.send_signal(signal.SIGCONT)
    until(lambda: facts(here, "skipped"))
    until(lambda: len(facts(here, "fired")) > 3)
    assert stop(process).code == 0
    [missed] = [fact for fact in facts(here, "skipped") if fact.get("count", 1) > 1]
    assert missed["why"] == "misfire"
    assert missed["count"] in {3, 4}
    _check_each_once(here)


def test_a_clock_that_is_set_forward_and_back(here: Place) -> None:
    """One recorded jump each; the times that were leapt over are missed once, and none fires a second time."""
    (here.folder / "shim").mkdir()
    here.write("shim/sitecustomize.py", CLOCK)
    here.pipeline({"a": {"run": "true"}}, schedule={"every": "1h", "misfire": "latest", "overlap": "allow"})
    process = serve(here, env={"PYTHONPATH": str(here.folder / "shim")})
    here.write("offset", str(5 * 3600))
    here.ok("schedule", "pause", "p")  # whatever is decided has the daemon look at the clock
    here.ok("schedule", "resume", "p")
    until(lambda: facts(here, "stepped"))
    here.write("offset", str(9 * 3600 + 60))
    here.ok("schedule", "pause", "p")
    here.ok("schedule", "resume", "p")
    here.write("offset", "0")
    until(lambda: len(facts(here, "stepped")) >= 3, patience=40)
    assert stop(process).code == 0
    steps = [round(fact["seconds"] / 3600) for fact in facts(here, "stepped")]
    assert steps == [5, 4, -9]
    fired = [moment(fact["time"]) for fact in facts(here, "fired")]
    assert len(fired) == len(set(fired))


def _check_each_once(here: Place) -> None:
    """Every second between the first and the last decision was fired once, or skipped once."""
    seen: Counter[datetime] = Counter(moment(fact["time"]) for fact in facts(here, "fired"))
    for fact in facts(here, "skipped"):
        at, last = moment(fact["time"]), moment(fact["last"])
        while at <= last:
            seen[at] += 1
            at += timedelta(seconds=1)
    at, last = min(seen), max(seen)
    while at <= last:
        assert seen[at] == 1, (at, seen[at])
        at += timedelta(seconds=1)


def test_a_service_manager_is_told(here: Place, tmp_path: Path) -> None:
    """READY once it serves, signs of life, STOPPING at the end; by systemd's protocol."""
    here.pipeline({"a": {"run": "true"}})
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(10)
        process = serve(here, env={"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"})
        told = [listener.recv(1000).decode() for _ in range(3)]
        assert sum("READY=1" in text for text in told) == 1
        assert any(text == "WATCHDOG=1" for text in told)
        assert stop(process).code == 0
        while "STOPPING=1" not in told[-1]:
            told.append(listener.recv(1000).decode())
