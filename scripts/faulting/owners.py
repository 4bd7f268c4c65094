"""Who owns a run: many who want it at once, many names for one place, and owners that are dead, stopped or forged."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from faulting import living
from faulting.command import RUN, Command, Place
from faulting.family import Broken, Forbidden
from faulting.scenes import Scene, await_begun, check_begun, held, let_go, playing, prepare

HERD = 16
REFUSAL_S = 1.0
"""Seconds, beside the start of a Python as it takes on this machine now, in which a command is refused."""
FREE_S = 1.0
"""The same for taking a run whose owner is dead."""
LOCKED = 6


def _refused(place: Place, holder: Command, *words: str, state: str | None = None, named: bool = True) -> None:
    """A command is refused at once, with the holder's pid and the run's folder."""
    startup = _startup(place)
    began = time.monotonic()
    with place.begin(*words, state=state) as command:
        code = command.wait()
    took = time.monotonic() - began
    if code != LOCKED:
        raise Broken(f"`{command}` ended with {code} while {holder.pid} held the run: {command.said()}")
    if took - startup > REFUSAL_S:
        raise Broken(f"`{command}` was refused after {took:.1f}s (a start takes {startup:.1f}s)")
    _names(command, holder.pid if named else None)


def _names(command: Command, pid: int | None) -> None:
    said = command.err.read_text("utf-8", "replace")
    if pid is not None and f"pid {pid} " not in said:
        raise Broken(f"`{command}` was refused without naming pid {pid}: {command.said()}")
    if f"run {RUN} " not in said and f"/runs/{RUN} " not in said:
        raise Broken(f"`{command}` was refused without naming the run: {command.said()}")


def _startup(place: Place) -> float:
    began = time.monotonic()
    place.ask("runs")
    return time.monotonic() - began


def _taken(place: Place, what: str) -> None:
    """Resume the run, whose owner is dead, and bring it to its end; the task begins a second time at once."""
    startup = _startup(place)
    began = time.monotonic()
    with place.begin("resume", RUN) as command:
        if not living.within(20, lambda: len(place.lines("begun")) >= 2 or command.ended):
            raise Broken(f"{what}, and the task did not begin again: {command.said()}")
        took = time.monotonic() - began
        let_go(place, command)
    if took - startup > FREE_S:
        raise Broken(f"{what}, and the run was taken only after {took:.1f}s (a start takes {startup:.1f}s)")
    check_begun(place, 2)


def _herd(place: Place, *words: str, times: int) -> None:
    """So many commands at once: one owns the run, all others are refused and name it."""
    with contextlib.ExitStack() as stack:
        commands = [stack.enter_context(place.begin(*words)) for _ in range(HERD)]
        if not living.within(25, lambda: sum(command.ended for command in commands) >= HERD - 1):
            raise Broken(f"{sum(not command.ended for command in commands)} commands own the run at once")
        if all(command.ended for command in commands):
            raise Broken(f"nobody owns the run: {commands[0].said()}")
        [owner] = [command for command in commands if not command.ended]
        await_begun(place, times, owner)
        for command in commands:
            if command is not owner:
                if (code := command.wait()) != LOCKED:
                    raise Broken(f"one of {HERD} ended with {code}: {command.said()}")
                _names(command, None)  # who was asked before the owner had written its name cannot know it
        let_go(place, owner)
    check_begun(place, times)


# --- the contests --------------------------------------------------------------------------------------------


def _starters(place: Place) -> None:
    prepare(place)
    _herd(place, "run", "pipeline.yaml", "--run-id", RUN, times=1)


def _resumers(place: Place) -> None:
    with held(place) as holder:
        living.kill_all(lambda: living.of_life(holder.life))
    _herd(place, "resume", RUN, times=2)


def _other_names(place: Place) -> None:
    with held(place) as holder:
        (place.folder / "alias").symlink_to(place.state)
        dots = f"{place.folder}/../{place.folder.name}/./.flowd/"
        for state in (str(place.folder / "alias"), dots, ".flowd"):
            _refused(place, holder, "run", "pipeline.yaml", "--run-id", RUN, state=state)
            _refused(place, holder, "resume", RUN, state=state)
        let_go(place, holder)
    check_begun(place, 1)


def _bind_mount(place: Place) -> None:
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or os.geteuid() != 0:
        raise Forbidden("mounting needs root, and mount")
    with held(place) as holder:
        other = place.folder / "mounted"
        other.mkdir()
        done = subprocess.run([mount, "--bind", place.state, other], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Forbidden(f"mount --bind: {done.stderr.strip()}")
        try:
            _refused(place, holder, "resume", RUN, state=str(other))
            _refused(place, holder, "run", "pipeline.yaml", "--run-id", RUN, state=str(other))
        finally:
            subprocess.run([umount, other], check=False)
        let_go(place, holder)
    check_begun(place, 1)


def _no_owner_file(place: Place) -> None:
    """Nothing that can be removed is the lock: whoever tidies a folder up leaves its journal and what that needs."""
    needed = ("journal.", "spec.json", "mark")
    with held(place) as holder:
        informing = [path for path in place.run_folder.iterdir() if path.is_file() and not path.name.startswith(needed)]
        if place.run_folder / "owner.json" not in informing:
            raise Broken(f"the owner has not written its name: {informing}")
        for path in informing:
            path.unlink()
        _refused(place, holder, "resume", RUN, named=False)
        _refused(place, holder, "run", "pipeline.yaml", "--run-id", RUN, named=False)
        let_go(place, holder)
    check_begun(place, 1)


def _forged_owner(place: Place) -> None:
    """The dead owner's pid is somebody else's by now: it neither keeps the run nor is it ended."""
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as bystander:
        try:
            with held(place) as holder:
                holder.process.kill()
                holder.process.wait()
                living.within(5, lambda: not living.of_life(holder.life))
            _plant(place.run_folder / "owner.json", holder.pid, bystander.pid)
            _taken(place, "the dead owner's pid was used again")
            if bystander.poll() is not None:
                raise Broken("a process that had the dead owner's pid was ended")
        finally:
            bystander.kill()


def _plant(path: Path, dead: int, pid: int) -> None:
    owner: dict[str, Any] = json.loads(path.read_bytes())
    owner |= {"pid": pid, "host": socket.gethostname()}
    owner["incarnation"] = owner["incarnation"].replace(f"{dead}-", f"{pid}-", 1)
    path.write_text(json.dumps(owner))


def _stopped_holder(place: Place) -> None:
    with held(place) as holder:
        holder.process.send_signal(signal.SIGSTOP)
        try:
            _refused(place, holder, "resume", RUN)
            _refused(place, holder, "run", "pipeline.yaml", "--run-id", RUN)
            shown = place.ask("show", RUN, "--json").document()["state"]
            if shown != "running":
                raise Broken(f"the run of a stopped owner is shown as {shown}")
        finally:
            holder.process.send_signal(signal.SIGCONT)
        let_go(place, holder)
    check_begun(place, 1)


def _stray(place: Place) -> None:
    """A task has begun what outlives its owner and the guardian: it holds nothing of the lock."""
    stray = f"sleep 6{place.token.replace('x', '.')}"
    with held(place, f"(env -i setsid {stray} &)") as holder:
        guardians = living.guardians(holder.pid)
        family = living.of_life(holder.life) - {holder.pid} | {int(place.lines("begun")[0].split()[1])}
        for pid in family:
            if inherited := _held_folders(pid, place.state):
                raise Broken(f"{living.described([pid])} has inherited {inherited}")
        holder.process.kill()
        living.kill(guardians)
        holder.process.wait()
        startup = _startup(place)
        began = time.monotonic()
        place.ask("cancel", RUN)
        if (took := time.monotonic() - began - startup) > FREE_S + 0.5:  # it would wait 2 s for a living guardian
            raise Broken(f"a dead owner's run was taken only after {took:.1f}s beside a start")
        if left := living.bearing(stray.removeprefix("sleep ")):
            living.kill(left)
            raise Broken("the stray of a dead owner outlived the next one")


def _held_folders(pid: int, state: Path) -> list[str]:
    """What a process has open of the state directory, but for its own output."""
    found = []
    with contextlib.suppress(OSError):
        for descriptor in Path("/proc", str(pid), "fd").iterdir():
            with contextlib.suppress(OSError):
                target = descriptor.readlink()
                if target.is_relative_to(state) and target.parent.name != "logs":
                    found.append(str(target))
    return found


def _dead_holder(place: Place) -> None:
    with held(place) as holder:
        holder.process.kill()
        holder.process.wait()
        living.within(5, lambda: not living.of_life(holder.life))
    _taken(place, "the owner was killed")


CONTESTS: dict[str, Scene] = {
    f"{HERD} starters at once": _starters,
    f"{HERD} resumes at once": _resumers,
    "other names of the place": _other_names,
    "a bind mount": _bind_mount,
    "owner.json deleted": _no_owner_file,
    "the dead owner's pid used again": _forged_owner,
    "a stopped owner": _stopped_holder,
    "a stray of a dead owner": _stray,
    "a dead owner": _dead_holder,
}


run = playing(CONTESTS, "contests", jobs=1)  # a herd is load enough, and what is measured are seconds
