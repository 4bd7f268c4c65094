"""The table of commands: help needs nothing more, and a command's module is imported when it is called."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

import click


class Entry(NamedTuple):
    """Where a command lives, and its one line of help."""

    room: str
    function: str
    help: str


TABLE = {
    "run": Entry("run", "run", "Run a pipeline, or some tasks of it and what they need."),
    "validate": Entry("check", "validate", "Check pipelines and name every problem."),
    "plan": Entry("check", "plan", "Say what a run would do with each task, and why; write nothing."),
    "graph": Entry("graph", "graph", "Draw a pipeline as text, Mermaid or DOT."),
    "list": Entry("reads", "list_", "List the pipelines found here."),
    "resume": Entry("again", "resume", "Go on with a run after a crash, an interruption or a pause."),
    "retry": Entry("again", "retry", "Run tasks of a run again: those that failed, or those named."),
    "resolve": Entry("answer", "resolve", "Say what became of a task whose end is unknown."),
    "approve": Entry("answer", "approve", "Say yes to a task that waits for an answer; the run goes on."),
    "reject": Entry("answer", "reject", "Say no to a task that waits for an answer."),
    "pause": Entry("pause", "pause", "Start nothing new in a run until it is resumed."),
    "cancel": Entry("change", "cancel", "Stop a run for good."),
    "runs": Entry("reads", "runs", "List runs, the newest first."),
    "show": Entry("reads", "show", "Show a run: its tasks, attempts, errors and outputs."),
    "why": Entry("why", "why", "Say why a task ended as it did, or what it waits for and who has that."),
    "events": Entry("reads", "events", "Print what happened in a run, event by event."),
    "logs": Entry("reads", "logs", "Print what a run's tasks wrote."),
    "crashtest": Entry("crash", "crashtest", "Kill a pipeline at every durable boundary and compare the ends."),
    "doctor": Entry("doctor", "doctor", "Look the state directory over: what is wrong, and what to do about it."),
    "stop": Entry("services", "stop", "Stop a service of a run."),
    "services": Entry("services", "services", "List the services that run here, stop one, or print what it said."),
    "serve": Entry("serve", "serve", "Run pipelines by themselves, by the clock and other triggers."),
    "daemon": Entry("daemon", "daemon", "Look at the daemon of a state directory, or stop it."),
    "schedule": Entry("schedule", "schedule", "List schedules, say when one is due, pause or resume one."),
    "backfill": Entry("backfill", "backfill", "Run a pipeline for the past times of its schedule."),
    "token": Entry("token", "token", "Make, list and revoke the tokens of the daemon's API."),
    "limits": Entry("capacity", "limits", "Show each limit: its use, its holders and who waits."),
    "prune": Entry("prune", "prune", "Remove the runs and results that are kept no longer."),
    "touch": Entry("change", "touch", "Mark tasks as fresh, as their outputs stand now."),
    "forget": Entry("change", "forget", "Drop tasks' checkpoints, so that they run again."),
}


class Commands(click.Group):
    """A group that knows its commands by a table."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """The commands, in the table's order."""
        return list(TABLE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's
        """A command, imported now."""
        entry = TABLE.get(cmd_name)
        if entry is None:
            return None
        found = getattr(import_module(f"flowd.cli.{entry.room}"), entry.function)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a suggestion for a word that is no command."""
        if args and args[0] not in TABLE and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], TABLE, 1)
            hint = f"did you mean {close[0]}?" if close else "see flowd --help"
            ctx.fail(f"there is no command {args[0]}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        """The table as help, with no command imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in TABLE.items()])


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="FILE is a YAML file, file.py[:name] or module:name. RUN is an id, a unique beginning of one, or last.",
)
@click.version_option(package_name="flowd", message="flowd %(version)s")
def flowd() -> None:
    """Run pipelines: concurrently, and never forgetting what happened."""
