"""One run in the foreground of a command: its engine, its output, its signals, and its exit code."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio

from flowd.cli.outlets import Outlets, Wishes
from flowd.cli.prints import kept_stdout, routed
from flowd.cli.screen import Line
from flowd.cli.signals import INTERRUPTED, heard, leave_at_once
from flowd.cli.streams import is_terminal, tell
from flowd.cli.summary import summary
from flowd.core.errors import FlowdError
from flowd.core.spec import Definition, PipelineSpec
from flowd.core.views import WAITING, exit_code
from flowd.engine.handle import Result, Run
from flowd.wiring.build import Engine
from flowd.wiring.reading import reading

Begin = Callable[[Engine], Awaitable[Run]]


class Foreground:
    """Carries one run to where it can go by itself, and tells how it went.

    `flags` is what the commands named at the end need besides the run; `began` is what it began
    with, where that is not `spec`. On a terminal it asks what the run waits for.
    """

    def __init__(
        self,
        spec: PipelineSpec,
        folder: Path,
        state_dir: Path,
        wishes: Wishes,
        *,
        max_concurrency: int | None = None,
        flags: str = "",
        began: PipelineSpec | None = None,
    ) -> None:
        self.outlets = Outlets(spec, folder, wishes, began)
        self._wishes = wishes
        self._state_dir = state_dir
        self._most = max_concurrency
        self._flags = flags
        self._asks = not wishes.no_input and self.outlets.is_for_a_person and is_terminal(sys.stdin)
        self._run: Run | None = None
        self._stopping = False

    def carry_out(self, begin: Begin) -> int:
        """Begin (or go on), wait, print, and return the exit code. Raises what refused the run."""
        owned = self._wishes.as_json or self._wishes.events
        with kept_stdout(aside=owned) as self.outlets.results, routed(aside=owned):
            try:
                return anyio.run(self._main, begin)
            finally:
                self.outlets.close()

    async def _main(self, begin: Begin) -> int:
        began = time.monotonic()
        with reading(self._state_dir) as journal:

            def followers(run: str, folder: Path, _definition: Definition) -> Sequence[Any]:
                return self.outlets.followers(journal, run, folder)

            engine = Engine(
                self._state_dir,
                max_concurrency=self._most,
                on_exit="detach",
                grace="10s",
                followers=followers,
                patient=self._asks,
            )
            with heard(self._stop):
                async with engine:
                    self._run = run = await begin(engine)
                    if self._stopping:
                        run.interrupt()
                    result = await self._wait(engine, run)
            watch = self.outlets.look(journal, run.id)
            await watch.catch_up()
            if self._wishes.as_json:
                self.outlets.write_document(result.document)
            self._tell_end(result, time.monotonic() - began)
            if self.outlets.lost is not None:
                raise self.outlets.lost
            return INTERRUPTED if self._stopping and result.state == WAITING else exit_code(result.state)

    async def _wait(self, engine: Engine, run: Run) -> Result:
        """The result, with what runs drawn, and what it waits for asked, where somebody looks."""
        region, watch = self.outlets.region, self.outlets.watch
        if region is None and not self._asks:
            return await run.wait()
        failure: FlowdError | None = None
        async with anyio.create_task_group() as group:
            if region is not None:
                group.start_soon(region.draw, name="flowd terminal")
            if self._asks and watch is not None:
                from flowd.cli.prompting import Prompter

                terminal = (sys.stdin, self.outlets.transcript)
                prompter = Prompter(engine, run, watch, terminal, self.outlets.pause)
                group.start_soon(prompter.ask_all, name="flowd questions")
            try:
                result = await run.wait()
            except FlowdError as error:  # let it pass whole, not as a group
                failure = error
            group.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return result

    def _tell_end(self, result: Result, seconds: float) -> None:
        watch = self.outlets.watch
        assert watch is not None
        run = watch.state
        if not watch.told:  # it had ended before this command
            self.outlets.write([Line(watch.heading())])
            if run.started_at is not None and run.ended_at is not None:
                seconds = (run.ended_at - run.started_at).total_seconds()
        self.outlets.write(
            summary(run, result.state, seconds=seconds, now=datetime.now(UTC), ended=self._ended_at, flags=self._flags)
        )

    def _ended_at(self, run: str) -> datetime | None:
        """When another run last wrote to its journal."""
        try:
            touched = (self._state_dir / "runs" / run / "mark").stat().st_mtime
        except OSError:
            return None
        return datetime.fromtimestamp(touched, UTC)

    # --- signals -----------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """The first signal interrupts the run so that it can be resumed; the second leaves at once."""
        if self._stopping:
            if self.outlets.region is not None:
                self.outlets.region.stop()
            leave_at_once()
        self._stopping = True
        if self._run is not None and self._run.stop_services():
            tell("stopping the services; once more leaves at once")
            return
        tell("interrupting: what runs is being stopped; once more leaves at once")
        if self._run is not None:
            self._run.interrupt()
