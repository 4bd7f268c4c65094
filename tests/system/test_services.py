"""Services as tasks: real processes that are probed, needed, killed, stopped, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from faulting.living import within

from flowd_process import Place, until
from web_server import SERVER

ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())"


def serving(**more: Any) -> dict[str, Any]:
    """A web server on any port, quickly probed."""
    ready = {"http": "/", "every": "50ms", "marker": "up.json"}
    return {"service": ["python", "server.py", "{{ port }}"], "port": "auto", "ready": ready, **more}


def asking(**more: Any) -> dict[str, Any]:
    """A task that asks it, and keeps what its marker says."""
    return {"needs": "api", "run": ["python", "ask.py", "{{ tasks.api.url }}"], **more}


@pytest.fixture
def place(here: Place) -> Place:
    """A folder with the server and who asks it."""
    here.write("server.py", SERVER)
    here.write("ask.py", ASK)
    return here


def task(here: Place, name: str = "api") -> dict[str, Any]:
    """How a task of the newest run stands."""
    found: dict[str, Any] = here.json("show")["tasks"][name]
    return found


def serves(here: Place, name: str = "api") -> bool:
    """Whether a service of the newest run serves."""
    return (
        bool(list(here.state.glob("runs/*/mark")))
        and here.json("show")["tasks"].get(name, {}).get("state") == "serving"
    )


def living(text: str) -> list[str]:
    """The processes whose command lines hold a text."""
    found = subprocess.run(["pgrep", "-f", text], capture_output=True, text=True, check=False).stdout.split()
    return [pid for pid in found if int(pid) != os.getpid()]


def gone(text: str) -> bool:
    """Whether no such process is left, a moment later."""
    return within(3.0, lambda: not living(text))


def test_what_needs_it_starts_once_it_serves_and_it_stops_with_the_last_of_them(place: Place) -> None:
    """Its marker stands meanwhile, and it has succeeded when nothing needs it any more."""
    slow = serving(service="sleep 0.3; exec python server.py {{ port }}")
    place.pipeline({"api": slow, "ask": asking(), "look": {"needs": "ask", "run": "cat up.json > seen"}})
    ended = place.ok("run")
    [seen] = place.lines("seen")
    marker, api = json.loads(seen), task(place)
    assert marker["url"] == api["service"]["url"]
    assert marker["pid"] == api["service"]["pid"]
    assert not (place.folder / "up.json").exists()
    assert (api["state"], api["url"], api["metrics"]) == ("succeeded", None, {"requests": 1})
    assert api["attempt_list"][0]["ending"]["stopped_by"] == "SIGTERM"
    begun = {name: task(place, name)["started"] for name in ("api", "ask")}
    assert begun["ask"] >= api["service"]["since"] > begun["api"]
    assert "▸ api" in ended.out
    assert gone("server.py")


@pytest.mark.parametrize(
    "probe",
    [
        {"http": "/"},
        {"tcp": True},
        {"log": "^up$"},
        {"file": "is_up"},
        {"command": 'python ask.py "http://127.0.0.1:$FLOWD_PORT/"'},
        {},
    ],
    ids=str,
)
def test_each_probe(place: Place, probe: dict[str, Any]) -> None:
    """Whatever is asked, the service has to hold its port by then."""
    text = "sleep 0.2; (sleep 0.3; touch is_up) & exec python server.py {{ port }}"
    place.pipeline({"api": serving(service=text, ready={"every": "50ms", **probe}), "ask": asking()})
    place.ok("run")
    assert task(place, "ask")["state"] == "succeeded"


def test_a_probe_that_never_passes_fails_the_task_with_its_last_words(place: Place) -> None:
    """And with what the service said last; nothing below it starts."""
    ready = {"http": "/bad", "every": "50ms", "timeout": "2s"}
    place.pipeline({"api": serving(ready=ready), "ask": asking()})
    process = place.begin("run")
    until(lambda: [one["probe"] for one in place.json("services", "list")["services"] if one["probe"].endswith("500")])
    assert process.wait(20) == 1
    error = task(place)["error"]
    assert error["type"] == "NotReady"
    assert "not ready after 2s: GET http://127.0.0.1:" in error["message"]
    assert error["message"].endswith("/bad: status 500; it said last: up")
    assert task(place, "ask")["state"] == "upstream_failed"
    assert gone("server.py")


def test_one_that_speaks_no_http_is_not_ready(place: Place) -> None:
    """It may yet learn to: it is asked until the time is over, and it is said what came."""
    text = "import socket\nwith socket.create_server(('127.0.0.1', PORT)) as server:\n while True:\n  "
    text += "one, _ = server.accept(); one.recv(100); one.sendall(b'hello\\n'); one.close()"
    program = text.replace("PORT", "int(__import__('os').environ['FLOWD_PORT'])")
    place.write("babble.py", program)
    ready = {"http": "/", "every": "50ms", "timeout": "500ms"}
    place.pipeline({"api": serving(service=["python", "babble.py"], ready=ready)})
    assert place.run("run").code == 1
    error = task(place)["error"]
    assert (error["type"], "what answers speaks no HTTP (BadStatusLine)" in error["message"]) == ("NotReady", True)


def test_a_stranger_on_its_port_is_named(place: Place) -> None:
    """An answer of another program is no sign that the service serves."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        place.pipeline(
            {"api": {"service": "sleep 20", "port": port, "ready": {"tcp": True, "every": "50ms", "timeout": "400ms"}}}
        )
        assert place.run("run").code == 1
    message = task(place)["error"]["message"]
    assert f"port {port} is held by " in message
    assert f"(pid {os.getpid()}), not by the service" in message


