"""The file format as one table: every key, what it holds, its default and what it means.

The reader of values, the hints for misspelt keys and what may stand under `defaults` all come
from here. A key that is `later` belongs to the format and is refused by name until it has its
meaning, never ignored.
"""

from __future__ import annotations

import re

import msgspec

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
NAME_RULE = "letters, digits, `_`, `.` and `-`, beginning with a letter or `_`, at most 100"


class Key(msgspec.Struct, frozen=True):
    """One key: `kind` names the reader of its value; `policy` says that `defaults` may hold it.

    `fits` are the actions beside which the key has a meaning; empty: all of them.
    `choices` are the words allowed, `later_choices` those that will be.
    """

    name: str
    kind: str
    sentence: str
    default: str = ""
    policy: bool = False
    fits: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    later_choices: tuple[str, ...] = ()
    required: bool = False
    later: bool = False


def _table(*keys: Key, later: str = "") -> dict[str, Key]:
    table = {key.name: key for key in keys}
    return table | {name: Key(name, "later", "Not supported yet.", later=True) for name in later.split()}


_SHELL = Key(
    "shell",
    "choice",
    "The shell of `run` texts; it stops at the first failing line.",
    "sh",
    policy=True,
    fits=("text",),
    choices=("sh", "bash"),
    later_choices=("powershell",),
)
_ENV = Key("env", "env", "Environment variables; a value may hold `{{ }}`.", "none", policy=True)

PIPELINE = _table(
    Key("name", "name", "The pipeline's name.", required=True),
    Key("description", "text", "What it is for, in a sentence."),
    Key("params", "params", "Typed parameters: a bare default, or {type, default, required, choices, min, max, …}."),
    Key("max_concurrency", "count", "How many tasks run at once.", "the engine's"),
    Key("limits", "limits", "Named capacities that tasks share: NAME: N, or {capacity: N}."),
    Key("defaults", "defaults", "Policies of every task that does not say otherwise."),
    Key("deadline", "span", "How long a run may take in all.", "none"),
    Key("grace", "duration", "How long an attempt of any task may take to stop.", "10s"),
    msgspec.structs.replace(_ENV, policy=False),
    msgspec.structs.replace(_SHELL, policy=False, fits=()),
    Key("workdir", "path", "The folder in which commands run.", "the file's folder"),
    Key("log", "log", "Where log lines go besides the run's own file."),
    Key("tasks", "tasks", "The tasks by name.", required=True),
    later="secrets schedule trigger group owners notify expect fail_fast stop_after_failures finally targets "
    "include result retention",
)

TASK = _table(
    Key("call", "call", "A function to call: `module:function`, from a module beside the file."),
    Key("run", "command", "A command: a text for the shell, or [program, argument, …] without one."),
    Key("needs", "needs", "The tasks that come before: a list, or one name.", "none"),
    Key("with", "values", "The function's parameters by name.", "none", fits=("call",)),
    Key("inputs", "inputs", "Paths that are read, relative to the file's folder.", "none"),
    Key("outputs", "outputs", "Paths or globs that are written: PATH, or {path, checkpoint, optional}.", "none"),
    Key("idempotent", "bool", "Whether running it twice is as good as once.", "true", policy=True),
    Key("cache", "bool", "Whether it may be fresh.", "true where outputs are declared, else false", policy=True),
    Key("fresh_for", "span", "How long it stays fresh.", "for ever", policy=True),
    Key("code", "paths", "Globs of files that count as its code.", "none", policy=True),
    Key("retry", "retry", "When a failed attempt is tried again.", "none", policy=True),
    Key("timeout", "span", "How long an attempt may take.", "none", policy=True),
    Key("grace", "duration", "How long an attempt may take to stop.", "10s", policy=True),
    Key("uses", "amounts", "How much of each limit it takes: {LIMIT: N}.", "none", policy=True),
    Key("priority", "number", "Greater starts first.", "0", policy=True),
    Key(
        "executor",
        "choice",
        "Where the action runs.",
        "async for an async def, thread for a def, shell for a command",
        policy=True,
        choices=("async", "thread", "process", "shell"),
        later_choices=("service", "dask"),
    ),
    _ENV,
    Key(
        "cwd",
        "path",
        "The folder in which the command runs.",
        "the pipeline's workdir",
        policy=True,
        fits=("text", "argv"),
    ),
    _SHELL,
    Key("foreach", "foreach", "Carry it out for each item of a list: an expression, or {over, key, …}.", "none"),
    Key("matrix", "matrix", "Carry it out for each combination: {AXIS: [value, …], include, exclude}.", "none"),
    Key("logs", "texts", "What the task says it will log.", "none", policy=True),
    Key("reconcile", "call", "A function that is asked what became of an attempt whose end is unknown."),
    Key("description", "text", "What it is for, in a sentence."),
    later="service pipeline wait approve trigger_rule when allow_failure repeat gate port ready restart "
    "keep lifetime stop owner notify secrets",
)

RETRY = _table(
    Key("attempts", "count", "How many tries in all, the first included.", required=True),
    Key("backoff", "choice", "How the wait grows.", "constant", choices=("constant", "linear", "exponential")),
    Key("delay", "duration", "The first wait.", "1s"),
    Key("max_delay", "duration", "The longest wait.", "none"),
    Key("jitter", "duration", "A random part added to each wait, up to this.", "0s"),
    Key("on", "failures", "Only after these: exception names, exit codes, timeout.", "any failure"),
    Key("never_on", "failures", "Never after these.", "none"),
    Key("max_elapsed", "span", "No try begins after this time.", "none"),
)

FOREACH = _table(
    Key("over", "list_or_expression", "The list, or an expression that gives it.", required=True),
    Key("key", "expression", "What an item is called by: an expression over `item` and `index`.", "its place"),
    Key("max_concurrency", "count", "How many items run at once.", "no bound of its own"),
    Key("min_success", "share", "Which share of the items is enough for those that need the task.", "1.0"),
    Key("fail_fast", "bool", "Whether a failure stops the other items.", "false"),
)

INPUT = _table(Key("path", "path", "The path or glob.", required=True))

OUTPUT = _table(
    Key("path", "path", "The path or glob.", required=True),
    Key("checkpoint", "bool", "Whether its content counts for freshness.", "true, unless another output says true"),
    Key("optional", "bool", "Whether it may be missing after success.", "false"),
    later="retention delete",
)

PARAM = _table(
    Key(
        "type",
        "choice",
        "What its values are.",
        "str",
        choices=("str", "int", "float", "bool", "path", "uri", "date", "datetime", "duration", "json", "list"),
    ),
    Key("default", "data", "Its value where none is given.", "null"),
    Key("required", "bool", "Whether every run has to give it.", "false"),
    Key("choices", "datas", "The values allowed.", "any"),
    Key("min", "number", "The least number.", "none"),
    Key("max", "number", "The greatest number.", "none"),
    Key("pattern", "text", "A regular expression that the whole text has to match.", "any"),
    Key("description", "text", "What it is for."),
)

LIMIT = _table(Key("capacity", "amount", "How much there is.", required=True), later="rate")

LOG = _table(
    Key("file", "log_file", "A file that gets the same lines; may hold `{{ task }}`.", "none"),
    Key("console", "choice", "Where lines go.", "stderr", choices=("stderr", "stdout")),
    Key("format", "choice", "How lines look.", "console", choices=("console", "json")),
    Key("level", "choice", "The least level shown.", "info", choices=("debug", "info", "warning", "error")),
)

POLICIES = {name: key for name, key in TASK.items() if key.policy}
