"""The guardian with real processes: whatever they do, nothing is left, and their ends are told truly."""

import errno
import os
import re
import resource
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import anyio
import pytest
from faulting.living import lives, within
from faulting.shapes import NASTY

from attempts import living
from flowd.adapters.executors.guardian import Command, Guardian, GuardianLost, ProcessReport, _refusal
from flowd.core.events import Ending
from flowd.guardian import strays
from flowd.guardian.serving import _open_log
from flowd.guardian.spawning import CannotSpawn
from flowd.ports.executor import Abandoned, CommandFailed, NoRoom, NotStarted


@pytest.fixture
async def guardian() -> AsyncIterator[Guardian]:
    """A guardian with a mark of its own."""
    async with Guardian(f"test-{secrets.token_hex(6)}") as opened:
        yield opened


@pytest.fixture
def token() -> str:
    """A number of seconds that nobody else sleeps."""
    return f"9{secrets.randbelow(10**8):08d}"


def shell(folder: Path, text: str, *, log: str = "log", grace: float = 5.0, **fields: object) -> Command:
    argv = ("sh", "-c", text)
    return Command(argv=argv, cwd=folder, log=folder / log, grace=grace, **fields)  # type: ignore[arg-type]  # by name


async def until_ready(log: Path, mark: bytes = b"ready") -> None:
    with anyio.fail_after(5):
        while not log.exists() or mark not in log.read_bytes():
            await anyio.sleep(0.01)


async def run_and_cancel(guardian: Guardian, command: Command) -> float:
    """Run until it is ready, cancel, and give the seconds that the end took."""
    async with anyio.create_task_group() as group:
        group.start_soon(guardian.run, command)
        await until_ready(command.log)
        start = time.monotonic()
        group.cancel_scope.cancel()
    return time.monotonic() - start


# --- nothing is left -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", NASTY)
async def test_a_cancelled_command_leaves_nothing(guardian: Guardian, tmp_path: Path, token: str, shape: str) -> None:
    """When the cancelled call returns, every process is gone, soon after its grace at the latest."""
    took = await run_and_cancel(guardian, shell(tmp_path, NASTY[shape].format(token=token), grace=0.2))
    assert living(token) == []
    assert took < 1.5


@pytest.mark.parametrize(
    "text",
    [
        "sleep {token} & sleep {token} &",
        "(setsid sh -c 'sleep {token} & sleep {token}' &)",
        "(env -i setsid sleep {token} &); sleep 0.05",
        "(setsid sh -c 'trap \"\" TERM; sleep {token}; sleep {token}' &); sleep 0.05",
        "(setsid sh -c 'kill -STOP $$; sleep {token}' &); sleep 0.05",
    ],
)
async def test_what_outlives_its_main_process_is_ended(
    guardian: Guardian, tmp_path: Path, token: str, text: str
) -> None:
    """An end waits for nobody: strays that hold the output are ended, counted, and not waited for."""
    start = time.monotonic()
    report = await guardian.run(shell(tmp_path, text.format(token=token) + "\nexit 4"))
    assert time.monotonic() - start < 1.5
    assert (report.exit_code, report.leftovers >= 1) == (4, True)
    assert living(token) == []


async def test_strays_are_ended_with_their_own_attempt_only(guardian: Guardian, tmp_path: Path, token: str) -> None:
    """Among attempts at once, a stray without session and environment still belongs to one of them."""
    text = "(env -i setsid sleep {token} &) >/dev/null 2>&1; sleep 0.05; echo ready; {end}"
    async with anyio.create_task_group() as group:
        lasting = shell(tmp_path, text.format(token=token + "1", end="sleep " + token), log="lasting")
        group.start_soon(guardian.run, lasting)
        await until_ready(lasting.log)
        report = await guardian.run(shell(tmp_path, text.format(token=token + "2", end="exit 0")))
        assert report.leftovers == 1
        assert living(token + "2") == []
        assert f"sleep {token}1 " in living(token + "1")
        group.cancel_scope.cancel()
    assert living(token) == []


async def test_the_processes_of_other_attempts_are_left_alone(guardian: Guardian, tmp_path: Path) -> None:
    """Many attempts at once, each with a stray: each ends as it would alone."""

    async def one(number: int) -> None:
        text = f"setsid sleep 60 & echo {number}; sleep 0.0{number % 5}; exit {number}"
        report = await guardian.run(shell(tmp_path, text, log=f"log{number}"))
        assert (report.exit_code, report.signal, report.leftovers) == (number, None, 1)
        assert (tmp_path / f"log{number}").read_text() == f"{number}\n"

    async with anyio.create_task_group() as group:
        for number in range(20):
            group.start_soon(one, number)