def test_one_that_dies_comes_back_on_its_port_and_is_counted(place: Place) -> None:
    """Whoever knows its address goes on asking there."""
    place.pipeline({"api": serving(restart={"attempts": 3, "delay": "50ms"}, keep="run")})
    process = place.begin("run")
    until(lambda: serves(place))
    first = task(place)["service"]
    os.kill(first["pid"], signal.SIGKILL)
    until(lambda: (now := task(place))["state"] == "serving" and now["service"]["restarts"] == 1)
    second = task(place)["service"]
    assert second["url"] == first["url"]
    assert second["pid"] != first["pid"]
    [listed] = place.json("services", "list")["services"]
    assert (listed["task"], listed["state"], listed["restarts"]) == ("api", "serving", 1)
    assert "restarted once" in place.ok("show").out
    assert place.json("why", "last", "api")["code"] == "serving"
    assert "service api of run" in place.ok("stop", "last", "api").out
    assert process.wait(20) == 0
    assert gone("server.py")


def test_a_crash_loop_ends_and_says_so(place: Place) -> None:
    """After as many restarts as it is allowed, also where it never served again."""
    place.pipeline(
        {"api": {"service": "echo up; sleep 0.2; exit 4", "ready": {"log": "up", "every": "20ms"},
                 "restart": {"attempts": 2, "delay": "10ms", "backoff": "linear", "max_delay": "15ms"}}}
    )  # fmt: skip
    assert place.run("run").code == 1
    api = task(place)
    assert (api["state"], api["attempts"], api["service"]["restarts"]) == ("failed", 3, 2)
    assert [attempt["waited_s"] for attempt in api["attempt_list"]] == [None, 0.01, 0.015]
    said = "restarted 2 times, and no more: CommandFailed: the service ended by itself"
    assert api["reason"]["sentence"].startswith(said)


def test_once_only_services_are_left_the_first_signal_ends_them_well(place: Place) -> None:
    """Ctrl-C is how such a run is stopped: it has succeeded."""
    place.pipeline({"api": serving(), "ask": asking(), "board": serving(needs="ask", ready={"tcp": True}, keep="run")})
    process = place.begin("run")
    until(lambda: serves(place, "board"))
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert place.json("show")["state"] == "succeeded"
    assert gone("server.py")


