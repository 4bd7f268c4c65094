"""The file format as one table: every key, what it holds, its default and what it means.

The reader of values, the hints for misspelt keys and what may stand under `defaults` all come
from here. A key that is `later` belongs to the format and is refused by name until it has its
meaning, never ignored.
"""

from __future__ import annotations

import re

import msgspec

from flowd.core.rules import RULES

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
NAME_RULE = "letters, digits, `_`, `.` and `-`, beginning with a letter or `_`, at most 100"


HAPPENINGS = ("failed", "succeeded", "recovered", "waiting", "late", "warning")


class Key(msgspec.Struct, frozen=True):
    """One key: `kind` names the reader of its value; `policy` says that `defaults` may hold it.

    `fits` are the actions beside which the key has a meaning; empty: all of them.
    `choices` are the words allowed, `later_choices` those that will be. One that is `inactive` is
    read and checked whole, and nothing acts on it yet.
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
    inactive: bool = False


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
    Key("secrets", "secrets", "Secrets by name: NAME: {env | file | command: [argv] | keyring}.", "none"),
    Key("max_concurrency", "count", "How many tasks run at once.", "the engine's"),
    Key("limits", "limits", "Named capacities that tasks share: NAME: N, or {capacity: N, rate: 10/minute}."),
    Key("defaults", "defaults", "Policies of every task that does not say otherwise."),
    Key("deadline", "span", "How long a run may take in all.", "none"),
    Key("fail_fast", "bool", "Whether the first task that fails ends the run, with all that runs.", "false"),
    Key(
        "stop_after_failures", "count", "After so many failed attempts nothing more starts: the run is paused.", "none"
    ),
    Key("grace", "duration", "How long an attempt of any task may take to stop.", "10s"),
    msgspec.structs.replace(_ENV, policy=False),
    msgspec.structs.replace(_SHELL, policy=False, fits=()),
    Key("workdir", "path", "The folder in which commands run.", "the file's folder"),
    Key("log", "log", "Where log lines go besides the run's own file."),
    Key("owners", "owners", "Who answers for tasks: OWNER: {notify: [URL]}.", "none"),
    Key("notify", "notify", "Who is told of what: [{on: [failed], to: URL, owner or OWNER}].", "none"),
    Key(
        "schedule",
        "schedule",
        "When runs are due: one or a list of {cron or every, timezone, …}.",
        "none",
    ),
    Key("trigger", "trigger", "What else starts a run: [{file, webhook or after, …}].", "none"),
    Key("group", "group", "Runs of one key never overlap: {key, overlap}.", "none", inactive=True),
    Key("expect", "expect", "When a run is late: {within} or {done_by, timezone}.", "none"),
    Key("retention", "retention", "What is kept of runs: {runs, age, size}.", "100 runs"),
    Key("result", "text_or_expression", "What it gives as a task of another pipeline: EXPR.", "none"),
    Key("tasks", "tasks", "The tasks by name.", required=True),
    Key("finally", "tasks", "Tasks that run once all others have ended, however they did.", "none"),
    Key("targets", "targets", "Tasks that are run together, by a name: NAME: [tasks].", "none"),
    Key("include", "includes", "Files whose keys are shared with this one, which wins: [FILE].", "none"),
)

TASK = _table(
    Key("call", "call", "A function to call: `module:function`, from a module beside the file."),
    Key("run", "command", "A command: a text for the shell, or [program, argument, …] without one."),
    Key("pipeline", "pipeline", "Another pipeline to run, with `with` as its parameters: FILE, or NAME."),
    Key("service", "service", "A command that goes on, once it serves: as `run`, or {call: module:function}."),
    Key("wait", "wait", "A time to wait, instead of an action: DURATION, or {until: TIME, timezone}."),
    Key("needs", "needs", "The tasks that come before: a list, or one name.", "none"),
    Key(
        "trigger_rule",
        "choice",
        "How its needs have to end for it to run.",
        "all_succeeded",
        choices=RULES,
    ),
    Key("when", "condition", "An expression: where it is false, the task is skipped.", "true"),
    Key(
        "allow_failure",
        "allowed",
        "Whether it may fail: true, an expression, or [exit codes].",
        "false",
        policy=True,
    ),
    Key("with", "values", "The function's, or the pipeline's, parameters by name.", "none", fits=("call", "pipeline")),
    Key("inputs", "inputs", "Paths that are read, relative to the file's folder.", "none"),
    Key("outputs", "outputs", "Paths or globs that are written: PATH, or {path, checkpoint, optional}.", "none"),
    Key("idempotent", "bool", "Whether running it twice is as good as once.", "true", policy=True),
    Key("cache", "bool", "Whether it may be fresh.", "true where outputs are declared, else false", policy=True),
    Key("fresh_for", "span", "How long it stays fresh.", "for ever", policy=True),
    Key("code", "paths", "Globs of files that count as its code.", "none", policy=True),
    Key("retry", "retry", "When a failed attempt is tried again.", "none", policy=True),
    Key(
        "repeat",
        "repeat",
        "Carry it out again and again until something holds: {until: EXPR, every, timeout, max}.",
        "once",
        fits=("call", "text", "argv"),
    ),
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
        choices=("async", "thread", "process", "shell", "service"),
        later_choices=("dask",),
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
    Key("gate", "gates", "What has to hold of its metrics and result: [EXPR or {check, severity, name}].", "none"),
    Key("approve", "approve", "A person's answer that its start waits for; alone, all of the task.", "none"),
    Key("reconcile", "call", "A function that is asked what became of an attempt whose end is unknown."),
    Key("owner", "owner", "Who answers for it: a name of `owners`.", "none", policy=True),
    Key("description", "text", "What it is for, in a sentence."),
    Key("port", "port", "The port of a service: a number, or auto; `{{ port }}`.", "none", fits=("service",)),
    Key(
        "ready",
        "ready",
        "When a service serves: {http | tcp | file | log | command, every, timeout, marker}.",
        "its port answers",
        fits=("service",),
    ),
    Key(
        "restart",
        "restart",
        "How often a service is begun again that ends by itself: {attempts, backoff, delay}.",
        "never",
        fits=("service",),
    ),
    Key(
        "keep",
        "choice",
        "How long a service goes on: as tasks below need it, with the run, or always: for the daemon.",
        "needed with tasks below, else run",
        fits=("service",),
        choices=("needed", "run", "always"),
    ),
    Key("lifetime", "lifetime", "How long a service serves; may hold `{{ }}`.", "no bound", fits=("service",)),
    Key("stop", "stop", "How a service is stopped: {signal, grace}.", "TERM, and the grace", fits=("service",)),
)

READY = _table(
    Key("http", "text", "A path on its port, or a URL, that answers with less than 400."),
    Key("tcp", "tcp", "A port that takes connections; true: its own."),
    Key("file", "path", "A file that it writes."),
    Key("log", "pattern", "A regular expression that something it prints fits."),
    Key("command", "command", "A command that ends with 0."),
    Key("every", "positive", "How often it is asked.", "500ms"),
    Key("timeout", "positive", "How long it may take to be ready.", "30s"),
    Key("marker", "path", "A file that stands while it serves: {url, pid, since}.", "none"),
)

RESTART = _table(
    Key("attempts", "natural", "How often it is begun again.", "0"),
    Key("backoff", "choice", "How the wait grows.", "constant", choices=("constant", "linear", "exponential")),
    Key("delay", "duration", "The first wait.", "1s"),
    Key("max_delay", "duration", "The longest wait.", "none"),
)

STOP = _table(
    Key("signal", "choice", "What asks it to end.", "TERM", choices=("TERM", "INT", "QUIT", "HUP", "USR1", "USR2")),
    Key("grace", "duration", "How long it may take to stop.", "the task's"),
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
    Key("retention", "positive", "How long it stays, where it is to be deleted then.", "for ever"),
    Key("delete", "bool", "Whether the file itself goes after its retention.", "false"),
)

GATE = _table(
    Key("check", "text", "The expression that has to hold.", required=True),
    Key("severity", "choice", "Whether the task fails, or is warned of.", "error", choices=("error", "warn")),
    Key("name", "text", "What it is called where it fails.", "its expression"),
)

APPROVE = _table(
    Key("message", "text", "What is asked; may hold `{{ }}`.", "Go on with TASK?"),
    Key("by", "askers", "Who is meant to answer.", "anybody"),
    Key("form", "form", "Fields to fill in: FIELD: a bare default, or {type, default, required, choices, …}.", "none"),
    Key("show", "paths", "Files that the answer stands for: it lapses if they change.", "none"),
    Key("timeout", "span", "How long it waits for an answer.", "for ever"),
    Key("then", "choice", "What becomes of it after that.", "fail", choices=("fail", "skip", "approve")),
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
    Key("min", "data", "The least number, date, time or duration.", "none"),
    Key("max", "data", "The greatest number, date, time or duration.", "none"),
    Key("pattern", "text", "A regular expression that the whole text has to match.", "any"),
    Key("description", "text", "What it is for."),
)

SECRET = _table(
    Key("env", "literal", "The environment variable that holds it."),
    Key("file", "literal", "The file that holds it, and nothing else."),
    Key("command", "argv", "The program that prints it: [program, argument, …]."),
    Key("keyring", "literal", "The service under which the system's keyring has it."),
    Key("user", "literal", "Whose it is in the keyring.", "the secret's name"),
)

OWNER = _table(Key("notify", "addresses", "The URLs at which they are told.", required=True))

NOTIFY = _table(
    Key("on", "happenings", "What is told.", required=True, choices=HAPPENINGS),
    Key("to", "addressees", "Who is told: a URL, `owner`, an owner's name, or a list of these.", required=True),
)

SCHEDULE = _table(
    Key("name", "name", "What it is called.", "the pipeline's name"),
    Key("cron", "cron", "Minute, hour, day, month and weekday."),
    Key("every", "interval", "How often, in real time."),
    Key("timezone", "timezone", "The time zone of `cron`.", "UTC"),
    Key("tasks", "needs", "The tasks that are run, with what they need.", "all"),
    Key("params", "values", "Parameters of these runs.", "their defaults"),
    Key("misfire", "misfire", "What becomes of missed times.", "latest", choices=("skip", "latest", "all")),
    Key(
        "overlap",
        "overlap",
        "What becomes of a time at which a run goes on.",
        "skip",
        choices=("skip", "allow", "cancel_old", "queue"),
    ),
    Key("dst", "dst", "Times that a change of the clock leaves out, or gives twice: {gap, fold}."),
)

DST = _table(
    Key("gap", "choice", "A time that a day lacks.", "shift", choices=("shift", "skip")),
    Key("fold", "choice", "A time that a day has twice.", "first", choices=("first", "second", "both")),
)

TRIGGER = _table(
    Key("file", "untemplated", "A path or glob, relative to the file's folder."),
    Key("settle", "duration", "How long the file was left alone before the run starts.", "1s"),
    Key("webhook", "name", "The last part of its address."),
    Key("secret", "secret", "What the caller signs with: `{{ secrets.NAME }}`.", "none"),
    Key("after", "name", "The pipeline whose end starts a run."),
    Key("on", "happenings", "How it ended.", "[succeeded]", choices=("succeeded", "failed", "partial", "cancelled")),
)

GROUP = _table(
    Key("key", "template", "What the runs have in common: `{{ params.region }}`.", required=True),
    Key("overlap", "overlap", "What becomes of a newer run.", "{queue: 1}", choices=("skip", "cancel_old", "queue")),
)

EXPECT = _table(
    Key("within", "positive", "How long a run may take before it is late."),
    Key("done_by", "time_of_day", "The time of day by which it is done: HH:MM."),
    Key("timezone", "timezone", "The time zone of `done_by`.", "UTC"),
)

RETENTION = _table(
    Key("runs", "count", "How many runs are kept."),
    Key("age", "positive", "How long they are kept."),
    Key("size", "size", "How many bytes they may take: 500MB, 10GB."),
)

REPEAT = _table(
    Key("until", "condition", "An expression over its `result`, `exit_code` and `round`.", required=True),
    Key("every", "duration", "How long after a round the next one begins.", "1s"),
    Key("timeout", "span", "How long all rounds may take.", "none"),
    Key("max", "count", "How many rounds there may be.", "no bound"),
)

WAIT = _table(
    Key("until", "moment", "The next HH:MM, or a date and time: 2026-12-24T18:00.", required=True),
    Key("timezone", "timezone", "The time zone of `until`.", "UTC"),
)

LIMIT = _table(
    Key("capacity", "amount", "How much there is.", "no bound"),
    Key("rate", "rate", "How often something may start: 10/minute; also per second, hour, day, or a duration.", "any"),
)

LOG = _table(
    Key("file", "log_file", "A file that gets the same lines; may hold `{{ task }}` and `{{ run.id }}`.", "none"),
    Key("console", "choice", "Where lines go.", "stderr", choices=("stderr", "stdout")),
    Key("format", "choice", "How lines look.", "console", choices=("console", "json")),
    Key("level", "choice", "The least level shown.", "info", choices=("debug", "info", "warning", "error")),
)

POLICIES = {name: key for name, key in TASK.items() if key.policy}
