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

from flowd.core.declared import Expect, Group, Notify, Owner, Retention, Schedule, Trigger
from flowd.core.frozen import Spec

SPEC_FORMAT = 1


class Call(Spec, frozen=True, kw_only=True, tag_field="kind", tag="call"):
    """Call `function` (dotted inside `module`) of a module beside the pipeline's file."""

    module: str
    function: str


class Run(Spec, frozen=True, kw_only=True, tag_field="kind", tag="run"):
    """Run a command: `text` goes to the task's shell, `argv` starts a program without one."""

    text: str | None = None
    argv: tuple[str, ...] | None = None


class Ask(Spec, frozen=True, kw_only=True, tag_field="kind", tag="approve"):
    """Nothing is carried out: the task is a person's answer, as its `approve` says."""


class Wait(Spec, frozen=True, kw_only=True, tag_field="kind", tag="wait"):
    """Nothing is carried out: the task has succeeded once a time is over.

    Either a `duration`, from when its turn came, or `until` a moment: `HH:MM`, the next one, or a
    date and time, in `timezone`.
    """

    duration: timedelta | None = None
    until: str | None = None
    timezone: str = "UTC"


class Nested(Spec, frozen=True, kw_only=True, tag_field="kind", tag="pipeline"):
    """Run another pipeline, as it was when this one was read; `source` is what names it there."""

    source: str
    definition: Definition