async def test_a_second_cancellation_does_not_wait_for_the_grace(guardian: Guardian, tmp_path: Path) -> None:
    """Whoever cancels twice is in a hurry."""
    import asyncio

    command = shell(tmp_path, "trap '' TERM; echo ready; while :; do sleep 1; done", grace=30)
    async with asyncio.TaskGroup() as group:
        attempt = group.create_task(guardian.run(command))
        await until_ready(command.log)
        start = time.monotonic()
        attempt.cancel()
        await asyncio.sleep(0.05)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        assert time.monotonic() - start < 2


async def test_a_stopped_command_may_clean_up(guardian: Guardian, tmp_path: Path) -> None:
    """SIGTERM comes first, and what the command says and runs then still counts."""
    text = "trap 'sleep 0.05; echo cleaned; exit 0' TERM; echo ready; while :; do sleep 0.01; done"
    await run_and_cancel(guardian, shell(tmp_path, text))
    assert (tmp_path / "log").read_text().endswith("cleaned\n")


ENGINE = """
import os, signal, sys
from pathlib import Path
import anyio
from faulting.shapes import NASTY
from flowd.adapters.executors.guardian import Command, Guardian

async def main(folder, token, mark):
    logs = [folder / f"log{number}" for number in range(len(NASTY))]
    async with Guardian(mark) as guardian, anyio.create_task_group() as group:
        for log, text in zip(logs, NASTY.values(), strict=True):
            command = Command(argv=("sh", "-c", text.format(token=token)), cwd=folder, log=log, grace=60)
            group.start_soon(guardian.run, command)
        while not all(log.exists() and b"ready" in log.read_bytes() for log in logs):
            await anyio.sleep(0.01)
        copy = os.fork()  # a child of the engine that keeps its end of the socket open
        if copy == 0:
            signal.pause()
        print(guardian.pid, copy, flush=True)
        await anyio.sleep(60)

folder, token, mark = sys.stdin.read().split()
anyio.run(main, Path(folder), token, mark)
"""


def test_nothing_outlives_an_engine_that_was_killed(tmp_path: Path, token: str) -> None:
    """After SIGKILL of the engine every process of every attempt is gone within two seconds, the guardian too."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "scripts")}
    with subprocess.Popen(
        [sys.executable, "-c", ENGINE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True
    ) as engine:
        assert engine.stdin is not None
        assert engine.stdout is not None
        engine.stdin.write(f"{tmp_path} {token} killed-{token}")
        engine.stdin.close()
        guardian, copy = (int(pid) for pid in engine.stdout.readline().split())
        try:
            assert len(living(token)) >= len(NASTY)
            engine.kill()
            start = time.monotonic()
            assert within(2, lambda: not living(token) and not lives(guardian))
            assert time.monotonic() - start < 2
        finally:
            os.kill(copy, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_lost_guardian_fails_its_attempts(
    guardian: Guardian, tmp_path: Path, token: str, number: signal.Signals
) -> None:
    """The attempt fails and says why, its processes are gone, and the next one gets a new guardian."""
    command = shell(tmp_path, NASTY["has wiped an environment"].format(token=token))
    failures = []

    async def fail() -> None:
        with pytest.raises(GuardianLost) as caught:
            await guardian.run(command)
        failures.append(caught.value.error.message)

    async with anyio.create_task_group() as group:
        group.start_soon(fail)
        await until_ready(command.log)
        lost = guardian.pid
        assert lost is not None
        os.kill(lost, number)
    how = "killed by SIGKILL" if number == signal.SIGKILL else "exit code 0"
    assert failures == [
        f"flowd's guardian process was lost ({how}) while the task ran; the task's processes were ended"
    ]
    assert within(1, lambda: not living(token))
    assert (await guardian.run(shell(tmp_path, "exit 5"))).exit_code == 5
    assert guardian.pid != lost


async def test_the_terminal_does_not_reach_the_guardian(guardian: Guardian, tmp_path: Path) -> None:
    """Ctrl-C and a closed terminal are the engine's affair; tasks get the usual dispositions back."""
    await guardian.run(shell(tmp_path, "true"))
    pid = guardian.pid
    assert pid is not None
    assert os.getsid(pid) == pid
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGHUP)
    assert (await guardian.run(shell(tmp_path, "kill -INT $$"))).signal == "SIGINT"
    assert guardian.pid == pid


