"""Does a pipeline survive being killed? Each durable boundary of a run, tried on copies of its folder.

The pipeline first runs twice uninterrupted: what differs between the two is not its crash's doing
and is left out of the comparison. Then, for each task and point, a copy is run until it is killed
there, resumed, and compared: how its tasks ended, their results, and every file of the folder,
declared or not. What a task does outside of the folder is real, is done for each kill, and is not seen.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from flowd.authoring.pipeline import Pipeline
from flowd.core.errors import BadRequest
from flowd.core.patterns import named
from flowd.core.spec import Definition
from flowd.engine.files import Files
from flowd.testing.crashing import Death, Request
from flowd.testing.replay import replay

LEFT_OUT = (".git", ".flowd", ".venv*", "node_modules", "__pycache__")
UNCOMPARED = (".flowd", "__pycache__", "*.pyc", ".pytest_cache", ".mypy_cache", ".ruff_cache")
"""What flowd itself and interpreters keep in a folder, which is as it happens to be."""
MOST_BYTES = 2 << 30
PATIENCE = 3600.0
"""Seconds that one run of the pipeline may take."""

LEDGER = ".crashtest-starts"

_RUN = "crashtest"
_ENDS = frozenset({0, 1, 3, 130})
"""Exit codes with which a run may end or stand."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One kill: where, how often each body began in all, and whether the end was as without it.

    `verdict` is `same`, `asked` (a person had to say what became of a task that is not idempotent;
    the end was the same once told to rerun it), `different`, `ran_again` (a task that was durably
    done ran again) or `not_reached`. `undeclared` are the files that differ and that no task declares.
    """

    task: str
    point: str
    body_runs: int
    verdict: str
    detail: str = ""
    undeclared: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.verdict in {"same", "asked", "not_reached"}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """All cases of a pipeline; `varies` are files and results that differ from run to run even without a crash."""

    pipeline: str
    cases: tuple[Case, ...]
    varies: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every crash left the same end."""
        return all(case.ok for case in self.cases)


def crashtest(
    file: str | Path,
    scratch: Path,
    *,
    tasks: Sequence[str] = (),
    params: dict[str, Any] | None = None,
    tell: Callable[[Case], None] = lambda _case: None,
) -> Verdict:
    """Kill the pipeline in `file` at every durable boundary, on copies in the empty folder `scratch`.

    `tell` hears of each case as it ends. Raises BadPipeline, and BadRequest where it cannot be
    copied or does not even end well without a crash.
    """
    definition = Pipeline.load(file).definition()
    lab = _Lab(str(file), definition, scratch, tuple(tasks), params or {})
    lab.reference = lab.uninterrupted("reference-1")
    lab.look_for_variation()
    cases = []
    for death in _deaths(lab.reference.document, tasks):
        case = lab.try_one(death)
        tell(case)
        cases.append(case)
    return Verdict(pipeline=definition.spec.name, cases=tuple(cases), varies=tuple(sorted(map(str, lab.varies))))


def _deaths(reference: dict[str, Any], tasks: Sequence[str]) -> Iterator[Death]:
    names = [name for name in reference["tasks"] if not tasks or name in tasks]
    for name in names:
        for point in ("before_start", "after_start", "before_end", "after_end"):
            yield Death(point=point, task=name)
        if reference["tasks"][name]["attempts"] > 1:
            yield Death(point="in_retry_wait", task=name)
    if names:
        yield Death(point="in_cancel", task=names[0])


class _Difference(NamedTuple):
    """What two runs do not share: `task`'s own, or a file that no task declares."""

    what: str
    task: str = ""

    def __str__(self) -> str:
        return f"{self.task}: {self.what}" if self.task else self.what


class _End(NamedTuple):
    """How a run stands, and what every file of its folder is by then, by path."""

    document: dict[str, Any]
    files: dict[str, str]


