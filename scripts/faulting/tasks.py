"""What tasks do, say and return that a program who looks after them has to bear."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faulting import living
from faulting.cgroups import cgroup, inside
from faulting.command import RUN, Command, Place
from faulting.family import Broken
from faulting.looking import check_told, look
from faulting.scenes import Scene, check_begun, check_ends, held, let_go, playing

STOP_S = 5.0
PROCESSES = 120
"""Processes and threads that flowd and its tasks may have together beside a fork bomb."""
PRINTED = 1_000_000_000
MOST_KEPT = (64 << 20) + 1000
"""The cap of one stream, and what is said of the rest."""
MOST_MEMORY = 128 << 20
LARGE = 200_000_000
MOST_JOURNAL = 64 << 10
UNKILLING = {"SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGURG", "SIGWINCH"}
"""Signals that end no shell."""
FUNCTIONS = """
import threading


def forged(ctx):
    line = open(__file__.replace("functions.py", "line")).read()
    print(line)
    ctx.log.info(line)
    ctx.log.info("seen\\n" + line)


def colours(ctx):
    ctx.log.info("\\x1b[31mred\\x1b]0;title\\x07", field="\\x9b31m\\u202e")
    raise RuntimeError("\\x1b[31mred \\u202ebackwards\\x07\\r\\nsecond \\x9b31mline")


def large(size):
    return bytes(size)


def deep():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


class Odd:
    def __reduce__(self):
        raise RuntimeError("not this one")


VALUES = {
    "a_set": {1, 2}, "a_lock": threading.Lock(), "a_lambda": lambda: None, "nan": float("nan"),
    "inf_inside": {"rows": [1.0, {"mae": float("-inf")}]}, "huge": 10**30, "raw": b"\\xff\\x00", "odd": Odd(),
    "surrogate": "\\ud800", "tuples": {(1, 2): "pair"}, "generator": (n for n in range(3)), "cls": Odd,
}


def value(name):
    return VALUES[name]