async def test_an_end_that_does_not_come_is_abandoned(tmp_path: Path) -> None:
    """Where even SIGKILL brings no end, the attempt is called abandoned, and its end can be awaited."""
    abandoned: list[Abandoned] = []
    async with Guardian(f"test-{secrets.token_hex(6)}", patience=0.1) as guardian:
        command = shell(tmp_path, "echo ready; sleep 60", grace=0.1)

        async def attempt() -> None:
            try:
                await guardian.run(command)
            except Abandoned as error:
                abandoned.append(error)
                raise

        with pytest.raises(BaseExceptionGroup) as caught:  # noqa: PT012  # what is raised needs all of it
            async with anyio.create_task_group() as group:
                group.start_soon(attempt)
                await until_ready(command.log)
                pid = guardian.pid
                assert pid is not None
                os.kill(pid, signal.SIGSTOP)
                group.cancel_scope.cancel()
        assert caught.group_contains(Abandoned, match=re.escape("did not end within 0.1s after SIGKILL"))
        os.kill(pid, signal.SIGCONT)
        with anyio.fail_after(2):
            await abandoned[0].finished


async def test_the_left_overs_of_an_incarnation_are_found(guardian: Guardian, tmp_path: Path, token: str) -> None:
    """By mark alone, whoever comes later finds every process of an incarnation, and no other."""
    mark = guardian._mark
    assert strays.left_by(mark) == set()
    command = shell(tmp_path, NASTY["has wiped an environment"].format(token=token))
    async with anyio.create_task_group() as group:
        group.start_soon(guardian.run, command)
        await until_ready(command.log)
        assert len(strays.left_by(mark)) >= 3
        assert strays.left_by(mark + "x") == set()
        group.cancel_scope.cancel()
    assert strays.left_by(mark) == set()


# --- how it ended --------------------------------------------------------------------------------


async def ends(guardian: Guardian, folder: Path, text: str) -> tuple[int | None, str | None]:
    report = await guardian.run(shell(folder, text))
    return report.exit_code, report.signal


async def test_exit_codes_and_signals_are_told_apart(guardian: Guardian, tmp_path: Path) -> None:
    """Exit code 137 is an exit code, death by SIGKILL is a signal, whichever signal it was."""
    for code in (0, 1, 2, 126, 127, 137, 255):
        assert await ends(guardian, tmp_path, f"exit {code}") == (code, None)
    for number in (signal.SIGHUP, signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGPIPE):
        assert await ends(guardian, tmp_path, f"kill -{number.value} $$") == (None, number.name)
    assert await ends(guardian, tmp_path, f"kill -{signal.SIGRTMIN + 3} $$") == (None, f"signal {signal.SIGRTMIN + 3}")


async def test_cpu_time_and_memory_are_measured(guardian: Guardian, tmp_path: Path) -> None:
    """The report has the user and system seconds and the highest resident size in bytes."""
    code = (
        "import time\nblock = b'x' * (60 << 20)\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
    )
    report = await guardian.run(Command(argv=(sys.executable, "-c", code), cwd=tmp_path, log=tmp_path / "log"))
    assert report.exit_code == 0
    assert 0.2 <= report.cpu_s < 2
    assert 60 << 20 < report.peak_rss < 200 << 20


@pytest.mark.parametrize("behind", ["", "setsid "], ids=["a child", "a child in a session of its own"])
async def test_what_the_children_of_a_stopped_shell_used_is_counted(
    guardian: Guardian, tmp_path: Path, behind: str
) -> None:
    """A shell that is stopped has waited for nobody: what its command used is the attempt's all the same."""
    code = (
        "import time, pathlib\nblock = b'x' * (60 << 20)\nend = time.process_time() + 0.2\n"
        "while time.process_time() < end: pass\npathlib.Path('busy').touch()\ntime.sleep(600)"
    )
    command = Command(
        argv=("sh", "-c", f'{behind}"$0" -c "$1"; true', sys.executable, code), cwd=tmp_path, log=tmp_path / "log"
    )
    ends: list[Ending] = []
    async with anyio.create_task_group() as group:
        group.start_soon(partial(guardian.run, command, ended=ends.append))
        with anyio.fail_after(10):
            while not (tmp_path / "busy").exists():
                await anyio.sleep(0.01)
        group.cancel_scope.cancel()
    [end] = ends
    assert end.signal == "SIGTERM"
    assert end.cpu_s is not None
    assert 0.2 <= end.cpu_s < 2
    assert end.peak_rss is not None
    assert 60 << 20 < end.peak_rss < 200 << 20


