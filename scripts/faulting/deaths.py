"""Ends from outside: terminals hung up, containers, want of memory, a machine that stands still or starts anew."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from faulting import living
from faulting.cgroups import cgroup, inside
from faulting.command import RUN, Command, Place
from faulting.family import Broken, Forbidden
from faulting.looking import look
from faulting.scenes import Scene, await_begun, check_begun, check_ends, held, let_go, playing, prepare

DEATH_S = 2.0
ENDS_OF_TERMINALS = (130, 4)
"""Interrupted; or the summary could not be written any more."""
STANDSTILL_S = 3.0
MEGABYTE = 1 << 20
ROOMS_MB = (30, 36, 40, 44, 48, 52, 56, 60, 64, 70, 80, 100)
"""Sizes of address space from less than Python itself takes to what a small run needs."""
BOOT_ID = "/proc/sys/kernel/random/boot_id"

HOG = """
import asyncio
from pathlib import Path

FOLDER = Path(__file__).parent


async def charge():
    with (FOLDER / "charged").open("a") as file:
        file.write("once\\n")


async def eat(ctx):
    await asyncio.sleep(0.3)  # until what succeeded before is on record
    hoard = []
    while not (FOLDER / "go").exists():
        hoard.append(b"x" * (8 << 20))
    return "eaten"
"""


# --- terminals -------------------------------------------------------------------------------------------


def _terminal_closed(place: Place) -> None:
    """The window is closed: SIGHUP from the kernel, and streams that lead nowhere."""
    prepare(place)
    ours, theirs = os.openpty()
    words = [sys.executable, "-m", "flowd", "run", "pipeline.yaml", "--run-id", RUN, "--state-dir", str(place.state)]
    with subprocess.Popen(
        ["setsid", "--ctty", "--wait", *words],
        cwd=place.folder,
        env={**os.environ, living.LIFE: f"{place.token}.tty", "PYTHONUTF8": "1"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as terminal:
        os.close(theirs)
        try:
            if not living.within(20, lambda: place.lines("begun")):
                raise Broken("the task did not begin on a terminal")
        finally:
            os.close(ours)
        try:
            code = terminal.wait(20)
        except subprocess.TimeoutExpired:
            terminal.kill()
            raise Broken("a run whose terminal was closed goes on for 20s") from None
    state = look(place).state
    if code not in ENDS_OF_TERMINALS or state != "interrupted":
        raise Broken(f"a run whose terminal was closed ended with {code}, {state}")
    if left := living.of_life(f"{place.token}.tty"):
        raise Broken(f"after the terminal was closed there live {living.described(left)}")
    (place.folder / "go").touch()
    check_ends(place)
    check_begun(place, 2)


# --- standing still --------------------------------------------------------------------------------------


def _stopped_while_its_task_ends(place: Place) -> None:
    """All but the task stand still while that ends; awake again nothing is done twice."""
    with held(place, idempotent=False) as holder:
        still = {holder.pid, *living.guardians(holder.pid)}
        living.kill(still, signal.SIGSTOP)
        (place.folder / "go").touch()
        time.sleep(STANDSTILL_S)
        living.kill(still, signal.SIGCONT)
        let_go(place, holder)
    check_begun(place, 1)
    check_ends(place)


def _frozen(place: Place) -> None:
    """Everything stands still, as in a machine that is suspended."""
    with cgroup("freezer", place) as group, held(place, idempotent=False) as holder:
        for pid in living.of_life(holder.life):
            (group / "cgroup.procs").write_text(str(pid))
        (group / "freezer.state").write_text("FROZEN")
        try:
            time.sleep(STANDSTILL_S)
        finally:
            (group / "freezer.state").write_text("THAWED")
        let_go(place, holder)
    check_begun(place, 1)
    check_ends(place)


# --- all at once -----------------------------------------------------------------------------------------


def _container_killed(place: Place) -> None:
    """Its pid namespace ends, and with it every process of it in the same moment."""
    unshare = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        raise Forbidden("no pid namespace can be made here")
    prepare(place, "(env -i setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &)")
    with place.run(before=unshare) as command:
        await_begun(place, 1, command)
        command.process.kill()
        command.process.wait()
        if not living.within(DEATH_S, lambda: not living.of_life(command.life)):
            raise Broken(f"a container was killed, and there live {living.described(living.of_life(command.life))}")
    (place.folder / "go").touch()
    check_ends(place)
    check_begun(place, 2)


def _killed_for_memory(place: Place) -> None:
    """The kernel ends flowd itself for what a task of its own process has eaten."""
    (place.folder / "hog.py").write_text(HOG)
    place.pipeline(
        {
            "charge": {"call": "hog:charge", "idempotent": False},
            "eat": {"call": "hog:eat", "needs": ["charge"]},
        }
    )
    with cgroup("memory", place) as group:
        (group / "memory.limit_in_bytes").write_text(str(90 * MEGABYTE))
        with place.run(before=inside(group)) as command:
            if command.wait() != -signal.SIGKILL:
                raise Broken(f"it was to be killed for want of memory: {command.process.returncode}: {command.said()}")
            if not living.within(DEATH_S, lambda: not living.of_life(command.life)):
                raise Broken(f"after that there live {living.described(living.of_life(command.life))}")
    (place.folder / "go").touch()
    check_ends(place)
    if place.lines("charged") != ["once"]:
        raise Broken(f"what had succeeded before began again: {place.lines('charged')}")


# --- little memory ---------------------------------------------------------------------------------------


def _little_memory(megabytes: int) -> Scene:
    """So little room that memory ends at any point from Python's own start on."""

    def scene(place: Place) -> None:
        (place.folder / "hog.py").write_text(HOG.replace("while not", "if not"))
        place.pipeline({f"t{n}": {"run": "echo $FLOWD_TASK >> begun"} for n in range(3)} | {"e": {"call": "hog:eat"}})
        before = ("env", "PYTHONFAULTHANDLER=1", "prlimit", f"--as={megabytes * MEGABYTE}")
        with place.run(before=before) as command:
            with contextlib.suppress(Broken):  # Python itself may die with a traceback before flowd has begun
                command.wait()
            if not command.ended and not _waits_for_a_dead_thread(command):
                raise Broken(f"with {megabytes} MB it hangs: {command.said()}")
            code = command.process.returncode
            said = command.err.read_text("utf-8", "replace")
            if not living.within(DEATH_S, lambda: not living.of_life(command.life)):
                raise Broken(f"with {megabytes} MB it left {living.described(living.of_life(command.life))}")
        if "Traceback" in said and "MemoryError" not in said and "Error" not in said.splitlines()[-1]:
            raise Broken(f"with {megabytes} MB it ended with {code}: {command.said()}")
        state = look(place).state  # Broken where what is on record is not whole
        if code == 0 and state != "succeeded":
            raise Broken(f"with {megabytes} MB it ended with 0, and the run is {state or 'not there'}")
        if state != "failed":
            with place.run() as command:
                code = command.wait()
            state = look(place).state
        if state == "failed":  # tasks that had found no room in the first life
            check_ends(place, "retry", RUN)
        elif (code, state) != (0, "succeeded"):
            raise Broken(f"gone on with it ends with {code}, {state}: {command.said()}")

    return scene