Action = Call | Run | Ask | Wait | Nested


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

    `checkpoint` false leaves its content out of the freshness decision. `retention` is how long
    kept copies and records of it stay; the working file goes with them only with `delete`.
    """

    path: str
    checkpoint: bool = True
    optional: bool = False
    retention: timedelta | None = None
    delete: bool = False


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


class Gate(Spec, frozen=True, kw_only=True):
    """A condition on what a task gave: a bare expression that has to hold, or (`warn`) is only told where it does not.

    `name` is what it is called where it fails; empty: by its expression.
    """

    check: str
    severity: str = "error"
    name: str = ""


class Param(Spec, frozen=True, kw_only=True):
    """A typed parameter of a pipeline; `default` is already of that type.

    `type` is one of str int float bool path uri date datetime duration json list. Values of
    date, datetime and duration, and their bounds, are kept as text in canonical form.
    """

    type: str = "str"
    default: Any = None
    required: bool = False
    choices: tuple[Any, ...] = ()
    min: float | str | None = None
    max: float | str | None = None
    pattern: str | None = None
    description: str = ""


class Approve(Spec, frozen=True, kw_only=True):
    """A person's answer that a task waits for before its action starts, or that is all of the task.

    `message` and `show` (paths whose content the answer stands for) may hold `{{ }}`; `by` names
    who is meant; `form` are the fields to fill in. At `timeout` after it was asked, `then` says
    what becomes of the task: fail, skip or approve.
    """

    message: str = ""
    by: tuple[str, ...] = ()
    form: dict[str, Param] = {}
    show: tuple[str, ...] = ()
    timeout: timedelta | None = None
    then: str = "fail"


class Probe(Spec, frozen=True, kw_only=True):
    """What tells that a service serves: one of five, asked `every` so long, and for `timeout` at most.

    `http` is a path on the service's own port, or a URL; `tcp` a port; `file` a path; `log` a regular expression
    over what it prints; `command` a command that ends with 0. A `marker` is a file that stands while it serves.
    """

    http: str | None = None
    tcp: int | None = None
    file: str | None = None
    log: str | None = None
    command: Run | None = None
    every: timedelta = timedelta(milliseconds=500)
    timeout: timedelta = timedelta(seconds=30)
    marker: str | None = None


class Stop(Spec, frozen=True, kw_only=True):
    """How a service is asked to end: by a `signal`, and with so much `grace` (none: that of its task)."""

    signal: str = "TERM"
    grace: timedelta | None = None


class Service(Spec, frozen=True, kw_only=True):
    """A task's action goes on for as long as it is needed; the task is serving once its probe passes.

    `port` 0 is any free one. `restart` is the policy after it has ended by itself while it served; its `attempts`
    count the first start. `keep`: `needed` by tasks below, with the `run`, or `always`: a run of which nothing else
    is left holds nobody up. A `lifetime` counts from when it serves; `lifetime_of` is one that holds `{{ }}`.
    """

    port: int | None = None
    ready: Probe = Probe()
    restart: Retry | None = None
    keep: str = ""  # while it is read; complete, it is one of the three
    lifetime: timedelta | None = None
    lifetime_of: str | None = None
    stop: Stop = Stop()


class Repeat(Spec, frozen=True, kw_only=True):
    """A task is carried out in rounds `until` an expression holds, the next one `every` so long after one has ended.

    There are at most `max` rounds, and none goes on once `timeout` has elapsed since the first began.
    """

    until: str
    every: timedelta = timedelta(seconds=1)
    timeout: timedelta | None = None
    max: int | None = None


class TaskSpec(Spec, frozen=True, kw_only=True):
    """One task of a pipeline: one action, its needs, files and policies.

    `when` and a text as `allow_failure` are expressions, without `{{ }}`; numbers there are exit codes.
    One that is `final` stands under `finally`: it runs once all others have ended, however they did.
    `reconcile` is asked, before a person is, what became of an attempt whose end is unknown.
    """

    name: str
    action: Action
    needs: tuple[str, ...] = ()
    final: bool = False
    trigger_rule: str = "all_succeeded"
    when: str | None = None
    allow_failure: bool | str | tuple[int, ...] = False
    with_: dict[str, Any] = msgspec.field(name="with", default_factory=dict)
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    service: Service | None = None
    executor: str  # async, thread, process, shell, service, or none where a person only answers: never left open
    idempotent: bool = True
    cache: bool = False
    fresh_for: timedelta | None = None
    code: tuple[str, ...] = ()
    retry: Retry | None = None
    repeat: Repeat | None = None
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
    gate: tuple[Gate, ...] = ()
    approve: Approve | None = None
    reconcile: Call | None = None
    owner: str | None = None
    description: str = ""


class Secret(Spec, frozen=True, kw_only=True):
    """Where a secret's value comes from: one of the four; never the value.

    `env` names a variable, `file` a path relative to the pipeline's folder, `command` a program
    whose output it is, `keyring` a service, of which `user` (the secret's name, where empty) has it.
    """

    env: str | None = None
    file: str | None = None
    command: tuple[str, ...] | None = None
    keyring: str | None = None
    user: str | None = None


class Rate(Spec, frozen=True, kw_only=True):
    """At most `count` starts in any stretch of time as long as `per`."""

    count: int
    per: timedelta


class LogSpec(Spec, frozen=True, kw_only=True):
    """Where a run's log lines go besides the run's own file."""

    file: str | None = None
    console: str = "stderr"
    format: str | None = None
    level: str = "info"


class PipelineSpec(Spec, frozen=True, kw_only=True):
    """A whole pipeline. `tasks` keeps the order in which they were written.

    `limits` are capacities, `rates` how often something may start, both by name; a name that ends
    with `*` stands for each name that begins so.
    """

    name: str
    tasks: tuple[TaskSpec, ...]
    description: str = ""
    params: dict[str, Param] = {}
    secrets: dict[str, Secret] = {}
    max_concurrency: int | None = None
    limits: dict[str, float] = {}
    rates: dict[str, Rate] = {}
    deadline: timedelta | None = None
    fail_fast: bool = False
    stop_after_failures: int | None = None
    env: dict[str, str] = {}
    log: LogSpec = LogSpec()
    owners: dict[str, Owner] = {}
    notify: tuple[Notify, ...] = ()
    schedule: tuple[Schedule, ...] = ()
    trigger: tuple[Trigger, ...] = ()
    group: Group | None = None
    expect: Expect | None = None
    retention: Retention | None = None
    result: str | None = None
    targets: dict[str, tuple[str, ...]] = {}
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


def section_of(task: TaskSpec) -> str:
    """The key of a pipeline under which a task stands."""
    return "finally" if task.final else "tasks"