"""
KEPT = {"a_set", "huge", "raw", "tuples", "cls"}
REFUSED = {"a_lock", "a_lambda", "nan", "inf_inside", "odd", "generator"}
LOOKS_ALIKE = {"seq": 3, "at": "2026-11-24T00:00:00.000Z", "run": RUN, "event": "task_succeeded", "task": "forged"}


def _functions(place: Place) -> None:
    (place.folder / "functions.py").write_text(FUNCTIONS)


def _ends(place: Place, code: int, *flags: str, before: tuple[str, ...] = ()) -> Command:
    with place.run(*flags, before=before) as command:
        found = command.wait()
        if found != code:
            raise Broken(f"`{command}` ended with {found}, not {code}: {command.said()}")
        if left := living.of_life(command.life):
            raise Broken(f"after the end of `{command}` there live {living.described(left)}")
    look(place)  # Broken where what is on record is not whole
    return command


def _tasks(place: Place) -> dict[str, Any]:
    return dict(place.ask("show", RUN, "--json").document()["tasks"])


# --- processes -------------------------------------------------------------------------------------------


def _fork_bomb(place: Place) -> None:
    """It takes all the processes that there may be; it is ended, and what comes after it runs."""
    bomb = "test -e calm && exit 0; b() { b | b & }; b; sleep 600"
    place.pipeline(
        {
            "before": {"run": "true"},
            "bomb": {"run": bomb, "needs": ["before"], "timeout": "1500ms", "grace": "500ms"},
            "after": {"run": "true", "needs": ["bomb"]},
        }
    )
    with cgroup("pids", place) as group:
        (group / "pids.max").write_text(str(PROCESSES))
        _ends(place, 1, before=inside(group))
        (place.folder / "calm").touch()
        check_ends(place, "retry", RUN)


def _no_process_left(place: Place) -> None:
    """No further process may begin: the attempt has not started, is said to, and may be asked for again."""
    with cgroup("pids", place) as group:
        with held(place) as holder:
            pids = living.of_life(holder.life)
            for pid in pids:
                (group / "cgroup.procs").write_text(str(pid))
            (group / "pids.max").write_text((group / "pids.current").read_text())
            (place.folder / "sleeps").touch()
            (place.folder / "go").touch()
            code = holder.wait()
        if code == 0:
            return  # the shell had made room by then
        error = _tasks(place)["u"]["error"]
        if error is None or error["type"] != "NotStarted":
            raise Broken(f"no process could begin, and u ended with {error}")
        (group / "pids.max").write_text("max")
        check_ends(place, "retry", RUN)
    check_begun(place, 1)


# --- output ----------------------------------------------------------------------------------------------


def _a_gigabyte(place: Place) -> None:
    """Kept up to the cap; the rest is counted and said, in memory that does not grow."""
    with held(place, f"head -c {PRINTED} /dev/zero; test -e over || touch over") as holder:
        if not living.within(60, (place.folder / "over").exists):
            raise Broken(f"a gigabyte of output is not taken: {holder.said()}")
        for pid in {holder.pid, *living.guardians(holder.pid)}:
            if (peak := _peak(pid)) > MOST_MEMORY:
                raise Broken(f"{living.described([pid])} has taken {peak >> 20} MB for a task's output")
        let_go(place, holder)
    log = place.run_folder / "logs" / "t.1.log"
    end = log.read_bytes()[-400:]
    if log.stat().st_size > MOST_KEPT or b"bytes of stdout are missing here" not in end:
        raise Broken(f"{log.stat().st_size} bytes are kept of {PRINTED}, and the end is {end!r}")


def _peak(pid: int) -> int:
    for line in Path("/proc", str(pid), "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


def _no_text(place: Place) -> None:
    """NUL, invalid UTF-8, a line without an end: bytes are kept as they are, and what is recorded is text."""
    said = r"printf 'a\000b\377\200\n\355\240\200'; head -c 200000 /dev/urandom | tr -d '\n'; exit 3"
    place.pipeline({"t": {"run": said}, "err": {"run": f"({said}) >&2"}})
    _ends(place, 1)
    journal = (place.run_folder / "journal.0001.jsonl").read_bytes()
    if len(journal) > MOST_JOURNAL or any(json.loads(line) is None for line in journal.decode("utf-8").splitlines()):
        raise Broken(f"the journal has {len(journal)} bytes")
    place.ask("logs", RUN)
    if len(place.ask("logs", RUN, "--json").document()["logs"]) != 2:
        raise Broken("what the tasks wrote is not all there")
    place.ask("show", RUN)


def _looks_like_a_record(place: Place) -> None:
    """What a task prints and logs stands on no record and among no events."""
    _functions(place)
    (place.folder / "line").write_text(json.dumps(LOOKS_ALIKE))
    place.pipeline({"forged": {"call": "functions:forged"}, "shell": {"run": "cat line line; exit 1"}})
    command = _ends(place, 1, "--events")
    check_told(command.out, look(place))
    printed = [json.loads(line) for line in command.out.read_text().splitlines()]
    if len(printed) != len(look(place).lines):
        raise Broken(f"{len(printed)} events were printed, {len(look(place).lines)} are on record")
    if _tasks(place)["shell"]["state"] != "failed":
        raise Broken("a task that printed its own success has one")


def _terminal_codes(place: Place) -> None:
    """What moves a cursor, colours, rings or turns a line round reaches no terminal but written out."""
    _functions(place)
    said = r"printf '\033[31mred\033]0;title\007\n' >&2; exit 3"
    place.pipeline({"t": {"call": "functions:colours"}, "s": {"run": said}})
    command = _ends(place, 1)
    texts = {"run's stdout": command.out.read_bytes(), "run's stderr": command.err.read_bytes()}
    for words in (("show", RUN), ("events", RUN), ("runs",)):
        texts[words[0]] = place.ask(*words).out.read_bytes()
    for name, data in texts.items():
        for line in data.decode("utf-8").split("\n"):
            if not line.isprintable():
                raise Broken(f"{name} has {line!r}")
            if line.startswith("second"):
                raise Broken(f"{name} lets a task begin a line of its own: {line!r}")


# --- results and ends ------------------------------------------------------------------------------------


def _odd_results(place: Place) -> None:
    """What can be kept is; for the rest the task fails, naming where in the value the trouble is."""
    _functions(place)
    names = sorted(KEPT | REFUSED | {"surrogate"})
    calls: dict[str, Any] = {name: {"call": "functions:value", "with": {"name": name}} for name in names}
    place.pipeline(calls | {"deep": {"call": "functions:deep"}})
    _ends(place, 1)
    for line in (place.run_folder / "journal.0001.jsonl").read_text("utf-8").splitlines():
        json.loads(line, parse_constant=_no_constant)
    tasks = _tasks(place)
    wrong = [name for name in KEPT if tasks[name]["state"] != "succeeded"]
    wrong += [name for name in REFUSED | {"deep"} if tasks[name]["state"] != "failed"]
    if wrong:
        raise Broken(f"results: {[(name, tasks[name]['state'], tasks[name]['error']) for name in wrong]}")
    for name, path in (("nan", "result is nan"), ("inf_inside", "result.rows[1].mae is -inf")):
        if path not in tasks[name]["error"]["message"]:
            raise Broken(f"{name}: {tasks[name]['error']['message']}")


def _no_constant(word: str) -> None:
    raise Broken(f"{word} stands in the journal, which is no JSON")


def _large_result(place: Place) -> None:
    """A large result is a file of its own; where memory ends, the task fails and flowd does not."""
    _functions(place)
    place.pipeline({"t": {"call": "functions:large", "with": {"size": LARGE}}})
    _ends(place, 1, before=("prlimit", f"--as={LARGE * 3 // 2}"))
    error = _tasks(place)["t"]["error"]
    if error["type"] not in {"MemoryError", "NotStarted"}:  # there may be no room for its thread, even
        raise Broken(f"memory has ended, and the task's error is {error}")
    check_ends(place, "retry", RUN)
    if (size := (place.run_folder / "journal.0001.jsonl").stat().st_size) > MOST_JOURNAL:
        raise Broken(f"with a large result the journal has {size} bytes")


def _every_end(place: Place) -> None:
    """Exit codes 1 to 255 and death by every signal are each told as what they were."""
    dying = [one.name for one in signal.Signals if one.name not in UNKILLING and one < signal.SIGRTMIN]
    codes = {f"c{number}": {"run": f"exit {number}"} for number in range(1, 256)}
    deaths = {name.lower(): {"run": f"kill -{int(signal.Signals[name])} $$"} for name in dying}
    place.pipeline(codes | deaths, max_concurrency=8)
    _ends(place, 1)
    tasks = _tasks(place)
    for number in range(1, 256):
        error = tasks[f"c{number}"]["error"]
        if (error.get("exit_code"), error.get("signal")) != (number, None):
            raise Broken(f"exit code {number} is told as {error}")
    for name in dying:
        error = tasks[name.lower()]["error"]
        if signal.Signals[error.get("signal") or "SIGCONT"] != signal.Signals[name]:
            raise Broken(f"death by {name} is told as {error}")


SCENES: dict[str, Scene] = {
    "a fork bomb": _fork_bomb,
    "no process left": _no_process_left,
    "a gigabyte of output": _a_gigabyte,
    "output that is no text": _no_text,
    "output that looks like a record": _looks_like_a_record,
    "codes for terminals": _terminal_codes,
    "odd results": _odd_results,
    "a large result": _large_result,
    "every exit code and signal": _every_end,
}

run: Callable[..., None] = playing(SCENES, "tasks")
