"""Whether a task whose turn has come is skipped by its `when`: asked before it waits for anything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from flowd.core import states as s
from flowd.core.events import Error
from flowd.core.expressions import ExpressionError
from flowd.core.fanout import judged_by_item
from flowd.core.run import RunState
from flowd.core.spec import TaskSpec
from flowd.core.stimuli import CouldNotBegin, WhenFalse
from flowd.engine.prepare import Resolver


class Conditions:
    """The conditions of one run's tasks.

    `known` gives the results that a task refers to, as far as they are at hand; None where one has to
    be read. `hide` takes secrets out of what is told.
    """

    def __init__(
        self,
        run: RunState,
        resolver: Resolver,
        known: Callable[[TaskSpec], Mapping[str, Any] | None],
        hide: Callable[[str], str],
    ) -> None:
        self._run = run
        self._resolver = resolver
        self._known = known
        self._hide = hide

    def judge(self, number: int, values: Mapping[str, Any] | None = None) -> WhenFalse | CouldNotBegin | None:
        """What a task's `when` makes of it where it keeps it from running.

        None where it holds, and where results that are not at hand, nor given in `values`, are to be
        read before it can be judged. One that has begun once is not judged again.
        """
        run, spec = self._run, self._run.shape.specs[number]
        if spec.when is None or run.tasks[number].tried_at is not None:
            return None
        if judged_by_item(spec.when) and (number < run.declared or not self._resolver.knows(spec)):
            return None
        if values is None:
            values = self._known(spec)
        if values is None:
            return None
        try:
            reason = self._resolver.when_false(spec, values)
        except ExpressionError as error:
            told = Error(type=type(error).__name__, message=self._hide(str(error)))
            return CouldNotBegin(spec.name, told, allowed=spec.allow_failure is True)
        if reason is None:
            return None
        return WhenFalse(spec.name, msgspec.structs.replace(reason, sentence=self._hide(reason.sentence)))

    def judge_now(self, number: int) -> WhenFalse | None:
        """That a task's `when` does not hold, where all that it needs has ended."""
        run = self._run
        if run.missing[number] or any(run.tasks[need].state not in s.ENDED for need in run.shape.needs[number]):
            return None
        verdict = self.judge(number)
        return verdict if isinstance(verdict, WhenFalse) else None

    def take_ready(self, tell: Callable[[WhenFalse | CouldNotBegin], object]) -> list[int]:
        """What has become startable; what its `when` skips is told, is no more, and may make others so."""
        found = []
        while self._run.state == s.RUN_RUNNING and (ready := self._run.take_ready()):
            for number in ready:
                verdict = self.judge(number)
                if verdict is None:
                    found.append(number)
                else:
                    tell(verdict)
        return found
