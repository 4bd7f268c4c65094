"""Does a pipeline survive being killed? Each durable boundary of a run, tried on copies of its folder.

The pipeline first runs twice uninterrupted: what differs between the two is not its crash's doing
and is left out of the comparison. Then, for each task and point, a copy is run until it is killed
there, resumed, and compared.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from flowd.authoring.pipeline import Pipeline
from flowd.core.errors import BadRequest
from flowd.core.patterns import named
from flowd.core.spec import Definition
from flowd.engine.files import Files
from flowd.testing.crashing import Death, Request
from flowd.testing.replay import replay

LEFT_OUT = (".git", ".flowd", ".venv*", "node_modules", "__pycache__")
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
    done ran again) or `not_reached`.
    """

    task: str
    point: str
    body_runs: int
    verdict: str
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong with it."""
        return self.verdict in {"same", "asked", "not_reached"}


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """All cases of a pipeline; `varies` are outputs that differ from run to run even without a crash."""

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
    first, second = lab.uninterrupted("reference-1"), lab.uninterrupted("reference-2")
    lab.reference, lab.varies = first, _differences(first, second, ())
    cases = []
    for death in _deaths(first, tasks):
        case = lab.try_one(death)
        tell(case)
        cases.append(case)
    return Verdict(pipeline=definition.spec.name, cases=tuple(cases), varies=tuple(sorted(lab.varies)))


def _deaths(reference: dict[str, Any], tasks: Sequence[str]) -> Iterator[Death]:
    names = [name for name in reference["tasks"] if not tasks or name in tasks]
    for name in names:
        for point in ("before_start", "after_start", "before_end", "after_end"):
            yield Death(point=point, task=name)
        if reference["tasks"][name]["attempts"] > 1:
            yield Death(point="in_retry_wait", task=name)
    if names:
        yield Death(point="in_cancel", task=names[0])


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
        self.reference: dict[str, Any] = {}
        self.varies: set[str] = set()
        self._source = folder
        self._written = {output.path for task in definition.spec.tasks for output in task.outputs}
        self._name = Path(path).name + (f":{name}" if name else "")
        self._scratch = scratch
        self._tasks = tasks
        self._params = params
        self._idempotent = {task.name: task.idempotent for task in definition.spec.tasks}

    def uninterrupted(self, name: str) -> dict[str, Any]:
        """The document of a run that nobody kills."""
        folder = self._copy(name)
        document = self._begin(folder, None)
        if document["state"] != "succeeded":
            error = document["error"] or {"task": "it", "message": document["state"]}
            raise BadRequest(
                f"without any crash the pipeline ends {document['state']}: {error['task']}: {error['message']}"
            )
        return document

    def try_one(self, death: Death) -> Case:
        """Kill a copy there, bring it to its end, and compare."""
        folder = self._copy(f"{death.task}-{death.point}")
        try:
            killed = self._begin(folder, death)
            if killed:
                return Case(task=death.task, point=death.point, body_runs=0, verdict="not_reached")
            ledger = folder / LEDGER
            began = ledger.read_text(encoding="utf-8").split("\n").count(death.task) if ledger.exists() else 0
            before = replay(folder / ".flowd" / "runs" / _RUN)
            after, asked = self._to_the_end(folder, before)
            return self._judged(death, before, after, began=began, asked=asked)
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

    def _judged(self, death: Death, before: dict[str, Any], after: dict[str, Any], *, began: int, asked: bool) -> Case:
        recorded = [document["tasks"].get(death.task, {}).get("attempts", 0) for document in (before, after)]
        runs = began + recorded[1] - recorded[0]
        again = [
            name
            for name, task in before["tasks"].items()
            if task["state"] == "succeeded" and after["tasks"][name]["attempts"] > task["attempts"]
        ]
        different = _differences(self.reference, after, self.varies)
        verdict, detail = "asked" if asked else "same", ""
        if again:
            verdict, detail = "ran_again", f"{', '.join(again)} had durably succeeded"
        elif different:
            verdict, detail = "different", ", ".join(sorted(different))
        return Case(task=death.task, point=death.point, body_runs=runs, verdict=verdict, detail=detail)

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


def _differences(one: dict[str, Any], other: dict[str, Any], without: Sequence[str] | set[str]) -> set[str]:
    """The outputs, results and ends that two runs do not share, as `task: what`."""
    found = set()
    for name, task in one["tasks"].items():
        twin = other["tasks"].get(name)
        if twin is None or task["state"] != twin["state"]:
            found.add(f"{name}: ended {twin['state'] if twin else 'nowhere'}, not {task['state']}")
            continue
        theirs = {output["path"]: output["digest"] for output in twin["outputs"]}
        found |= {f"{name}: {out['path']}" for out in task["outputs"] if theirs.get(out["path"]) != out["digest"]}
        if task["result"] != twin["result"]:
            found.add(f"{name}: its result")
    return found - set(without)
