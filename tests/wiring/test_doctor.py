"""The doctor finds each planted fault and no other, mends what is safe, and changes nothing by looking."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import random
import shutil
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest
from msgspec.structs import replace

from flowd import Engine, Pipeline
from flowd.adapters import disk, filesystem
from flowd.adapters.filesystem import Mount
from flowd.adapters.journal import mark as marks
from flowd.adapters.journal.file import FileJournal
from flowd.adapters.journal.mark import Mark
from flowd.core.events import Envelope, Event, RunRedefined, RunReopened, RunStarted, TaskReset
from flowd.core.spec import Call, Definition, PipelineSpec, TaskSpec
from flowd.wiring.doctor.examination import Check, examine
from flowd.wiring.doctor.findings import Finding, Report
from flowd.wiring.doctor.index import check_index
from flowd.wiring.doctor.journals import check_journals
from flowd.wiring.doctor.patient import Patient
from flowd.wiring.doctor.place import (
    Room,
    amount,
    check_permissions,
    mount_findings,
    room_findings,
    small_write,
)

DONE = "done"
OF_THE_MACHINE = {
    *("disk_low", "inodes_low", "memory_file_system", "network_file_system", "volatile_file_system"),
    *("no_subreaper", "no_pidfd", "zone_data_missing"),
}
"""What may be found wherever the tests happen to run."""

LONG_AGO = 1_000_000_000


def pipeline(folder: Path) -> Pipeline:
    """A task with an output, one with a large result, one with a pickle, and two that end only by being stopped."""
    made = Pipeline("p", folder=folder)

    @made.task(outputs=["a.txt"])
    async def a(ctx):
        ctx.outputs[0].write_text("a")
        return 1

    @made.task
    async def big():
        return "x" * 40_000

    @made.task
    async def pickled():
        return {1, 2}

    @made.task
    async def endless(a):
        await anyio.sleep_forever()

    @made.task(idempotent=False)
    async def once():
        await anyio.sleep_forever()

    return made


class State(NamedTuple):
    """A state directory with one finished run."""

    dir: Path
    pipeline: Pipeline

    @property
    def run(self) -> Path:
        """The folder of the finished run."""
        return self.dir / "runs" / DONE

    @property
    def journal(self) -> Path:
        """Its journal."""
        return self.run / "journal.0001.jsonl"

    @property
    def kept(self) -> Path:
        """What is kept of the pipeline."""
        [folder] = (self.dir / "pipelines").iterdir()
        return folder

    def interrupted(self, run: str, *tasks: str) -> None:
        """A run that was stopped in the middle of these tasks."""

        async def begin() -> None:
            async with Engine(self.dir, on_exit="detach") as engine:
                begun = await engine.start(self.pipeline, *tasks, run_id=run)
                with anyio.fail_after(20):
                    async for event in begun.events():
                        if event["event"] == "task_started" and event["task"] == tasks[-1]:
                            break

        anyio.run(begin)

    def doctor(self, *, repair: bool = False, **shifted: float) -> Report:
        """The report on it."""
        return examine(self.dir, datetime.now(UTC) + timedelta(**shifted), repair=repair)


@pytest.fixture
def state(tmp_path: Path) -> State:
    """As a run that has ended leaves it."""
    made = State(tmp_path / ".flowd", pipeline(tmp_path))

    async def run() -> None:
        async with Engine(made.dir) as engine:
            result = await engine.run(made.pipeline, "a", "big", "pickled", run_id=DONE)
            assert result.ok

    anyio.run(run)
    return made


def found(report: Report) -> list[Finding]:
    """What it says of the state, and not of the machine that tests run on."""
    return [finding for finding in report.findings if finding.code not in OF_THE_MACHINE]


def codes(report: Report) -> set[str]:
    return {finding.code for finding in found(report)}


def tree(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below a folder: kinds, modes, times, sizes and bytes."""
    everything = {}
    for path in (folder, *sorted(folder.rglob("*"))):
        status = path.lstat()
        data = path.read_bytes() if path.is_file() else b""
        everything[str(path)] = (status.st_mode, status.st_ino, status.st_mtime_ns, status.st_size, data)
    return everything


