"""The control group of a guardian's tasks: where there can be one it misses nobody, where not nothing is worse."""

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulting.living import bearing, kill_all, within
from faulting.shapes import NASTY, UNMARKED

from attempts import living
from flowd.adapters.executors.guardian import Command, Guardian
from flowd.adapters.executors.leftovers import end_leftovers
from flowd.adapters.journal.lock import new_incarnation
from flowd.guardian import cgroup, strays

CAN, WHY = cgroup.available()
needs_a_group = pytest.mark.skipif(not CAN, reason=f"no control group can be made here: {WHY}")


@pytest.fixture
def token() -> Iterator[str]:
    """A number of seconds that nobody else sleeps."""
    value = f"9{secrets.randbelow(10**8):08d}"
    yield value
    kill_all(lambda: bearing(value))


def place() -> Path:
    """Where this process's guardians make their groups."""
    return Path(cgroup._own_folder())


ENGINE = """
import os, sys
from pathlib import Path
import anyio
from faulting.shapes import NASTY
from flowd.adapters.executors.guardian import Command, Guardian
from flowd.adapters.journal.lock import new_incarnation

async def main(folder, token, shapes):
    mark = new_incarnation()
    logs = {shape: folder / f"log{number}" for number, shape in enumerate(shapes)}
    async with Guardian(mark) as guardian, anyio.create_task_group() as group:
        for shape, log in logs.items():
            command = Command(argv=("sh", "-c", NASTY[shape].format(token=token)), cwd=folder, log=log, grace=60)
            group.start_soon(guardian.run, command)
        while not all(log.exists() and b"ready" in log.read_bytes() for log in logs.values()):
            await anyio.sleep(0.01)
        print(mark, guardian.pid, flush=True)
        await anyio.sleep(60)

folder, token, *shapes = sys.argv[1:]
anyio.run(main, Path(folder), token, shapes)
"""


@contextlib.contextmanager
def engine(folder: Path, token: str, shapes: list[str], **variables: str) -> Iterator[tuple[int, str, int]]:
    """An engine at work on shapes: its process, its incarnation, its guardian."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "scripts"), **variables}
    command = [sys.executable, "-c", ENGINE, str(folder), token, *shapes]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True) as process:
        assert process.stdout is not None
        mark, guardian = process.stdout.readline().split()
        try:
            yield process.pid, mark, int(guardian)
        finally:
            process.kill()


def kill_both(engine: int, guardian: int) -> None:
    """Neither learns of the other's death."""
    os.kill(engine, signal.SIGSTOP)
    os.kill(guardian, signal.SIGKILL)
    os.kill(engine, signal.SIGKILL)
    assert within(2, lambda: not Path(f"/proc/{guardian}").exists() or "Z" in stat(guardian))
    assert within(2, lambda: not Path(f"/proc/{engine}").exists() or "Z" in stat(engine))


