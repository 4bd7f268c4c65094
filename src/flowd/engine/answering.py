"""What a person answers through an engine: what became of a task, and whether one may go on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from flowd.authoring.pipeline import Pipeline
from flowd.engine import approving, resolving
from flowd.engine.driver import Driver
from flowd.engine.entering import adoption
from flowd.engine.fleet import Fleet
from flowd.engine.handle import Run
from flowd.engine.services import Adapters


class Answers(ABC):
    """The part of an engine that takes a person's answers.

    A run that nobody owns is adopted and goes on, unless `go_on` is false; StateLocked names a
    living owner elsewhere. Each returns once the answer is durable.
    """

    @property
    @abstractmethod
    def _here(self) -> Fleet:
        """The runs that go on here."""

    @abstractmethod
    def _adapters(self) -> Adapters:
        """What the engine is wired to."""

    async def resolve(
        self,
        run_id: str,
        task: str,
        verdict: str,
        *,
        result: Any = None,
        by: str = "",
        pipeline: Pipeline | None = None,
        go_on: bool = True,
    ) -> Run:
        """Say what became of an uncertain task, `succeeded` (with its `result`), `failed` or `rerun`.

        Raises BadRequest where the task is not uncertain, or did not leave what it declares.
        """

        async def ask(driver: Driver) -> None:
            await resolving.resolve(driver, task, verdict, by=by, value=result)
            await driver.recorded()

        return await self._answer(run_id, ask, pipeline, go_on=go_on)

    async def approve(
        self,
        run_id: str,
        task: str,
        *,
        comment: str = "",
        values: Mapping[str, Any] | None = None,
        by: str = "",
        pipeline: Pipeline | None = None,
        go_on: bool = True,
    ) -> Run:
        """Say yes to a task that waits for it; `values` are the fields of its form, `by` says who.

        Raises BadRequest where it waits for no answer, or what was shown has changed since;
        BadParameters for fields that are missing or wrong.
        """

        async def ask(driver: Driver) -> None:
            await approving.approve(driver, task, comment=comment, values=values or {}, by=by)

        return await self._answer(run_id, ask, pipeline, go_on=go_on)

    async def reject(
        self,
        run_id: str,
        task: str,
        *,
        comment: str = "",
        by: str = "",
        back_to: str = "",
        pipeline: Pipeline | None = None,
        go_on: bool = True,
    ) -> Run:
        """Say no to a task that waits for an answer: it has failed, and is not tried again.

        With `back_to` the run is done again from that task on, which has the comment in scope, and
        the question is asked anew. Raises BadRequest where it waits for no answer, or does not need that task.
        """

        async def ask(driver: Driver) -> None:
            await approving.reject(driver, task, comment=comment, by=by, back_to=back_to)

        return await self._answer(run_id, ask, pipeline, go_on=go_on)

    async def _answer(
        self, run_id: str, ask: Callable[[Driver], Awaitable[None]], pipeline: Pipeline | None, *, go_on: bool
    ) -> Run:
        driver = await self._here.awake(run_id)
        if driver is None:
            enter = adoption(self._adapters(), run_id, pipeline=pipeline, ask=ask, go_on=go_on)
            return await self._here.launch(run_id, enter)
        handle = self._here.handle(run_id)
        with driver.approvals.staying():
            await ask(driver)
        return handle