def beside_pages(state_dir: Path) -> dict[str, tuple[Any, ...]]:
    """The same of a state directory, without the pages that living engines write whenever they like."""
    return {path: what for path, what in tree(state_dir).items() if "/limits/" not in path}


# --- faults ----------------------------------------------------------------------------------------------


def aged(path: Path, data: bytes = b"half") -> None:
    """A file that was written long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (LONG_AGO, LONG_AGO))


def appended(state: State) -> None:
    with open(state.journal, "ab") as file:
        file.write(b'{"seq":99,"at":')


def flipped(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def second_line(state: State) -> int:
    return state.journal.read_bytes().index(b"\n") + 1


def cut_off(state: State) -> None:
    """The last record, which was acknowledged, is gone."""
    data = state.journal.read_bytes()
    state.journal.write_bytes(data[: data.rindex(b"\n", 0, -1) + 1])


def lagging(state: State) -> None:
    """The mark is one record behind, in this boot."""
    mark = marks.load(state.run / "mark")
    assert mark is not None
    *before, last = state.journal.read_bytes().splitlines(keepends=True)
    offset, checksum = sum(map(len, before)), int(before[-1][-11:-3], 16)
    assert offset + len(last) == mark.offset
    earlier = Mark(segment=1, seq=mark.seq - 1, offset=offset, checksum=checksum, boot=mark.boot)
    (state.run / "mark").write_bytes(earlier.encoded())


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def never_began(state: State) -> None:
    action = Call(module="m", function="f")
    spec = PipelineSpec(name="q", tasks=(TaskSpec(name="t", action=action, executor="thread"),))
    with closing(FileJournal(state.dir)) as journal:
        anyio.run(journal.create, "new", Definition(spec=spec, folder="/q"))


def listed(state: State, run: str) -> None:
    (state.kept / "open").mkdir(exist_ok=True)
    (state.kept / "open" / run).touch()


class Fault(NamedTuple):
    """What is done to a state directory, and what is to be said of it."""

    code: str
    plant: Callable[[State], object]
    severity: str = "warning"
    exit_code: int = 0
    fix: str = "flowd doctor --repair"
    repairable: bool = True
    also: tuple[str, ...] = ()


DAMAGE = {"severity": "error", "exit_code": 5, "repairable": False}
TOLD = {"severity": "note", "repairable": False}

FAULTS = {
    "a newer format": Fault("format_newer", lambda s: (s.dir / "version").write_text("99\n"), fix="upgrade", **DAMAGE),
    "no format": Fault("format_unreadable", lambda s: (s.dir / "version").write_text("?\n"), fix="echo 1 >", **DAMAGE),
    "open to others": Fault("permissions_open", lambda s: s.dir.chmod(0o755), fix="chmod 0700"),
    "a key for all": Fault("permissions_open", lambda s: (s.dir / "key").chmod(0o644), fix="chmod 0600"),
    "a torn tail": Fault("journal_torn", appended),
    "a flipped byte": Fault("journal_damaged", lambda s: flipped(s.journal, second_line(s) + 9), fix="mv ", **DAMAGE),
    "no journal": Fault("journal_damaged", lambda s: s.journal.unlink(), fix="from a backup", **DAMAGE),
    "a folder as journal": Fault("journal_damaged", lambda s: a_folder(s.journal), fix="from a backup", **DAMAGE),
    "a lost record": Fault("journal_damaged", cut_off, fix="flowd never changes", **DAMAGE),
    "no mark": Fault("mark_missing", lambda s: (s.run / "mark").unlink()),
    "a mark of noise": Fault("mark_missing", lambda s: (s.run / "mark").write_bytes(b"?" * 300)),
    "a mark that lags": Fault("mark_behind", lagging, "note", also=("run_unfinished",)),
    "no definition": Fault("definition_missing", lambda s: (s.run / "spec.json").unlink(), fix="backup", **DAMAGE),
    "another definition": Fault("journal_damaged", lambda s: flipped(s.run / "spec.json", -2), fix="backup", **DAMAGE),
    "a half-made run": Fault(
        "run_half_made", lambda s: (s.dir / "runs/x/inbox").mkdir(parents=True), fix="rm -r", **TOLD
    ),
    "a file among runs": Fault("not_a_run", lambda s: (s.dir / "runs/x").touch(), fix="rm -r", **TOLD),
    "an interrupted run": Fault(
        "run_unfinished", lambda s: s.interrupted("half", "endless"), fix="flowd cancel half", repairable=False
    ),
    "an uncertain task": Fault(
        "run_waiting", lambda s: s.interrupted("half", "once"), fix="flowd resolve half once --as", repairable=False
    ),
    "a run without a record": Fault("run_never_began", never_began, fix="rm -r", **TOLD),
    "an ended run on the list": Fault("index_ended", lambda s: listed(s, DONE), "note"),
    "a gone run on the list": Fault("index_gone", lambda s: listed(s, "nobody"), "note"),
    "no checkpoints": Fault("checkpoints_behind", lambda s: (s.kept / "checkpoints.json").unlink()),
    "nothing of the pipeline": Fault("checkpoints_behind", lambda s: shutil.rmtree(s.dir / "pipelines")),
    "damaged checkpoints": Fault("checkpoints_damaged", lambda s: flipped(s.kept / "checkpoints.json", -9)),
    "a run taken away": Fault("checkpoint_run_gone", lambda s: shutil.rmtree(s.run), fix="flowd forget FILE a", **TOLD),
    "no key": Fault("key_missing", lambda s: (s.dir / "key").unlink(), fix="--force", **DAMAGE),
    "no result": Fault("result_missing", lambda s: large(s).unlink(), fix=f"flowd retry {DONE} big", **DAMAGE),
    "another result": Fault("result_damaged", lambda s: flipped(large(s), -5), fix=f"flowd retry {DONE} big", **DAMAGE),
    "a forged pickle": Fault("result_damaged", lambda s: flipped(signed(s), 30), fix=f"flowd retry {DONE}", **DAMAGE),
    "a result of nobody": Fault(
        "results_unreferenced", lambda s: aged(s.dir / "artifacts/ab" / ("c" * 62)), fix="", **TOLD
    ),
    "a half-written result": Fault("temporary_left", lambda s: aged(s.dir / "artifacts/ab/x.1-2.tmp"), "note"),
    "half-written looks": Fault("temporary_left", lambda s: aged(s.dir / "kept/files.1-2.tmp"), "note"),
    "a half-written version": Fault("temporary_left", lambda s: aged(s.dir / "version.1-2.tmp"), "note"),
    "a half-written owner": Fault("temporary_left", lambda s: (s.run / "owner.json.1-2.tmp").touch(), "note"),
    "an answer nobody took": Fault("temporary_left", lambda s: aged(s.run / "inbox/1.answer"), "note"),
    "a request half written": Fault("temporary_left", lambda s: aged(s.run / "inbox/.1.json.ab"), "note"),
    "a request nobody took": Fault("request_left", lambda s: aged(s.run / "inbox/1.json")),
}


def large(state: State) -> Path:
    """The file of the large result."""
    return max(state.dir.glob("artifacts/*/*"), key=lambda path: path.stat().st_size)


def signed(state: State) -> Path:
    """The file of the pickle."""
    return min(state.dir.glob("artifacts/*/*"), key=lambda path: path.stat().st_size)


MENDABLE = {name: fault for name, fault in FAULTS.items() if fault.repairable}
UNMENDABLE = {name: fault for name, fault in FAULTS.items() if not fault.repairable}


def test_nothing_is_wrong_with_what_a_run_leaves(state: State) -> None:
    """A state directory as flowd leaves it has no finding, and every check was made."""
    report = state.doctor()
    assert found(report) == []
    assert report.exit_code == 0
    names = [checked.name for checked in report.checks]
    assert names == [
        *("format", "permissions", "disk", "file system", "journals", "runs", "orphans", "limits", "index", "results"),
        *("strays", "clock", "machine"),
    ]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_each_fault_is_found_alone_and_looking_changes_nothing(state: State, fault: Fault) -> None:
    """One fault gives one finding with its code, severity, fix and exit code; no byte and no time is touched."""
    fault.plant(state)
    before = tree(state.dir)
    report = state.doctor()
    assert tree(state.dir) == before
    finding, *more = found(report)
    assert tuple(other.code for other in more) == fault.also
    assert (finding.code, finding.severity, finding.mend is not None) == (fault.code, fault.severity, fault.repairable)
    assert fault.fix in finding.fix
    assert finding.file is not None
    assert finding.file.startswith(str(state.dir))
    assert report.exit_code == fault.exit_code
    assert not finding.repaired


@pytest.mark.parametrize("fault", MENDABLE.values(), ids=MENDABLE)
def test_what_is_mended_is_well(state: State, fault: Fault) -> None:
    """A repair says so, and the next doctor finds nothing; the run's records are all there."""
    with closing(FileJournal(state.dir)) as journal:
        whole = list(journal.records(DONE))
        fault.plant(state)
        finding, *_ = found(state.doctor(repair=True))
        assert finding.repaired
        assert found(state.doctor()) == []
        assert list(journal.records(DONE)) == whole