class _Lab:
    """Runs copies of one pipeline."""

    def __init__(
        self, file: str, definition: Definition, scratch: Path, tasks: tuple[str, ...], params: dict[str, Any]
    ) -> None:
        path, _, name = file.partition(":")
        folder = Path(definition.folder)
        if not Path(path).is_file() or Path(path).absolute().parent != folder:
            raise BadRequest(f"crashtest runs copies of a folder: name the file in it, not {file}")
        for task in definition.spec.tasks:
            for output in task.outputs:
                if Path(output.path).is_absolute():
                    raise BadRequest(f"task {task.name} writes {output.path}, which lies outside the folder copied")
        size = sum(found.stat().st_size for found in folder.rglob("*") if found.is_file())
        if size > MOST_BYTES:
            raise BadRequest(
                f"{folder} has {size} bytes, which is much to copy for every kill; move its data elsewhere"
            )
        self.reference = _End({}, {})
        self.varies: set[_Difference] = set()
        self._steady: set[_Difference] = set()
        self._controls = 0
        self._source = folder
        self._written = {output.path for task in definition.spec.tasks for output in task.outputs}
        self._lines = "*".join(map(glob.escape, re.split(r"\{\{.*?\}\}", definition.spec.log.file or "")))
        self._name = Path(path).name + (f":{name}" if name else "")
        self._scratch = scratch
        self._tasks = tasks
        self._params = params
        self._idempotent = {task.name: task.idempotent for task in definition.spec.tasks}

    def uninterrupted(self, name: str) -> _End:
        """The end of a run that nobody kills."""
        folder = self._copy(name)
        document = self._begin(folder, None)
        if document["state"] != "succeeded":
            error = document["error"] or {"task": "it", "message": document["state"]}
            raise BadRequest(
                f"without any crash the pipeline ends {document['state']}: {error['task']}: {error['message']}"
            )
        return _End(document, _files(folder, self._lines))

    def look_for_variation(self) -> None:
        """Learn from one more run that nobody kills what differs without any kill."""
        self._controls += 1
        name = f"reference-{self._controls + 1}"
        self.varies |= _differences(self.reference, self.uninterrupted(name))
        shutil.rmtree(self._scratch / name, ignore_errors=True)

    def _changed(self, after: _End) -> set[_Difference]:
        """What a kill has changed; what varies seldom, as a date does, is told from it by one more run without any."""
        different = _differences(self.reference, after) - self.varies
        if different - self._steady:
            self.look_for_variation()
            different -= self.varies
            self._steady |= different
        return different

    def try_one(self, death: Death) -> Case:
        """Kill a copy there, bring it to its end, and compare."""
        folder = self._copy(f"{death.task}-{death.point}")
        try:
            killed = self._begin(folder, death)
            if killed:
                return Case(task=death.task, point=death.point, body_runs=0, verdict="not_reached")
            killed_at = datetime.now(UTC)
            ledger = folder / LEDGER
            began = ledger.read_text(encoding="utf-8").split("\n").count(death.task) if ledger.exists() else 0
            before = replay(folder / ".flowd" / "runs" / _RUN)
            after, asked = self._to_the_end(folder, before)
            changed = self._changed(_End(after, _files(folder, self._lines)))
            attempts = after["tasks"].get(death.task, {}).get("attempt_list", ())
            began += sum(datetime.fromisoformat(attempt["started"]) >= killed_at for attempt in attempts)
            return _judged(death, before, after, changed, runs=began, asked=asked)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _to_the_end(self, folder: Path, document: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Resume, and answer `rerun` where a person is asked; whether one was."""
        asked = False
        if not document["tasks"]:  # killed before its first record: nothing has begun
            document = self._begin(folder, None)
        elif document["state"] != "cancelled":
            document = self._flowd(folder, "resume", _RUN)
        for _ in range(len(self._idempotent) + 1):
            uncertain = [name for name, task in document["tasks"].items() if task["state"] == "uncertain"]
            if not uncertain:
                break
            asked = True
            document = self._flowd(folder, "resolve", _RUN, uncertain[0], "--as", "rerun")
        if document["state"] == "cancelled":
            document = self._flowd(folder, "retry", _RUN)
        return document, asked

    def _copy(self, name: str) -> Path:
        folder = self._scratch / name.replace("/", "_")
        shutil.copytree(self._source, folder, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_OUT))
        files = Files(folder)
        for path in self._written:
            for left in [] if "{{" in path else map(files.path, files.written_as(named(path))):
                if left.is_file():
                    left.unlink()  # every copy begins where a first run begins
        return folder

    def _begin(self, folder: Path, death: Death | None) -> dict[str, Any]:
        """Run the copy; its document, empty where it was killed."""
        where = Death(point="after_end", task="") if death is None else death
        request = Request(
            file=str(folder / self._name),
            state_dir=str(folder / ".flowd"),
            ledger=str(folder / LEDGER),
            run_id=_RUN,
            params=self._params,
            tasks=self._tasks,
            death=where,
        )
        argv = [sys.executable, "-m", "flowd.testing.crashing", msgspec.json.encode(request).decode()]
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode < 0:
            return {}
        if done.returncode:
            raise BadRequest(f"the pipeline could not be run in a copy of its folder:\n{done.stderr.strip()[-2000:]}")
        return replay(folder / ".flowd" / "runs" / _RUN)

    def _flowd(self, folder: Path, *arguments: str) -> dict[str, Any]:
        """Carry out a command on the run, and read how it stands then."""
        argv = [sys.executable, "-m", "flowd", *arguments, "--state-dir", str(folder / ".flowd")]
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode in _ENDS:
            return replay(folder / ".flowd" / "runs" / _RUN)
        said = done.stderr.strip()[-2000:]
        raise BadRequest(f"flowd {' '.join(arguments)} failed after the crash:\n{said}")


def _judged(
    death: Death, before: dict[str, Any], after: dict[str, Any], changed: set[_Difference], *, runs: int, asked: bool
) -> Case:
    again = [
        name
        for name, task in before["tasks"].items()
        if task["state"] == "succeeded" and after["tasks"][name]["attempts"] > task["attempts"]
    ]
    verdict, detail = "asked" if asked else "same", ""
    if again:
        verdict, detail = "ran_again", f"{', '.join(again)} had durably succeeded"
    elif changed:
        verdict, detail = "different", ", ".join(sorted(map(str, changed)))
    undeclared = tuple(sorted(one.what for one in changed if not one.task))
    return Case(
        task=death.task, point=death.point, body_runs=runs, verdict=verdict, detail=detail, undeclared=undeclared
    )


def _differences(one: _End, other: _End) -> set[_Difference]:
    """The files, results and ends that two runs do not share."""
    found = set()
    declared: set[str] = set()
    for name, task in one.document["tasks"].items():
        twin = other.document["tasks"].get(name)
        if twin is None or task["state"] != twin["state"]:
            found.add(_Difference(f"ended {twin['state'] if twin else 'nowhere'}, not {task['state']}", name))
            continue
        theirs = {output["path"]: output["digest"] for output in twin["outputs"]}
        ours = {output["path"]: output["digest"] for output in task["outputs"]}
        found |= {_Difference(path, name) for path, digest in ours.items() if theirs.get(path) != digest}
        declared |= {os.path.normpath(path) for path in {*ours, *theirs}}
        if task["result"] != twin["result"]:
            found.add(_Difference("its result", name))
    for path in {*one.files, *other.files}:
        # what lies in a folder that is declared is part of it
        if one.files.get(path) != other.files.get(path) and not declared.intersection(
            {path, *map(str, Path(path).parents)}
        ):
            found.add(_Difference(path))
    return found


def _files(folder: Path, lines: str) -> dict[str, str]:
    """Every file below a folder, by path: a digest, where a link points to, or of which kind it is.

    But for those of flowd's own log lines, which tell of the kills: `lines` is a glob.
    """
    found = {}
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _is_uncompared(name)]
        for name in (*names, *(name for name in folders if os.path.islink(os.path.join(place, name)))):
            path = os.path.join(place, name)
            if not _is_uncompared(name) and name != LEDGER:
                relative = os.path.relpath(path, folder)
                if not fnmatch(relative, os.path.normpath(lines)):
                    found[relative] = _contents(path)
    return found


def _is_uncompared(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in UNCOMPARED)


def _contents(path: str) -> str:
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            return f"link to {os.readlink(path)}"
        if not stat.S_ISREG(mode):
            return f"kind {stat.S_IFMT(mode):o}"
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:  # taken away by what a task left running, or not ours to read
        return f"error {error.errno}"
