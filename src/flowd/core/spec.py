"""What a pipeline is: frozen data, the same whether it was written in YAML or in Python.

Values that hold expressions (`with`, `run`, `env`, `inputs`, `outputs`) stand here as they
were written; they are resolved for each attempt. Everything else is already typed, checked
and complete: `defaults` are merged, durations are `timedelta`, implied needs are explicit.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec

SPEC_FORMAT = 1


class Spec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The base of all parts of a specification: frozen, compared by value."""


class Call(Spec, frozen=True, kw_only=True, tag_field="kind", tag="call"):
    """Call `function` (dotted inside `module`) of a module beside the pipeline's file."""

    module: str
    function: str


class Run(Spec, frozen=True, kw_only=True, tag_field="kind", tag="run"):
    """Run a command: `text` goes to the task's shell, `argv` starts a program without one."""

    text: str | None = None
    argv: tuple[str, ...] | None = None


Action = Call | Run


class Retry(Spec, frozen=True, kw_only=True):
    """When a failed attempt is tried again.

    `attempts` counts every try, the first included. The n-th wait is `delay` (constant),
    `delay * n` (linear) or `delay * 2**(n - 1)` (exponential), never over `max_delay`, plus
    a random part up to `jitter`. `on` and `never_on` hold exception names, exit codes or
    `timeout`; an empty `on` means any failure. No try begins after `max_elapsed`.
    """

    attempts: int = 1
    backoff: str = "constant"
    delay: timedelta = timedelta(seconds=1)
    max_delay: timedelta | None = None
    jitter: timedelta = timedelta(0)
    on: tuple[str | int, ...] = ()
    never_on: tuple[str | int, ...] = ()
    max_elapsed: timedelta | None = None


class Input(Spec, frozen=True, kw_only=True):
    """A path or glob that a task reads, relative to the pipeline's folder; may hold `{{ }}`."""

    path: str


class Output(Spec, frozen=True, kw_only=True):
    """A path or glob that a task writes; it, or one file that it finds, must exist after success unless `optional`.

    `checkpoint` false leaves its content out of the freshness decision.
    """

    path: str
    checkpoint: bool = True
    optional: bool = False


class Foreach(Spec, frozen=True, kw_only=True):
    """A task is carried out once for each item of a list.

    `over` is the expression that gives the list once the task's needs have ended, or the list itself; `key` is
    the expression that names an item (empty: its place, or the item where all are short texts). Below full
    success, but at or over the share `min_success` of the items, the task is partial. After a failure
    `fail_fast` begins no further item, and stops those that run.
    """

    over: str | list[Any]
    key: str = ""
    max_concurrency: int | None = None
    min_success: float = 1.0
    fail_fast: bool = False


class TaskSpec(Spec, frozen=True, kw_only=True):
    """One task of a pipeline: one action, its needs, files and policies.

    `reconcile` is asked, before a person is, what became of an attempt whose end is unknown.
    """

    name: str
    action: Action
    needs: tuple[str, ...] = ()
    with_: dict[str, Any] = msgspec.field(name="with", default_factory=dict)
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    executor: str  # async, thread, process or shell: never left open
    idempotent: bool = True
    cache: bool = False
    fresh_for: timedelta | None = None
    code: tuple[str, ...] = ()
    retry: Retry | None = None
    timeout: timedelta | None = None
    grace: timedelta = timedelta(seconds=10)
    uses: dict[str, float] = {}
    priority: float = 0.0
    env: dict[str, str] = {}
    cwd: str | None = None
    shell: str = "sh"
    logs: tuple[str, ...] = ()
    foreach: Foreach | None = None
    matrix: tuple[dict[str, Any], ...] = ()  # its cells, in order
    axes: tuple[str, ...] = ()  # of the matrix: a cell is called by its values on these
    reconcile: Call | None = None
    description: str = ""


class Param(Spec, frozen=True, kw_only=True):
    """A typed parameter of a pipeline; `default` is already of that type.

    `type` is one of str int float bool path uri date datetime duration json list. Values of
    date, datetime and duration are kept as text in canonical form.
    """

    type: str = "str"
    default: Any = None
    required: bool = False
    choices: tuple[Any, ...] = ()
    min: float | None = None
    max: float | None = None
    pattern: str | None = None
    description: str = ""


class LogSpec(Spec, frozen=True, kw_only=True):
    """Where a run's log lines go besides the run's own file."""

    file: str | None = None
    console: str = "stderr"
    format: str | None = None
    level: str = "info"


class PipelineSpec(Spec, frozen=True, kw_only=True):
    """A whole pipeline. `tasks` keeps the order in which they were written."""

    name: str
    tasks: tuple[TaskSpec, ...]
    description: str = ""
    params: dict[str, Param] = {}
    max_concurrency: int | None = None
    limits: dict[str, float] = {}
    deadline: timedelta | None = None
    env: dict[str, str] = {}
    log: LogSpec = LogSpec()
    format: int = SPEC_FORMAT


class Definition(Spec, frozen=True, kw_only=True):
    """A specification with where it came from: what `spec.json` of a run holds.

    `folder` is absolute: paths in the specification are relative to it. `source` is what a
    person would name to load it again (a file, `file.py:name`), or None when it exists only
    in a living program.
    """

    spec: PipelineSpec
    folder: str
    source: str | None = None


def task_map(spec: PipelineSpec) -> Mapping[str, TaskSpec]:
    """The tasks of `spec` by name, in order."""
    return {task.name: task for task in spec.tasks}