@pytest.mark.parametrize("fault", UNMENDABLE.values(), ids=UNMENDABLE)
def test_what_is_not_safe_is_not_mended(state: State, fault: Fault) -> None:
    """With --repair, too, what is damaged, or for a person to decide, is left as it is, and said again."""
    fault.plant(state)
    before = tree(state.dir)
    report = state.doctor(repair=True)
    assert tree(state.dir) == before
    assert [finding.code for finding in found(report)] == [fault.code]
    assert report.exit_code == fault.exit_code


# each of these undoes or hides another
_ALONE = {
    "nothing of the pipeline",
    "a run taken away",
    "a mark that lags",
    "no mark",
    "a mark of noise",
    "a torn tail",
}


@pytest.mark.parametrize("seed", range(6))
def test_many_faults_at_once_are_all_mended(state: State, seed: int) -> None:
    """After a repair of any faults together, none that could be repaired is left, and a second one changes nothing."""
    chance = random.Random(seed)
    together = [*chance.sample(sorted(MENDABLE.keys() - _ALONE), 6), chance.choice(["no mark", "a torn tail"])]
    for name in together:
        MENDABLE[name].plant(state)
    assert {MENDABLE[name].code for name in together} >= codes(state.doctor()) != set()
    state.doctor(repair=True)
    before = tree(state.dir)
    assert found(state.doctor(repair=True)) == []
    assert tree(state.dir) == before