def test_while_anything_else_is_left_a_signal_interrupts(place: Place) -> None:
    """The run can be resumed, and its service comes up again by itself."""
    place.pipeline({"api": serving(), "slow": asking(run="sleep $(cat nap)")})
    place.write("nap", "30")
    process = place.begin("run")
    until(lambda: serves(place) and task(place, "slow")["state"] == "running")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert place.json("show")["state"] == "interrupted"
    place.write("nap", "0")
    place.ok("resume")
    assert task(place)["attempts"] == 2


def test_a_killed_engine_leaves_no_service_and_the_next_one_brings_it_back(place: Place) -> None:
    """SIGKILL to flowd; what has served tasks that are done is begun again for those that are not."""
    place.pipeline({"api": serving(), "ask": asking(), "slow": {"needs": "ask", "run": "sleep $(cat nap)"}})
    place.write("nap", "30")
    process = place.begin("run")
    until(lambda: (place.state / "runs").exists() and task(place, "slow")["state"] == "running")
    process.kill()
    process.wait()
    assert gone("server.py")
    place.write("nap", "0")
    place.ok("resume")
    assert (task(place)["attempts"], task(place, "ask")["attempts"], task(place, "slow")["attempts"]) == (2, 1, 2)
    assert not (place.folder / "up.json").exists()


def test_one_that_will_not_go_leaves_nothing(place: Place) -> None:
    """It ignores SIGTERM, closes its streams, and has left a daemon behind; its lifetime ends it all the same."""
    daemon = "(setsid sh -c 'exec >&- 2>&-; sleep 97' &)"
    text = f"trap '' TERM; {daemon}; touch is_up; exec >&- 2>&-; while :; do sleep 97; done"
    place.pipeline(
        {"api": {"service": text, "ready": {"file": "is_up", "every": "50ms"}, "lifetime": "300ms",
                 "stop": {"grace": "300ms"}}}
    )  # fmt: skip
    begun = time.monotonic()
    place.ok("run")
    assert time.monotonic() - begun < 15
    assert task(place)["attempt_list"][0]["ending"]["stopped_by"] == "SIGKILL"
    assert gone("sleep 97")


def test_it_is_stopped_by_the_signal_that_it_wants(place: Place) -> None:
    """As servers that finish their requests on SIGINT or SIGQUIT."""
    # no shell: one may die of a signal that comes while it forks, whatever its trap says
    place.write(
        "polite.py",
        "import pathlib, signal, sys\n"
        "def bye(*_):\n"
        "    pathlib.Path('said').write_text('bye')\n"
        "    sys.exit()\n"
        "signal.signal(signal.SIGINT, bye)\n"
        "pathlib.Path('is_up').touch()\n"
        "while True:\n"
        "    signal.pause()\n",
    )
    service = ["python", "polite.py"]
    place.pipeline(
        {
            "api": {
                "service": service,
                "ready": {"file": "is_up", "every": "50ms"},
                "lifetime": "100ms",
                "stop": {"signal": "INT"},
            }
        }
    )
    place.ok("run")
    assert place.lines("said") == ["bye"]
    assert task(place)["attempt_list"][0]["ending"]["stopped_by"] == "SIGINT"


def test_a_function_serves_in_a_process_of_its_own(place: Place) -> None:
    """It is told its port by `with`, and what it measures is read while it serves."""
    place.write(
        "web.py",
        "import http.server\n"
        "def web(ctx, port):\n"
        "    ctx.metric('ready', 1)\n"
        "    server = http.server.SimpleHTTPRequestHandler\n"
        "    http.server.HTTPServer(('127.0.0.1', port), server).serve_forever()\n",
    )
    place.pipeline({"api": serving(service={"call": "web:web"}, **{"with": {"port": "{{ port }}"}})})
    process = place.begin("run")
    until(lambda: serves(place))
    [listed] = place.json("services", "list")["services"]
    assert listed["metrics"] == {"ready": 1}
    assert "api  serving for" in place.ok("services", "list").out
    assert "GET / HTTP" in place.ok("services", "logs", "last", "api").out
    place.ok("services", "stop", "last", "api")
    assert process.wait(20) == 0


