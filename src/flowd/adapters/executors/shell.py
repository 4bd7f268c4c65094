"""Runs commands in processes of their own, through the guardian."""

from __future__ import annotations

import re
import signal
from functools import partial
from pathlib import Path
from typing import Any, Self

import anyio
import anyio.to_thread

from flowd.adapters.executors.failure import cut
from flowd.adapters.executors.guardian import Command, Guardian, ProcessReport
from flowd.adapters.executors.reports import BadReport, Places, Reports
from flowd.core.events import Error
from flowd.ports.executor import Abandoned, Channel, CommandFailed, EndUnknown, Work

LOOK_EVERY = 0.5
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_NOT_FOUND = re.compile(r"(?:^|: )([^\s:]+): (?:command )?not found$")


class ExitedBadly(CommandFailed):
    """A process ended with another exit code than 0, or by a signal; `report` tells all of it."""

    def __init__(self, error: Error, report: ProcessReport) -> None:
        super().__init__(error)
        self.report = report


class ShellExecutor:
    """Runs `work.argv` and gives the JSON result that the command may have left."""

    def __init__(self, guardian: Guardian) -> None:
        self._guardian = guardian
        self._files = anyio.CapacityLimiter(4)
        self._places = Places(guardian.incarnation)

    async def __aenter__(self) -> Self:
        """The guardian is opened and closed by whoever owns it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """The guardian is opened and closed by whoever owns it."""

    async def run(self, work: Work, channel: Channel) -> object:
        """Run the command to its end; None where it left no result.

        Raises CommandFailed with `report` where it ended badly, BadReport where a line of its
        metrics or its result means nothing. Ends everything it began if cancelled.
        """
        place = self._places.take()
        reports = Reports(*self._places.paths(place, work), channel)
        work.env = {**work.env, **reports.env}
        may_write = False
        try:
            return await self._run(work, channel, reports)
        except (Abandoned, EndUnknown):
            may_write = True
            raise
        finally:
            if work.redactions:  # the command wrote them itself, secrets and all
                with anyio.CancelScope(shield=True):
                    await self._in_thread(reports.remove)
            if not may_write:
                self._places.give_back(place)

    async def _run(self, work: Work, channel: Channel, reports: Reports) -> object:
        command = command_of(work, work.argv, files=reports.files)
        report: ProcessReport | None = None
        try:
            report = await self._guardian.run(
                command,
                grace=lambda: work.grace.total_seconds(),  # noqa: PLW0108  # it may be shorter by then
                every=LOOK_EVERY,
                look=partial(self._in_thread, reports.look),
                ended=channel.ended,
            )
        finally:
            if report is None or any(report.written):
                with anyio.CancelScope(shield=True):
                    await self._in_thread(partial(reports.look, at_end=True))
        remark(report, channel)
        if report.exit_code != 0:
            raise ExitedBadly(error_of(report), report)
        if reports.problem is not None:
            raise BadReport(reports.problem)
        return await self._in_thread(reports.result) if any(report.written) else None

    async def _in_thread(self, call: Any) -> Any:
        return await anyio.to_thread.run_sync(call, limiter=self._files)


def command_of(
    work: Work, argv: tuple[str, ...], descriptors: tuple[int, ...] = (), files: tuple[Path, ...] = ()
) -> Command:
    """The command that carries out `work` as `argv`."""
    service = work.task.service
    return Command(
        argv=argv,
        cwd=work.cwd,
        log=work.log,
        env=work.env,
        grace=work.grace.total_seconds(),
        descriptors=descriptors,
        redactions=work.redactions,
        files=files,
        began=work.began,
        signal=signal.SIGTERM if service is None else signal.Signals[f"SIG{service.stop.signal}"],
    )


def remark(report: ProcessReport, channel: Channel) -> None:
    """Say what a person should know about an end, whether it was good or bad."""
    if report.leftovers:
        channel.log("warning", "processes that the task left behind were ended", {"processes": report.leftovers})
    if report.dropped:
        fields = {"bytes": report.dropped, "reason": report.log_error or "over the cap"}
        channel.log("warning", "some output is not in the task's log file", fields)


def outcome(report: ProcessReport) -> str:
    """How a process ended, in a few words and its last line."""
    how = f"killed by {report.signal}" if report.signal else f"exit code {report.exit_code}"
    if report.oom:
        how += f" (out of memory; it had used {report.peak_rss / 2**20:.0f} MiB)"
    said = "".join(sign if sign.isprintable() else "·" for sign in _COLOUR.sub("", report.last_line))
    return f"{how}: {cut(said, 500)}" if said else how


def error_of(report: ProcessReport) -> Error:
    """What a command that ended badly has for an error."""
    message = outcome(report)
    if report.exit_code == 127 and (found := _NOT_FOUND.search(report.last_line)):
        message = f"command not found: {found[1]} (exit code 127)"
    return Error(type="CommandFailed", message=message, exit_code=report.exit_code, signal=report.signal)