def test_damage_says_where_and_what_stands_before_it(state: State) -> None:
    """File and offset are those of the first byte that cannot be believed."""
    offset = second_line(state)
    flipped(state.journal, offset + 9)
    [finding] = found(state.doctor())
    assert (finding.file, finding.offset) == (str(state.journal), offset)
    assert "the 1 record before it stand" in finding.sentence


def test_the_gravest_finding_is_the_exit_code(state: State) -> None:
    """Warnings and notes beside damage do not hide it."""
    state.dir.chmod(0o755)
    listed(state, "nobody")
    large(state).unlink()
    report = state.doctor()
    assert codes(report) == {"permissions_open", "index_gone", "result_missing"}
    assert report.exit_code == 5


def test_a_torn_tail_is_kept_aside(state: State) -> None:
    """What is cut off is kept to the byte, as an owner keeps it."""
    size = state.journal.stat().st_size
    appended(state)
    [finding] = found(state.doctor(repair=True))
    assert (finding.file, finding.offset) == (str(state.journal), size)
    assert (state.run / f"journal.0001.torn-{size}").read_bytes() == b'{"seq":99,"at":'
    assert state.journal.stat().st_size == size


def test_a_repair_that_fails_says_so_and_can_be_repeated(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk refuses at any step, the finding stays as an error of storage, and a later repair ends it."""
    appended(state)
    for step in ("fsync", "ftruncate"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, _raise(OSError(errno.EIO, "Input/output error")))
            report = state.doctor(repair=True)
        [finding] = found(report)
        assert (finding.code, finding.repaired, report.exit_code) == ("journal_torn", False, 4)
        assert "EIO" in finding.fix
    assert found(state.doctor(repair=True))[0].repaired
    assert found(state.doctor()) == []


def _raise(error: Exception) -> Callable[..., Any]:
    def refuse(*_: Any) -> None:
        raise error

    return refuse


def test_a_second_run_that_was_not_merged_is_merged(state: State) -> None:
    """Where the file is gone, each task comes from the run that finished it last, and one finding names only that."""

    async def again() -> None:
        async with Engine(state.dir) as engine:
            await engine.run(state.pipeline, "a", run_id="later", force=True)

    anyio.run(again)
    whole = (state.kept / "checkpoints.json").read_bytes()
    (state.kept / "checkpoints.json").unlink()
    finding, *more = found(state.doctor(repair=True))
    assert "lack what run later has finished: a" in finding.sentence
    assert "big" in "".join(other.sentence for other in more)
    assert (state.kept / "checkpoints.json").stat().st_size == len(whole)
    assert found(state.doctor()) == []


def test_a_project_that_was_moved_is_well(state: State, tmp_path: Path) -> None:
    """The journals of a moved project name a folder that it is in no more; nothing is missed for that.

    Nor of a run that no checkpoint is of any more.
    """

    async def again() -> None:
        async with Engine(state.dir) as engine:
            await engine.run(state.pipeline, "a", "big", "pickled", run_id="later", force=True)

    anyio.run(again)
    moved = tmp_path / "deeper" / "place"
    moved.mkdir(parents=True)
    shutil.copytree(state.dir, moved / ".flowd", copy_function=shutil.copy2)
    os.chmod(moved / ".flowd", 0o700)
    report = examine(moved / ".flowd", datetime.now(UTC))
    assert found(report) == []


async def test_a_run_that_is_held_is_left_alone(tmp_path: Path) -> None:
    """What could be mended in a run that somebody holds is not, and the finding says who holds it."""
    made = State(tmp_path / ".flowd", pipeline(tmp_path))
    async with Engine(made.dir, on_exit="detach") as engine:
        begun = await engine.start(made.pipeline, "endless", run_id=DONE)
        with anyio.fail_after(20):
            async for event in begun.events():
                if event["event"] == "task_started" and event["task"] == "endless":
                    break
        [entry] = made.kept.glob("open/*")
        entry.unlink()
        before = beside_pages(made.dir)
        held, missing = found(made.doctor(repair=True))
        assert beside_pages(made.dir) == before
        assert (held.code, held.severity) == ("run_held", "note")
        assert f"pid {os.getpid()}" in held.sentence
        assert (missing.code, missing.repaired) == ("index_missing", False)
        assert missing.fix.startswith("left alone: ")
        assert f"pid {os.getpid()}" in missing.fix


def test_a_place_where_nothing_is_yet(tmp_path: Path) -> None:
    """A state directory that does not exist is no error, is not made, and the machine is looked at."""
    report = examine(tmp_path / "x" / ".flowd", datetime.now(UTC), repair=True)
    assert codes(report) == {"no_state_dir"}
    assert report.exit_code == 0
    assert not (tmp_path / "x").exists()


def test_a_file_as_state_directory(tmp_path: Path) -> None:
    """What is no folder is refused as damaged."""
    (tmp_path / ".flowd").touch()
    report = examine(tmp_path / ".flowd", datetime.now(UTC))
    assert (codes(report), report.exit_code) == ({"not_a_folder"}, 5)


def test_a_folder_that_may_not_be_written_is_failing_storage(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system says that this user may not write, the exit code is that of storage."""
    monkeypatch.setattr(os, "access", lambda path, mode: path != state.dir / "runs")
    report = state.doctor()
    [finding] = found(report)
    assert (finding.code, report.exit_code) == ("not_writable", 4)
    assert finding.fix == f"chmod u+rwx {state.dir / 'runs'}"


def test_a_file_system_that_cannot_lock_is_failing_storage(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """One finding names the kind, and not every run once more."""
    monkeypatch.setattr(fcntl, "flock", _raise(OSError(errno.ENOLCK, "No locks available")))
    report = state.doctor()
    [finding] = found(report)
    assert (finding.code, report.exit_code) == ("cannot_lock", 4)
    assert filesystem.kind_of(state.dir) in finding.sentence


@pytest.mark.parametrize(
    ("mount", "code"),
    [
        (Mount(point="/", kind="nfs4", source="s:/e"), "network_file_system"),
        (Mount(point="/", kind="tmpfs"), "memory_file_system"),
        (Mount(point="/", kind="overlay", options=("volatile",)), "volatile_file_system"),
        (Mount(point="/", kind="ext4"), None),
    ],
)
def test_kinds_of_file_systems_are_judged(mount: Mount, code: str | None) -> None:
    """Each doubtful kind has a warning of its own, which says where to go."""
    findings = mount_findings(mount, Path("/s"))
    assert [finding.code for finding in findings] == ([code] if code else [])
    assert all("--state-dir" in finding.fix for finding in findings)


GB = 10**9


@pytest.mark.parametrize(
    ("free", "size", "inodes_free", "inodes", "expected"),
    [
        (50 * GB, 100 * GB, 50, 100, {}),
        (50 * GB, 100 * GB, 0, 0, {}),  # a file system without inodes of its own
        (GB, 100 * GB, 50, 100, {}),
        (GB - 1, 100 * GB, 50, 100, {"disk_low": 0}),
        (GB // 11, 2 * GB, 50, 100, {"disk_low": 0}),
        (10**8, 2 * GB, 50, 100, {}),
        (258_000, 307_200, 50, 100, {"disk_low": 0}),
        (64_000 - 1, 2 * GB, 50, 100, {"disk_full": 4}),
        (50 * GB, 100 * GB, 9, 1000, {"inodes_low": 0}),
        (50 * GB, 100 * GB, 0, 1000, {"inodes_full": 4}),
        (0, GB, 0, 1000, {"disk_full": 4, "inodes_full": 4}),
    ],
)
def test_room_is_judged(free: int, size: int, inodes_free: int, inodes: int, expected: dict[str, int]) -> None:
    """Under one per cent or 100 MB is little, under 64 kB and no inode is failing storage."""
    room = Room(free=free, size=size, inodes_free=inodes_free, inodes=inodes)
    findings = room_findings(room, Path("/s"))
    assert {finding.code: finding.exit_code for finding in findings} == expected
    figures = (f"{amount(free)} of {amount(size)} are free", f"{inodes_free} of {inodes} inodes are free")
    assert all(any(figure in finding.sentence for figure in figures) for finding in findings)


def test_under_repair_a_small_write_is_tried(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """What really fails is failing storage whatever the figures say; what is looked at alone is never written."""
    written = []

    def write(descriptor: int, data: bytes) -> None:
        written.append(len(data))
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(disk, "write_all", write)
    assert codes(state.doctor()) == set()
    assert written == []
    [finding] = found(state.doctor(repair=True))
    assert (finding.code, finding.exit_code) == ("disk_full", 4)
    assert os.strerror(errno.EDQUOT) in finding.sentence


def test_a_small_write_leaves_nothing_behind(state: State) -> None:
    """The probe has no name, so not even a kill leaves it; it is enough for a disk with few bytes free."""
    before = tree(state.dir)
    assert small_write(state.dir) == ""
    assert tree(state.dir) == before
    room = Room(free=10, size=GB, inodes_free=50, inodes=100)
    assert [finding.code for finding in room_findings(room, state.dir, failure="")] == ["disk_low"]


def test_a_run_of_a_script_is_not_offered_what_is_refused(state: State) -> None:
    """Whose functions live in the program alone goes on there; `flowd resume` would end with 2."""
    state.interrupted("half", "endless")
    [finding] = found(state.doctor())
    assert "flowd resume" not in finding.fix
    assert "engine.resume('half', pipeline)" in finding.fix
    assert "flowd cancel half" in finding.fix


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (0, set()),
        (-1, {"clock_behind"}),
        (-365 * 10, {"clock_behind", "clock_implausible"}),
        (36500, {"clock_implausible"}),
    ],
)
def test_the_clock_is_judged(state: State, days: float, expected: set[str]) -> None:
    """A clock before the newest record, and a year that cannot be, are said."""
    report = state.doctor(days=days)
    assert {code for code in codes(report) if code.startswith("clock")} == expected


def test_every_code_is_said_in_one_way() -> None:
    """No two faults of one code differ in severity or exit code: scripts may rely on a code alone."""
    by_code = sorted(FAULTS.values(), key=lambda fault: fault.code)
    for code, same in itertools.groupby(by_code, key=lambda fault: fault.code):
        assert len({(fault.severity, fault.exit_code, fault.repairable) for fault in same}) == 1, code


def test_the_document_has_its_fields(state: State) -> None:
    """A finding as JSON has exactly the fields that scripts read."""
    appended(state)
    document = state.doctor().document()
    assert set(document) == {"state_dir", "findings", "checks"}
    [finding] = [entry for entry in document["findings"] if entry["code"] == "journal_torn"]
    assert set(finding) == {
        *("code", "severity", "sentence", "file", "offset", "fix", "repairable", "repaired"),
    }
    assert (finding["repairable"], finding["repaired"]) == (True, False)
    [journals] = [entry for entry in document["checks"] if entry["name"] == "journals"]
    assert journals["worst"] == "warning"


# --- what has changed since the look ------------------------------------------------------------------------


async def reopened(state: State) -> None:
    """The finished run is asked for `a` again, and its owner dies."""
    async with FileJournal(state.dir) as journal:
        last = [envelope.seq async for envelope in journal.read(DONE)][-1]
        events = RunReopened(), TaskReset(task="a")
        async with journal.open(DONE) as writer:
            writer.append([Envelope(DONE, last + n, datetime.now(UTC), event) for n, event in enumerate(events, 1)])
            await writer.durable(last + len(events))


def retried(state: State) -> None:
    listed(state, DONE)
    anyio.run(reopened, state)


def looked_then(state: State, meanwhile: Callable[[State], object], *checks: Check) -> list[Finding]:
    """What was found, mended after something has happened."""
    with Patient(state.dir, datetime.now(UTC)) as patient:
        patient.look()
        findings = [finding for check in checks for finding in check(patient).findings]
        meanwhile(state)
        before = tree(state.dir)
        for finding in findings:
            finding.repair()
        assert tree(state.dir) == before
    return findings


def test_a_run_that_was_reopened_stays_on_the_list(state: State) -> None:
    """Ended at the look, asked for again and killed since: what it finishes must still be looked for."""
    listed(state, DONE)
    [finding] = looked_then(state, retried, check_index)
    assert (finding.code, finding.repaired) == ("index_ended", True)
    assert (state.kept / "open" / DONE).exists()


def test_what_was_behind_and_was_reopened_stays_on_the_list(state: State) -> None:
    """The same of a run whose checkpoints were missing: listed, they are found in its journal."""
    (state.kept / "checkpoints.json").unlink()
    [finding] = looked_then(state, retried, check_index)
    assert finding.code == "checkpoints_behind"
    assert codes(state.doctor()) == {"run_unfinished"}


def test_a_run_that_came_back_stays_on_the_list(state: State) -> None:
    """One that was gone at the look and is there again."""
    listed(state, "nobody")
    [finding] = looked_then(state, lambda s: s.run.rename(s.run.with_name("nobody")), check_index)
    assert finding.code == "index_gone"


def test_an_unfinished_run_that_is_not_listed_is_listed(state: State) -> None:
    """What it has finished is found in its journal, now and when it goes on."""
    (state.dir.parent / "a.txt").unlink()  # so that it is made again
    state.interrupted("half", "a", "endless")
    assert not (state.kept / "open/half").exists()  # it was let go in order
    (state.kept / "checkpoints.json").unlink()
    assert {"checkpoints_behind", "run_unfinished"} == codes(state.doctor(repair=True))
    assert codes(state.doctor()) == {"run_unfinished"}
    assert (state.kept / "open/half").exists()


def test_what_was_closed_or_healed_meanwhile_is_let_be(state: State) -> None:
    """A mode that is narrower by now, and a journal that its next owner has put right."""
    state.dir.chmod(0o755)
    appended(state)

    def mended(state: State) -> None:
        state.dir.chmod(0o500)
        with closing(FileJournal(state.dir)) as journal:
            journal.heal(DONE)

    found = looked_then(state, mended, check_permissions, check_journals)
    assert [finding.code for finding in found] == ["permissions_open", "journal_torn"]


# --- what a repair has to say --------------------------------------------------------------------------------


@pytest.mark.parametrize(("at", "lost"), [(20, True), (-9, False)])
def test_what_may_be_fresh_again_is_said(state: State, at: int, lost: bool) -> None:
    """Where the header is damaged, too, nobody knows what was forgotten: before and after the repair that is said."""
    flipped(state.kept / "checkpoints.json", at)
    for repair in (False, True):
        [finding] = found(state.doctor(repair=repair))
        assert (finding.code, finding.repaired) == ("checkpoints_damaged", repair)
        assert ("what was forgotten before may be fresh again" in finding.sentence) is lost
    assert "kept as checkpoints.json.corrupt-1" in finding.sentence


def test_a_run_that_can_only_be_known_in_part_is_said(state: State) -> None:
    """What a repair had to leave out stands in its finding."""
    state.interrupted("half", "endless")
    flipped(state.dir / "runs/half/spec.json", -2)
    flipped(state.kept / "checkpoints.json", -9)
    [finding] = [one for one in found(state.doctor(repair=True)) if one.code == "checkpoints_damaged"]
    assert "checkpoints of run half are left out" in finding.sentence


def test_whether_a_run_keeps_is_asked_of_its_newest_definition(state: State, tmp_path: Path) -> None:
    """A run whose pipeline got its first output by being redefined is judged like any that has one."""
    bare = replace(spec := state.pipeline.spec, tasks=tuple(replace(t, outputs=(), cache=False) for t in spec.tasks))
    seen = {}
    for run, events in {"before": (), "after": (RunRedefined(spec="", definition=spec),)}.items():
        with closing(FileJournal(state.dir)) as journal:
            digest = anyio.run(journal.create, run, Definition(spec=bare, folder=str(tmp_path)))

        async def write(run: str, *events: Event) -> None:
            async with FileJournal(state.dir) as journal, journal.open(run) as writer:
                writer.append([Envelope(run, n, datetime.now(UTC), event) for n, event in enumerate(events, 1)])
                await writer.durable(len(events))

        anyio.run(write, run, RunStarted(pipeline="p", spec=digest, owner="o"), *events)
        with Patient(state.dir, datetime.now(UTC)) as patient:
            patient.look()
            seen |= {one.id: one.keeps for one in patient.runs}
    assert seen == {DONE: True, "before": False, "after": True}