def test_a_retry_brings_up_what_it_needs(place: Place) -> None:
    """A service has succeeded with its run; a task below it that is run again needs it once more."""
    place.pipeline({"api": serving(), "ask": asking(run="test -e go; exec python ask.py {{ tasks.api.url }}")})
    assert place.run("run").code == 1
    assert task(place)["state"] == "succeeded"
    place.write("go", "")
    place.ok("retry")
    assert (task(place)["attempts"], task(place, "ask")["state"]) == (2, "succeeded")


def test_only_a_service_that_serves_is_stopped(place: Place) -> None:
    """Everything else is refused in words."""
    place.pipeline({"api": serving(), "ask": asking()})
    place.ok("run")
    for words, said in (
        (("last", "ask"), "is no service"),
        (("last", "api"), "is succeeded, and nobody has it"),
        (("last", "apo"), "has no task apo"),
    ):
        ended = place.run("stop", *words)
        assert ended.code == 2
        assert said in ended.err
    assert "no service runs here" in place.ok("services", "list").out


def test_services_do_not_take_the_places_of_tasks(place: Place) -> None:
    """With one task at a time, what needs a service still has its turn."""
    place.pipeline({"api": serving(), "ask": asking()}, max_concurrency=1)
    place.ok("run", "--max-concurrency", "1")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"service": "x", "port": 0}, "write 1 to 65535, or `auto`"),
        ({"service": "x", "ready": {"http": "/"}}, "`http` asks the service's own port, and it has none"),
        ({"service": "x", "ready": {"http": "/", "log": "x"}}, "a service is asked one thing"),
        ({"service": "x", "ready": {"log": "("}}, "is no regular expression"),
        ({"service": "x", "outputs": ["a"]}, "the `marker` of `ready`"),
        ({"service": "x", "timeout": "3s"}, "write `timeout` within `ready`, or a `lifetime`"),
        ({"service": "x", "restart": 3}, "write {attempts: 3}"),
        ({"service": {"run": "x"}}, "a command, or {call: module:function} is expected"),
        ({"service": "x", "foreach": [1]}, "`foreach` has no meaning beside `service`"),
        ({"run": "x", "port": "auto"}, "`port` has no meaning beside `run`"),
        ({"run": "x {{ port }}"}, "`port` is not known"),
        ({"service": "x", "run": "y"}, "a task has one action"),
        ({"service": "x", "executor": "shell"}, "a service has a process of its own"),
        ({"run": "x", "executor": "service"}, "a service has a process of its own, and this is none"),
        ({"service": "x", "ready": {"log": "{{ port }}"}}, "`{{ }}` cannot stand in `log`"),
        (
            {"service": "x", "port": 1, "ready": {"http": "http://a:{{ port }}/"}},
            "a path on the service's own port: /health",
        ),
        ({"service": "x", "ready": {"command": "nc -z {{ port }}"}}, "finds the port in $FLOWD_PORT"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_service_is_said(here: Place, keys: dict[str, Any], said: str) -> None:
    """By its key, with what to write instead."""
    here.pipeline({"api": keys})
    ended = here.run("validate")
    assert ended.code == 2, ended.said
    assert said in ended.err + ended.out


def test_it_is_the_same_in_python(place: Place, tmp_path: Path) -> None:
    """A service of a pipeline in a module."""
    place.write(
        "pipeline.py",
        "from flowd import Pipeline\n"
        "p = Pipeline('p')\n"
        "serve = ['python', 'server.py', '{{ port }}']\n"
        "api = p.service('api', serve, port='auto', ready={'http': '/', 'every': '50ms'})\n"
        "p.shell('ask', ['python', 'ask.py', '{{ tasks.api.url }}'], needs=api)\n",
    )
    place.ok("run", "pipeline.py")
    assert task(place, "ask")["state"] == "succeeded"