def stat(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "Z"


@pytest.mark.parametrize(
    ("switch", "shapes"),
    [
        pytest.param("on", list(NASTY), marks=needs_a_group, id="with a group"),
        pytest.param("off", [shape for shape in NASTY if shape != UNMARKED], id="without one"),
    ],
)
async def test_the_next_owner_ends_what_engine_and_guardian_left(
    tmp_path: Path, token: str, switch: str, shapes: list[str]
) -> None:
    """Both are killed at one time; the next owner ends every process at once, and removes the group."""
    with engine(tmp_path, token, shapes, FLOWD_CGROUP=switch) as (pid, mark, guardian):
        assert len(cgroup.groups_of(mark)) == (1 if switch == "on" else 0)
        kill_both(pid, guardian)
        assert len(living(token)) >= len(shapes)
        start = time.monotonic()
        await end_leftovers([mark])
        assert time.monotonic() - start < 1.5  # nobody waits for a guardian that is dead
        assert [living(token) for _ in range(5)] == [[]] * 5  # one that forks may hide from one look
        assert cgroup.groups_of(mark) == []


async def test_a_living_guardian_is_given_its_time(tmp_path: Path, token: str) -> None:
    """While the guardian of a dead engine lives it ends the tasks itself, and hears what they still say."""
    (tmp_path / "last").touch()
    with engine(tmp_path, token, ["ignores SIGTERM"]) as (pid, mark, guardian):
        os.kill(guardian, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        assert within(2, lambda: stat(pid) == "Z")
        assert strays.guardians_of(mark) == {guardian}
        start = time.monotonic()
        await end_leftovers([mark])
        assert living(token) == []
        assert 2 <= time.monotonic() - start < 4  # it was stopped, so it was not waited for longer
        with contextlib.suppress(ProcessLookupError):  # with a group it ended among the others
            os.kill(guardian, signal.SIGCONT)
        assert within(2, lambda: stat(guardian) == "Z")


@needs_a_group
@pytest.mark.parametrize("shapes", [["has background children"], [UNMARKED, "keeps forking", "ignores SIGTERM"]])
def test_a_guardian_without_its_engine_takes_its_group_along(tmp_path: Path, token: str, shapes: list[str]) -> None:
    """After SIGKILL of the engine alone every process is gone, on SIGTERM or SIGKILL, and so is the group."""
    with engine(tmp_path, token, shapes) as (pid, mark, _):
        assert len(cgroup.groups_of(mark)) == 1
        os.kill(pid, signal.SIGKILL)
        assert within(2, lambda: not living(token))
        assert within(1, lambda: not cgroup.groups_of(mark))


@needs_a_group
async def test_a_task_is_born_in_the_group_and_the_group_ends_with_the_guardian(tmp_path: Path) -> None:
    """The first instruction of a task runs in the group already; nothing is left when the engine closes."""
    mark = new_incarnation()
    async with Guardian(mark) as guardian:
        for number in range(3):
            log = tmp_path / f"log{number}"
            await guardian.run(Command(argv=("cat", "/proc/self/cgroup"), cwd=tmp_path, log=log))
            assert re.search(rf"^0::.*/flowd-{mark}$", log.read_text(), re.MULTILINE)
        [group] = cgroup.groups_of(mark)
        assert group.path == str(place() / f"flowd-{mark}")
        assert group.pids() == {guardian.pid}
    assert cgroup.groups_of(mark) == []


@needs_a_group
async def test_a_lost_guardian_leaves_nobody_in_the_group(tmp_path: Path, token: str) -> None:
    """The engine ends those whom no mark names when their guardian was killed, and the next guardian goes in."""
    mark = new_incarnation()
    command = Command(argv=("sh", "-c", NASTY[UNMARKED].format(token=token)), cwd=tmp_path, log=tmp_path / "log")
    async with Guardian(mark) as guardian:
        import anyio

        async with anyio.create_task_group() as group:

            async def lose() -> None:
                with pytest.raises(Exception, match="guardian process was lost"):
                    await guardian.run(command)

            group.start_soon(lose)
            with anyio.fail_after(5):
                while not command.log.exists() or b"ready" not in command.log.read_bytes():
                    await anyio.sleep(0.01)
            assert guardian.pid is not None
            os.kill(guardian.pid, signal.SIGKILL)
        assert within(1, lambda: not living(token))
        await guardian.run(Command(argv=("true",), cwd=tmp_path, log=tmp_path / "second"))
        assert guardian.pid is not None
        assert f"/flowd-{mark}" in Path(f"/proc/{guardian.pid}/cgroup").read_text()
    assert cgroup.groups_of(mark) == []


# --- what is not ours ----------------------------------------------------------------------------


@contextlib.contextmanager
def inhabited(name: str) -> Iterator[int]:
    """A group of this name with one process in it."""
    folder = place() / name
    folder.mkdir()
    try:
        with subprocess.Popen(["sleep", "60"]) as sleeper:
            try:
                (folder / "cgroup.procs").write_text(str(sleeper.pid))
                yield sleeper.pid
            finally:
                sleeper.kill()
    finally:
        folder.rmdir()


DEAD = "4194304-1-00000000"
"""The beginning of an incarnation whose process cannot be: no process has so high an id."""


@needs_a_group
async def test_no_other_group_is_touched(tmp_path: Path, token: str) -> None:
    """Whoever ends an incarnation's left-overs ends those in the group of this very name and no other."""
    mark = f"{DEAD}-{token}"
    with inhabited(f"flowd-{mark}x") as near, inhabited(mark) as bare:
        await end_leftovers([mark, f"../{place().name}/{mark}"])
        assert stat(near) != "Z"
        assert stat(bare) != "Z"


@needs_a_group
async def test_groups_of_the_dead_do_not_pile_up(tmp_path: Path, token: str) -> None:
    """The next guardian removes what is empty and of a dead engine, and nothing else."""
    empty, alive, other = f"flowd-{DEAD}-{token}", f"flowd-{new_incarnation()}", f"flowd-x-{token}"
    for name in (empty, alive, other):
        (place() / name).mkdir()
    try:
        with inhabited(f"flowd-{DEAD}-{token}-1") as lasting:
            async with Guardian(new_incarnation()) as guardian:
                await guardian.run(Command(argv=("true",), cwd=tmp_path, log=tmp_path / "log"))
            assert not (place() / empty).exists()
            assert (place() / alive).exists()
            assert (place() / other).exists()
            assert stat(lasting) != "Z"
    finally:
        for name in (empty, alive, other):
            with contextlib.suppress(FileNotFoundError):
                (place() / name).rmdir()


# --- where there can be none ---------------------------------------------------------------------


def test_whether_there_can_be_a_group_is_said_and_leaves_nothing() -> None:
    """The answer names the place or the reason, and nothing was changed."""
    before = sorted(path.name for path in place().iterdir() if path.is_dir()) if CAN else []
    can, said = cgroup.available()
    assert (can, said) == (CAN, WHY)
    assert not said.endswith(".")
    if can:
        assert str(place()) in said
        probes = [path.name for path in place().iterdir() if path.name.startswith("flowd-probe")]
        assert probes == [name for name in before if name.startswith("flowd-probe")]


async def test_without_a_group_everything_is_as_ever(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, token: str
) -> None:
    """Switched off, a task runs where the engine does, and its strays are ended."""
    monkeypatch.setenv(cgroup.SWITCH, "off")
    assert cgroup.available() == (False, "switched off by FLOWD_CGROUP=off")
    mark = new_incarnation()
    log = tmp_path / "log"
    async with Guardian(mark) as guardian:
        text = f"cat /proc/self/cgroup; (env -i setsid sleep {token} &); sleep 0.05"
        report = await guardian.run(Command(argv=("sh", "-c", text), cwd=tmp_path, log=log))
        assert (report.exit_code, report.leftovers) == (0, 1)
    assert log.read_text() == Path("/proc/self/cgroup").read_text()
    assert living(token) == []


READ_ONLY = """
import anyio, sys
from pathlib import Path
from flowd.adapters.executors.guardian import Command, Guardian
from flowd.guardian import cgroup

async def main():
    async with Guardian("1-1-read-only") as guardian:
        report = await guardian.run(Command(argv=("sh", "-c", "sleep 60 & exit 3"), cwd=Path(), log=Path("log")))
        print(report.exit_code, report.leftovers)

print(*cgroup.available())
anyio.run(main)
"""


@needs_a_group
def test_control_groups_that_cannot_be_written_are_no_trouble(tmp_path: Path) -> None:
    """As in most containers: the reason is told to who asks, and a task runs and ends without a word."""
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        pytest.skip("making control groups read-only needs root, and unshare")
    mount = next(mount for root, mount in cgroup._mounts() if str(place()).startswith(mount))
    script = f'mount -o remount,bind,ro {mount} && exec "$@"'
    done = subprocess.run(
        [unshare, "--mount", "sh", "-c", script, "sh", sys.executable, "-c", READ_ONLY],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    can, _, rest = done.stdout.partition(" ")
    assert can == "False"
    assert "Read-only file system" in rest.splitlines()[0]
    assert rest.splitlines()[1:] == ["3 1"]


V2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw"
PLACES = {
    "at the root": ("0::/\n", V2, "/sys/fs/cgroup"),
    "below it": ("0::/user.slice/a.scope\n", V2, "/sys/fs/cgroup/user.slice/a.scope"),
    "beside version 1": ("3:cpu:/x\n0::/y\n", f"32 31 0:29 / /c/cpu rw - cgroup cgroup rw\n{V2}", "/sys/fs/cgroup/y"),
    "a mount of a part": (
        "0::/docker/a/b\n",
        "31 23 0:28 /docker/a /my\\040groups rw - cgroup2 cgroup2 rw",
        "/my groups/b",
    ),
    "a part that has a name like it": ("0::/docker/ab\n", V2.replace(" / ", " /docker/a ", 1), "mounted nowhere"),
    "outside of the namespace": ("0::/../other\n", V2, "mounted nowhere"),
    "version 1 alone": ("3:cpu:/x\n", "32 31 0:29 / /c/cpu rw - cgroup cgroup rw", "no control groups of version 2"),
    "mounted nowhere": ("0::/\n", "32 31 0:29 / /c/cpu rw - cgroup cgroup rw", "mounted nowhere"),
}


@pytest.mark.parametrize("case", PLACES)
def test_the_own_group_is_found_or_it_is_said_why_not(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """As the kernel describes it, on all kinds of machines."""
    own, mounts, found = PLACES[case]
    files = {"/proc/self/cgroup": own, "/proc/self/mountinfo": mounts}
    monkeypatch.setattr(cgroup, "_read", files.__getitem__)
    if found.startswith("/"):
        assert cgroup._own_folder() == found
    else:
        with pytest.raises(OSError, match=found):
            cgroup._own_folder()