def _waits_for_a_dead_thread(command: Command) -> bool:
    """Whether a process that hangs does so in Python itself: `Thread.start` waits for ever for a thread that has ended.

    A thread which finds no memory for its first step ends without a word to the one that started it.
    """
    command.process.send_signal(signal.SIGABRT)  # Python's fault handler writes where each thread stands
    command.process.wait()
    main_thread = command.err.read_text("utf-8", "replace").rpartition("most recent call first")[2]
    return any(line.endswith(" in start") and "threading.py" in line for line in main_thread.splitlines()[:5])


# --- another start of the machine ------------------------------------------------------------------------


def _after_a_reboot(place: Place) -> None:
    """The machine was started anew: whoever bears the pid and the mark of a dead owner's task is somebody else."""
    _bystander(place, rebooted=True)


def _without_a_reboot(place: Place) -> None:
    """The same without one: here the bystander is what the dead owner left, or the scene before shows nothing."""
    _bystander(place, rebooted=False)


def _bystander(place: Place, *, rebooted: bool) -> None:
    with held(place) as holder:
        mark = next(_marks(place))
        living.kill(living.guardians(holder.pid) | {holder.pid})
        holder.process.wait()
        living.kill_all(lambda: living.of_life(holder.life))
    (place.folder / "go").touch()
    (place.folder / "boot").write_text("99999999-aaaa-4bbb-8ccc-dddddddddddd\n")
    mount = f'mount --bind "$0" {BOOT_ID} && exec "$@"'
    mounting = ("unshare", "--mount", "sh", "-c", mount, str(place.folder / "boot"))
    if rebooted and subprocess.run([*mounting, "true"], capture_output=True, check=False).returncode:
        raise Forbidden("nothing can be mounted over the boot id here")
    with subprocess.Popen(["sleep", "600"], env={"FLOWD_MARK": mark}, start_new_session=True) as bystander:
        try:
            with place.begin("resume", RUN, before=mounting if rebooted else ()) as command:
                if code := command.wait():
                    raise Broken(f"resume ended with {code}: {command.said()}")
            ended = bystander.poll() is not None
        finally:
            bystander.kill()
    if ended and rebooted:
        raise Broken("after a new start of the machine a process was signalled for a dead owner's sake")
    if not ended and not rebooted:
        raise Broken("what a dead owner left was not found, so nothing was tried")
    check_begun(place, 2)


def _marks(place: Place) -> Iterator[str]:
    owner = json.loads((place.run_folder / "owner.json").read_bytes())
    yield owner["incarnation"]


SCENES: dict[str, Scene] = {
    "the terminal is closed": _terminal_closed,
    "flowd stands still while its task ends": _stopped_while_its_task_ends,
    "everything stands still": _frozen,
    "the container is killed": _container_killed,
    "the kernel ends it for want of memory": _killed_for_memory,
    **{f"{megabytes} MB of memory": _little_memory(megabytes) for megabytes in ROOMS_MB},
    "the machine was started anew": _after_a_reboot,
    "the machine was not started anew": _without_a_reboot,
}

run: Callable[..., None] = playing(SCENES, "ends")
