"""One simulated history: lives of an engine one after the other, until nothing can go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any
from unittest.mock import patch

import anyio
import anyio.to_thread

from flowd.adapters.checkpoints import MemoryCheckpoints
from flowd.adapters.results import MemoryResults
from flowd.authoring.pipeline import Pipeline
from flowd.authoring.retry import Retry
from flowd.core import states as s
from flowd.core.errors import BadRequest, FlowdError, NoSuchRun
from flowd.core.fanout import item_name
from flowd.core.items import name_of, owner
from flowd.core.rules import RULES
from flowd.core.run import fold
from flowd.core.spec import task_map
from flowd.engine.handle import Result, Run
from flowd.testing.memory import MemoryEngine
from flowd.testing.simulation import promises
from flowd.testing.simulation.loop import VirtualClock, VirtualLoop, at_once
from flowd.testing.simulation.world import Script, ScriptedExecutor, ScriptedServices, Witness, World

RUN = "run"
MOST_DEATHS = 8
MOST_LIVES = 60
MOST_ITEMS = 4
SERVICES = 0.15
"""How many of the tasks are services."""


class History:
    """Everything that one seed decides, and the lives it leads to."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)  # noqa: S311  # a seed has to give the same history
        self.world = World(self.random)
        self.deaths = 0
        self._retries = 2
        self._checkpoints = MemoryCheckpoints()
        self._results = MemoryResults()
        self.pipeline = self._pipeline()
        scripts = {(name, n): self._script() for name in self._names() for n in range(8)}
        self._executors = {
            "async": ScriptedExecutor(self.world, scripts),
            "service": ScriptedServices(self.world, scripts),
        }

    def _names(self) -> list[str]:
        """All that may run: the tasks, and the items of those that have any."""
        tasks = self.pipeline.spec.tasks
        items = [item_name(task.name, str(key)) for task in tasks if task.foreach for key in range(MOST_ITEMS)]
        return [*(task.name for task in tasks), *items]

    def _pipeline(self) -> Pipeline:
        random = self.random
        pipeline = Pipeline("simulated", folder="/", limits={"db": 2}, max_concurrency=random.choice((None, 1, 2, 3)))

        async def body() -> None: ...

        for number in range(random.randint(1, 7)):
            earlier = [f"t{n}" for n in range(number)]
            wanted: dict[str, Any] = {
                "needs": random.sample(earlier, min(len(earlier), random.choice((0, 1, 1, 2)))),
                "idempotent": random.random() < 0.6,
                "priority": random.choice((None, 1)),
                "timeout": random.choice((None, None, "1s")),
                "uses": random.choice((None, {"db": 1}, {"db": 2})),
            }
            if wanted["needs"] and random.random() < 0.3:
                wanted["trigger_rule"] = random.choice(RULES)
            if wanted["needs"] and random.random() < 0.2:
                field = random.choice(("ok", "failed", "skipped"))
                wanted["when"] = f"tasks.{random.choice(wanted['needs'])}.{field}"
            wanted["allow_failure"] = random.choice((None, None, None, True, "error.type == 'RuntimeError'"))
            if random.random() < 0.5:
                backoff = random.choice(("constant", "linear", "exponential"))
                wanted["retry"] = Retry(attempts=random.randint(2, 3), backoff=backoff, delay="500ms")
            if random.random() < SERVICES:
                self._service(pipeline, f"t{number}", wanted)
                continue
            if random.random() < 0.3:
                silence = random.choice(("fail", "skip", "approve"))
                wanted["approve"] = random.choice(({}, {"timeout": "2s", "then": silence}))
                if random.random() < 0.4:
                    pipeline.approve(f"t{number}", needs=wanted["needs"], **wanted["approve"])
                    continue
            if random.random() < 0.3:
                bounds = random.choice(({}, {"max": 2}, {"timeout": "3s"}))
                until = random.choice(("round >= 2", "result >= 3", "result % 2 == 0"))
                wanted["repeat"] = {"until": until, "every": random.choice(("0s", "200ms", "1s")), **bounds}
            if random.random() < 0.3:
                wanted["foreach"] = {
                    "over": list(range(random.randint(0, MOST_ITEMS))),
                    "max_concurrency": random.choice((None, 1, 2)),
                    "min_success": random.choice((1.0, 1.0, 0.5, 0.0)),
                    "fail_fast": random.random() < 0.3,
                }
                wanted["foreach"] = {key: value for key, value in wanted["foreach"].items() if value is not None}
            pipeline.task(body, name=f"t{number}", **wanted)
        self._last_tasks(pipeline, body)
        return pipeline

    def _last_tasks(self, pipeline: Pipeline, body: Callable[[], Awaitable[None]]) -> None:
        """A wait, and a task under `finally`, perhaps."""
        random = self.random
        if random.random() < 0.3:
            needs = random.sample(list(pipeline.spec.tasks), 1)[0].name
            pipeline.wait("pause", random.choice(("0s", "300ms", "40s")), needs=needs)
        if random.random() < 0.3:
            when = random.choice((None, "run.failed", "run.state != 'cancelled'"))
            idempotent = random.random() < 0.6
            pipeline.task(body, name="last", finally_=True, idempotent=idempotent, when=when)

    def _service(self, pipeline: Pipeline, name: str, wanted: dict[str, Any]) -> None:
        """A service, which needs a bound: nobody would stop it."""
        random = self.random
        wanted = {key: value for key, value in wanted.items() if key not in {"timeout", "allow_failure"}}
        attempts = random.choice((0, 1, 3))
        restart = {"attempts": attempts, "delay": random.choice(("0s", "500ms"))}
        pipeline.service(name, "serve", restart=restart, lifetime=random.choice(("1s", "5s", "20s")), **wanted)

    def _script(self) -> Script:
        return Script(self.random.choice((0.0, 0.001, 0.1, 1.5)), self.random.random() < 0.75)

    # --- lives -----------------------------------------------------------------------------------

    def lead(self) -> None:
        """Live until the run has ended for good. Raises Broken where a promise was not kept."""
        for _ in range(MOST_LIVES):
            steps = None
            if self.deaths < MOST_DEATHS and self.random.random() < 0.8:
                steps = self.random.choice((self.random.randint(1, 60), self.random.randint(1, 400)))
            succeeded = self._succeeded()
            ended = self._live(steps)
            promises.after_a_life(self.world, self.pipeline.spec, RUN, succeeded)
            if ended:
                promises.at_the_end(self.world, self.pipeline.spec, RUN)
                return
        raise promises.Broken(f"the run did not come to an end in {MOST_LIVES} lives")

    def _succeeded(self) -> set[str]:
        """The tasks that are durably done; of a list with items that failed a retry may run all anew."""
        try:
            run = fold(RUN, self.pipeline.spec, self.world.envelopes(RUN))
        except NoSuchRun:
            return set()
        whole = run.state not in s.RUN_ENDED
        kept = s.OK - {s.PARTIAL}
        done = [n for n, task in enumerate(run.tasks) if task.ok and task.state != s.SERVING]
        if not whole:  # what is run again may need any service anew
            done = [n for n in done if owner(run, n) not in run.shape.services]
        found = [n for n in done if whole or run.tasks[owner(run, n)].state in kept]
        return {name_of(run, number) for number in found}

    def _live(self, steps: int | None) -> bool:
        self.world.begin_life(steps)
        loop = VirtualLoop(self.world.now, self.world.step)
        try:
            with patch.object(anyio.to_thread, "run_sync", at_once):
                return loop.run_until_complete(self._life())
        finally:
            self.world.now = loop.time()
            self.deaths += self.world.dead
            loop.close()

    async def _life(self) -> bool:
        """One engine, until it is killed or its run is still; whether the run has ended for good."""
        engine = MemoryEngine(
            journal=self.world.journal,
            checkpoints=self._checkpoints,
            results=self._results,
            clock=VirtualClock(),
            executors=self._executors,
            followers=lambda _run, _folder, _definition: [Witness(self.world)],
            on_exit="detach",
            grace="1s",
            patient=self.random.random() < 0.3,
        )
        ended = False
        with suppress(FlowdError):  # what a dead engine raises, nobody hears
            async with engine, anyio.create_task_group() as group:
                group.start_soon(self._until_dead, group.cancel_scope)
                run = await self._enter(engine)
                group.start_soon(self._meddle, run)
                group.start_soon(self._answer_meanwhile, engine)
                group.start_soon(self._leave, run)
                result = await run.wait()
                if not self.world.dead and RUN not in engine._here:  # noqa: SLF001  # else an answer has let it go on since
                    promises.replay_equals_live(self.world, self.pipeline.spec, RUN, result)
                    ended = result.state in s.RUN_ENDED and not self._wants_retry(result)
                group.cancel_scope.cancel()
        return ended and not self.world.dead

    async def _until_dead(self, scope: anyio.CancelScope) -> None:
        await self.world.death()
        scope.cancel()

    async def _enter(self, engine: MemoryEngine) -> Run:
        """Start the run, or go on with it as a person would who sees how it stands."""
        if not self._known():
            return await engine.start(self.pipeline, run_id=RUN)
        state = fold(RUN, self.pipeline.spec, self.world.envelopes(RUN))
        if state.state in s.RUN_ENDED:
            return await engine.retry(RUN, pipeline=self.pipeline)
        uncertain = [name_of(state, number) for number, task in enumerate(state.tasks) if task.state == s.UNCERTAIN]
        if uncertain and self.random.random() < 0.7:
            verdict = self.random.choice(("succeeded", "failed", "rerun"))
            with suppress(BadRequest):
                return await engine.resolve(RUN, self.random.choice(uncertain), verdict, pipeline=self.pipeline)
        asked = [name for name in state.shape.index if state.task(name).state == s.WAITING]
        if asked and self.random.random() < 0.7:
            with suppress(BadRequest):
                return await self._answer(engine, self.random.choice(asked))
        return await engine.start(self.pipeline, run_id=RUN)

    async def _answer(self, engine: MemoryEngine, task: str) -> Run:
        """Say yes or no, each time as somebody else; what was confirmed has to be there ever after."""
        who = f"person {len(self.world.answers)}"
        self.world.answers[who] = False
        if self.random.random() < 0.7:
            run = await engine.approve(RUN, task, by=who, pipeline=self.pipeline)
        else:
            back_to = self.random.choice(["", *task_map(self.pipeline.spec)[task].needs])
            run = await engine.reject(RUN, task, by=who, back_to=back_to, pipeline=self.pipeline)
        self.world.answers[who] = not self.world.dead
        return run

    def _known(self) -> bool:
        try:
            return bool(self.world.journal.kept(RUN).lines)
        except NoSuchRun:
            return False

    async def _meddle(self, run: Run) -> None:
        """What a person may do while the run goes on."""
        if self.random.random() < 0.8:
            return
        await anyio.sleep(self.random.choice((0.0, 0.05, 0.4, 1.2)))
        with suppress(FlowdError):
            await self.random.choice((run.cancel, run.pause))()

    async def _answer_meanwhile(self, engine: MemoryEngine) -> None:
        """A person who answers while the run goes on, perhaps too early, too late, or what nobody asked."""
        if self.random.random() < 0.5:
            return
        await anyio.sleep(self.random.choice((0.0, 0.05, 0.4, 2.0)))
        with suppress(FlowdError):
            await self._answer(engine, self.random.choice([task.name for task in self.pipeline.spec.tasks]))

    async def _leave(self, run: Run) -> None:
        """Nobody waits for ever for a person's answer."""
        await anyio.sleep(60)
        run.interrupt()

    def _wants_retry(self, result: Result) -> bool:
        if result.ok or self._retries == 0 or self.random.random() < 0.5:
            return False
        self._retries -= 1
        return True


def simulate(seed: int) -> History:
    """Lead the history of one seed to its end. Raises Broken, with the seed, where a promise was not kept."""
    history = History(seed)
    try:
        history.lead()
    except Exception as error:
        raise promises.Broken(f"seed {seed}: {type(error).__name__}: {error}") from error
    return history