REFUSED = {
    "command not found: no-such-program": (("no-such-program",), 127),
    "command not found: ./missing": (("./missing",), 127),
    "cannot execute ./plain: permission denied, or not a program": (("./plain",), 126),
    "cannot execute .: permission denied, or not a program": ((".",), 126),
    "cannot execute ./orphan: its interpreter was not found": (("./orphan",), 127),
    "cannot execute ./nothing: Exec format error": (("./nothing",), None),
    "cannot execute true: Argument list too long": (("true", "x" * (1 << 22)), None),
    "command not found: the command is empty": (("",), 127),
}


@pytest.mark.parametrize("message", REFUSED)
async def test_a_program_that_cannot_run_is_named(guardian: Guardian, tmp_path: Path, message: str) -> None:
    """Not found, not allowed and not a program are told apart, and none of them is an exit code of something."""
    for name, text, mode in (
        ("plain", "", 0o600),
        ("orphan", "#!/no/such/interpreter\n", 0o700),
        ("nothing", "?", 0o700),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(mode)
    argv, code = REFUSED[message]
    with pytest.raises(CommandFailed) as caught:
        await guardian.run(Command(argv=argv, cwd=tmp_path, log=tmp_path / "log"))
    assert (caught.value.error.message, caught.value.error.exit_code) == (message, code)


async def test_a_missing_folder_is_not_a_missing_command(guardian: Guardian, tmp_path: Path) -> None:
    """Both are 'no such file' to the system; the message says which."""
    command = Command(argv=("true",), cwd=tmp_path / "gone", log=tmp_path / "log")
    with pytest.raises(CommandFailed, match=r"the folder to run in, .*gone, cannot be entered"):
        await guardian.run(command)


async def test_programs_are_found_as_a_shell_would(guardian: Guardian, tmp_path: Path) -> None:
    """By the PATH of the task's own environment, relative entries from its folder."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mine").write_text("#!/bin/sh\necho found $0 $WORD\n")
    (tmp_path / "bin" / "mine").chmod(0o700)
    env = {"PATH": f"/nowhere:bin:{os.environ['PATH']}", "WORD": "w"}
    report = await guardian.run(Command(argv=("mine",), cwd=tmp_path, log=tmp_path / "log", env=env))
    assert report.tail == ("found bin/mine w",)


async def test_no_room_for_a_process_is_not_a_failure_of_the_task(guardian: Guardian, tmp_path: Path) -> None:
    """Out of descriptors, the attempt did not start: it is safe to try again, and works once there is room."""
    await guardian.run(shell(tmp_path, "true"))
    assert guardian.pid is not None
    limits = resource.prlimit(guardian.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(guardian.pid, resource.RLIMIT_NOFILE, (8, limits[1]))
    with pytest.raises(NotStarted, match="Too many open files"):
        await guardian.run(shell(tmp_path, "true"))
    resource.prlimit(guardian.pid, resource.RLIMIT_NOFILE, limits)
    assert await ends(guardian, tmp_path, "exit 3") == (3, None)


async def test_the_environment_of_a_command(guardian: Guardian, tmp_path: Path) -> None:
    """It is this process's environment, what was added, and the mark; its input is empty; limits are the host's."""
    text = "cat; echo $ADDED $FLOWD_MARK $HOME; ulimit -n; ls /proc/self/fd | wc -l"
    report = await guardian.run(shell(tmp_path, text, env={"ADDED": "a"}))
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert report.tail == (f"a {guardian._mark} {os.environ['HOME']}", str(files), "4")


async def test_descriptors_are_handed_over(guardian: Guardian, tmp_path: Path) -> None:
    """They become 3, 4 and so on, in order; the caller keeps its own."""
    pairs = [os.pipe() for _ in range(3)]
    passed = tuple(theirs for _, theirs in pairs)
    report = await guardian.run(shell(tmp_path, "echo a >&3; echo b >&4; echo c >&5", descriptors=passed))
    assert report.exit_code == 0
    for (ours, theirs), said in zip(pairs, (b"a\n", b"b\n", b"c\n"), strict=True):
        assert os.read(ours, 10) == said
        os.close(ours)
        os.close(theirs)


# --- what it said --------------------------------------------------------------------------------


async def said(guardian: Guardian, folder: Path, text: str, **fields: object) -> tuple[bytes, ProcessReport]:
    report = await guardian.run(shell(folder, text, **fields))  # type: ignore[arg-type]  # by name
    return (folder / "log").read_bytes(), report


async def test_output_is_kept_byte_for_byte(guardian: Guardian, tmp_path: Path) -> None:
    """A line of 300 KB without its newline, and bytes that are no text, arrive as they were written."""
    written, report = await said(guardian, tmp_path, "head -c 300000 /dev/zero | tr '\\0' x")
    assert (written, report.dropped) == (b"x" * 300_000, 0)
    (tmp_path / "log").unlink()
    written, report = await said(guardian, tmp_path, "printf '\\377\\000\\303(\\n'")
    assert written == b"\xff\0\xc3(\n"
    assert report.tail == ("\ufffd\0\ufffd(",)


async def test_output_is_written_while_the_command_runs(guardian: Guardian, tmp_path: Path) -> None:
    """What was printed can be read before the command ends, and is complete after SIGKILL of it."""
    command = shell(tmp_path, "printf ready; while ! [ -e go ]; do sleep 0.01; done; printf more; kill -KILL $$")
    async with anyio.create_task_group() as group:
        group.start_soon(guardian.run, command)
        await until_ready(command.log)
        (tmp_path / "go").touch()
    assert command.log.read_bytes() == b"readymore"
    assert command.log.stat().st_mode & 0o777 == 0o600


async def test_output_over_the_cap_is_counted(tmp_path: Path) -> None:
    """Each stream has a cap of its own; the file says what is missing, the tail is of the very end."""
    async with Guardian(f"test-{secrets.token_hex(6)}", cap=1000) as guardian:
        text = "head -c 100000 /dev/zero | tr '\\0' x; echo; echo bad >&2; sleep 0.05; echo the end"
        written, report = await said(guardian, tmp_path, text)
    assert written.count(b"x") == 1000
    assert report.dropped == 99_000 + len("\nthe end\n")
    assert b"bad\n" in written
    assert b"[flowd: stdout passed 1000 bytes; the rest is counted, not kept]\n" in written
    assert written.endswith(b"[flowd: %d bytes of stdout are missing here]\n" % report.dropped)
    assert report.tail[-1] == "the end"
    assert report.last_line == "bad"


async def test_a_file_that_takes_no_more_does_not_stop_the_command(guardian: Guardian) -> None:
    """On a full disk the command goes on; the report says what is missing and why."""
    report = await guardian.run(Command(argv=("echo", "lost"), cwd=Path("/"), log=Path("/dev/full")))
    assert (report.exit_code, report.dropped, report.log_error) == (0, 5, "No space left on device")
    assert report.tail == ("lost",)


async def test_the_tail_is_the_last_fifty_lines(guardian: Guardian, tmp_path: Path) -> None:
    """Lines of both streams as they came; the last line of stderr comes before that of stdout."""
    _, report = await said(guardian, tmp_path, "echo oops >&2; sleep 0.05; seq 100")
    assert report.tail == tuple(str(number) for number in range(51, 101))
    assert report.last_line == "oops"


async def test_secrets_are_taken_out_of_output(tmp_path: Path) -> None:
    """In the file and in the report, also where the secret was written in two pieces or cut off by a kill."""
    async with Guardian(f"test-{secrets.token_hex(6)}", redactions=["tok3n-abc"]) as guardian:
        text = "echo a tok3n-abc; printf tok; sleep 0.05; printf '3n-'; sleep 0.05; echo abc pass; printf ' tok3n-a'"
        written, report = await said(guardian, tmp_path, text, redactions=("pass",))
    assert written == b"a ***\n*** ***\n ***"
    assert report.tail == ("a ***", "*** ***", " ***")


async def test_a_command_costs_milliseconds(guardian: Guardian, tmp_path: Path) -> None:
    """Beginning, watching and burying `true` is a matter of a millisecond or two, not of a new interpreter."""
    await guardian.run(shell(tmp_path, "true"))
    took = []
    for _ in range(20):
        start = time.perf_counter()
        await guardian.run(Command(argv=("true",), cwd=tmp_path, log=tmp_path / "log"))
        took.append(time.perf_counter() - start)
    assert min(took) < 0.008


# --- what cannot begin ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "kind", "failure"),
    [
        (errno.ENOSPC, "no_room", NoRoom),
        (errno.EROFS, "no_room", NoRoom),
        (errno.ESTALE, "no_room", NoRoom),
        (errno.EMFILE, "no_resources", NotStarted),
    ],
)
def test_a_log_file_that_cannot_be_opened(
    monkeypatch: pytest.MonkeyPatch, number: int, kind: str, failure: type[Exception]
) -> None:
    """Where it is the disk that refuses, storage fails; where the machine has no room, the attempt."""

    def refuse(*_arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CannotSpawn, match=re.escape(os.strerror(number))) as refused:
        _open_log(b"/x/task.1.log")
    assert refused.value.kind == kind
    assert type(_refusal(refused.value.kind, str(refused.value))) is failure
